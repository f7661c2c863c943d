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

from nova_quiesce.cuts import volumes
from tests.unit import test_window


class SnapshotWatchTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self._set_pauses(0.005, 0.005)
        self.states: dict[str, dict[str, str]] = {
            'v1': {'old': 'available'}, 'v2': {}}
        self.completed = threading.Event()
        self.watch = volumes.SnapshotWatch(self._ask, ('v1', 'v2'))
        self.addCleanup(self.watch.stop)
        self.looked = threading.Semaphore(0)

    def _set_pauses(self, early: float, close: float) -> None:
        for name, pause in ('EARLY', early), ('CLOSE', close):
            self.enterContext(mock.patch.object(volumes, name, pause))

    def _ask(self, volume_id: str) -> dict[str, str]:
        if volume_id == 'v2':
            self.looked.release()
        return dict(self.states[volume_id])

    def _start(self) -> None:
        self.watch.begin()
        self.watch.start(self.completed.set)

    def _wait_for_a_look(self) -> None:
        # One may be under way.
        while self.looked.acquire(blocking=False):
            pass
        for _ in range(2):
            self.assertTrue(self.looked.acquire(timeout=test_window.SOON))

    def test_complete_with_the_last_one(self) -> None:
        self._start()
        self.states['v1']['s1'] = 'available'
        self._wait_for_a_look()
        self.states['v2']['s2'] = 'creating'
        self._wait_for_a_look()
        self.assertFalse(self.completed.is_set())
        self.states['v2']['s2'] = 'available'
        self.assertTrue(self.completed.wait(test_window.SOON))
        self.assertEqual({'s1', 's2'},
                         self.watch.seen_until(time.monotonic()))

    def test_closer_looks_once_one_is_being_made(self) -> None:
        self._set_pauses(test_window.SOON, 0.005)
        self._start()
        self.states['v1']['s1'] = 'creating'
        self.watch.look_again(test_window.SOON)
        self.states['v1']['s1'] = self.states['v2']['s2'] = 'available'
        self.assertTrue(self.completed.wait(test_window.SOON / 2))

    def test_what_was_there_before_does_not_count(self) -> None:
        self._start()
        self._wait_for_a_look()
        self.assertEqual({'old'}, self.watch.earlier)
        self.assertFalse(self.completed.is_set())
        self.assertEqual(frozenset(), self.watch.seen_until(time.monotonic()))

    def test_failed_one_ends_the_wait_and_is_not_proven(self) -> None:
        self._start()
        self.states['v1']['s1'] = 'error'
        self.states['v2']['s2'] = 'available'
        self.assertTrue(self.completed.wait(test_window.SOON))
        self.assertEqual({'s2'}, self.watch.seen_until(time.monotonic()))

    def test_what_is_seen_later_does_not_count(self) -> None:
        self._start()
        moment = time.monotonic()
        self.states['v1']['s1'] = 'available'
        self.states['v2']['s2'] = 'available'
        self.assertTrue(self.completed.wait(test_window.SOON))
        self.assertEqual(frozenset(), self.watch.seen_until(moment))

    def test_cinder_that_fails_meanwhile(self) -> None:
        self._start()
        usual, self.states = self.states, {}
        self.assertFalse(self.completed.wait(0.05))
        usual['v1']['s1'] = usual['v2']['s2'] = 'available'
        self.states = usual
        self.assertTrue(self.completed.wait(test_window.SOON))

    def test_last_look(self) -> None:
        self._set_pauses(test_window.SOON, test_window.SOON)
        self._start()
        self.states['v1']['s1'] = 'available'
        self.watch.look_again(test_window.SOON)
        # The other volume has none, and nobody waits for it.
        self.assertEqual({'s1'}, self.watch.seen_until(time.monotonic()))
        self.assertFalse(self.completed.is_set())

    def test_last_look_at_what_is_complete(self) -> None:
        self._start()
        self.states['v1']['s1'] = self.states['v2']['s2'] = 'available'
        self.assertTrue(self.completed.wait(test_window.SOON))
        self.watch.look_again(test_window.SOON)

    def test_last_look_that_fails(self) -> None:
        self._start()
        self.states = {}
        self.watch.look_again(test_window.SOON)
        self.assertEqual(frozenset(), self.watch.seen_until(time.monotonic()))

    def test_stop(self) -> None:
        self._start()
        self.watch.stop()
        for thread in threading.enumerate():
            if thread.name == 'watch-volume-snapshots':
                thread.join(test_window.SOON)
        self.states['v1']['s1'] = self.states['v2']['s2'] = 'available'
        self.assertFalse(self.completed.wait(0.05))
