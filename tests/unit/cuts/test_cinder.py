# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Which volume snapshots are seen complete, and when."""

import threading
import time
import unittest
from unittest import mock

from nova_quiesce.cuts import cinder
from tests.unit.freeze import test_windows


class SnapshotPollTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self._set_pause(0.005)
        self.states = {'s1': 'creating', 's2': 'creating'}
        self.asked: list[str] = []
        self.completed = threading.Event()
        self.watch = cinder.SnapshotPoll(self._ask)
        self.addCleanup(self.watch.stop)
        self.looked = threading.Semaphore(0)

    def _set_pause(self, pause: float) -> None:
        self.enterContext(mock.patch.object(cinder, 'PAUSE', pause))

    def _ask(self, snapshot_id: str) -> str:
        self.asked.append(snapshot_id)
        self.looked.release()
        return self.states[snapshot_id]

    def _start(self) -> None:
        self.watch.start(self.completed.set)
        self.watch.expect(('s1', 's2'))

    def _wait_for_a_look(self) -> None:
        # One may be under way.
        while self.looked.acquire(blocking=False):
            pass
        for _ in range(4):
            self.assertTrue(self.looked.acquire(timeout=test_windows.SOON))

    def _seen(self) -> frozenset[str]:
        return self.watch.seen_until(time.monotonic())

    def test_complete_with_the_last_one(self) -> None:
        self._start()
        self.states['s1'] = 'available'
        self._wait_for_a_look()
        self.assertFalse(self.completed.is_set())
        self.states['s2'] = 'available'
        self.assertTrue(self.completed.wait(test_windows.SOON))
        self.assertEqual({'s1', 's2'}, self._seen())

    def test_nobody_is_asked_before_it_is_known_for_what(self) -> None:
        self.watch.start(self.completed.set)
        self.watch.look_again(test_windows.SOON)
        self.assertFalse(self.completed.wait(0.05))
        self.assertEqual([], self.asked)

    def test_nobody_is_asked_for_what_is_complete(self) -> None:
        self._start()
        self.states['s1'] = 'available'
        self._wait_for_a_look()
        del self.asked[:]
        self._wait_for_a_look()
        self.assertEqual({'s2'}, set(self.asked))

    def test_one_is_asked_for_after_the_other(self) -> None:
        self._start()
        self._wait_for_a_look()
        self.assertEqual({'s1'}, set(self.asked))

    def test_first_look_comes_with_the_list(self) -> None:
        self._set_pause(test_windows.SOON)
        self.states.update(s1='available', s2='available')
        self._start()
        self.assertTrue(self.completed.wait(test_windows.SOON / 2))

    def test_failed_one_ends_the_wait_and_is_not_proven(self) -> None:
        self.states.update(s1='error', s2='available')
        self._start()
        self.assertTrue(self.completed.wait(test_windows.SOON))
        self.assertEqual({'s2'}, self._seen())

    def test_what_is_cut_here_is_not_asked_for(self) -> None:
        self._set_pause(test_windows.SOON)
        self.watch.note_cut('s1')
        self.states['s2'] = 'available'
        self._start()
        self.assertTrue(self.completed.wait(test_windows.SOON / 2))
        self.assertEqual(['s2'], self.asked)
        self.assertEqual({'s1', 's2'}, self._seen())

    def test_cut_that_is_noted_ends_the_wait(self) -> None:
        self._set_pause(test_windows.SOON)
        self.states['s1'] = 'available'
        self._start()
        self._wait_for_first_look()
        self.watch.note_cut('s2')
        self.assertTrue(self.completed.wait(test_windows.SOON / 2))

    def test_what_is_seen_later_does_not_count(self) -> None:
        self._start()
        moment = time.monotonic()
        self.states.update(s1='available', s2='available')
        self.assertTrue(self.completed.wait(test_windows.SOON))
        self.assertEqual(frozenset(), self.watch.seen_until(moment))

    def test_cinder_that_fails_meanwhile(self) -> None:
        usual, self.states = self.states, {}
        self._start()
        self.assertFalse(self.completed.wait(0.05))
        usual.update(s1='available', s2='available')
        self.states = usual
        self.assertTrue(self.completed.wait(test_windows.SOON))

    def test_last_look(self) -> None:
        self._set_pause(test_windows.SOON)
        self._start()
        self._wait_for_first_look()
        self.states['s1'] = 'available'
        self.watch.look_again(test_windows.SOON)
        self.assertEqual({'s1'}, self._seen())
        self.assertFalse(self.completed.is_set())

    def _wait_for_first_look(self) -> None:
        self.assertTrue(self.looked.acquire(timeout=test_windows.SOON))

    def test_last_look_at_what_is_complete(self) -> None:
        self.states.update(s1='available', s2='available')
        self._start()
        self.assertTrue(self.completed.wait(test_windows.SOON))
        self.watch.look_again(test_windows.SOON)

    def test_last_look_that_fails(self) -> None:
        self.states = {}
        self._start()
        self.watch.look_again(test_windows.SOON)
        self.assertEqual(frozenset(), self._seen())

    def test_stop(self) -> None:
        self._start()
        self.watch.stop()
        for thread in threading.enumerate():
            if thread.name == 'watch-volume-snapshots':
                thread.join(test_windows.SOON)
        self.states.update(s1='available', s2='available')
        self.assertFalse(self.completed.wait(0.05))
