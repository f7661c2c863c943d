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

import threading
import unittest
from unittest import mock

from nova import exception as nova_exception

from nova_quiesce.copy import errors
from nova_quiesce.copy import monitor
from nova_quiesce.copy import workplace
from nova_quiesce import fixture


class CopyMonitorTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.place = mock.create_autospec(workplace.Workplace, instance=True)
        self.place.free.return_value = monitor.RESERVE
        self.show = mock.Mock(return_value={})
        self.enterContext(mock.patch.object(monitor, 'ASK_INTERVAL', 0.001))
        self.watch = monitor.CopyMonitor(
            self.domain.state, self.place, self.show, instance=None)

    def _asked(self, times: int) -> threading.Event:
        """Set as soon as the image was looked up so often."""
        asked = threading.Event()
        plan = self.show.side_effect

        def show() -> object:
            if self.show.call_count >= times:
                asked.set()
            return plan() if plan else {}

        self.show.side_effect = show
        return asked

    def test_nothing_to_see(self) -> None:
        self.watch(0)
        self.watch(99.9)

    def test_progress_is_told_in_steps(self) -> None:
        with mock.patch.object(monitor.LOG, 'info', autospec=True) as told:
            for percent in (1.0, 9.9, 10.0, 12.0, 31.0, 35.0, 41.0):
                self.watch(percent)
        self.assertEqual([10.0, 31.0, 41.0],
                         [call.args[1] for call in told.call_args_list])

    def test_guest_that_was_paused(self) -> None:
        self.domain.stuck = True
        with self.assertRaisesRegex(errors.CopyError, 'was paused'):
            self.watch(1)

    def test_reserve(self) -> None:
        self.place.free.return_value = monitor.RESERVE - 1
        with self.assertRaisesRegex(errors.CopyError, 'no space'):
            self.watch(1)

    def test_image_that_was_deleted(self) -> None:
        self.show.side_effect = nova_exception.ImageNotFound(image_id='i')
        with self.watch:
            self._join()
            with self.assertRaises(nova_exception.ImageNotFound):
                self.watch(1)
        self.assertEqual(1, self.show.call_count)

    def test_glance_that_fails_is_asked_again(self) -> None:
        self.show.side_effect = RuntimeError('planned')
        asked = self._failing(3)
        with self.watch:
            self.assertTrue(asked.wait(60))
            self.watch(1)

    def test_glance_that_hangs_keeps_nobody(self) -> None:
        hangs, goes_on = threading.Event(), threading.Event()
        self.addCleanup(goes_on.set)

        def hang() -> None:
            hangs.set()
            goes_on.wait(60)

        self.show.side_effect = hang
        with self.watch:
            self.assertTrue(hangs.wait(60))
            self.domain.stuck = True
            with self.assertRaises(errors.CopyError):
                self.watch(1)

    def test_nobody_asks_after_the_copy(self) -> None:
        asked = self._asked(1)
        with self.watch:
            self.assertTrue(asked.wait(60))
        self._join()
        self.show.reset_mock()
        self.watch(1)
        self.show.assert_not_called()

    def _failing(self, times: int) -> threading.Event:
        asked = threading.Event()

        def fail() -> None:
            if self.show.call_count >= times:
                asked.set()
            raise RuntimeError('planned')

        self.show.side_effect = fail
        return asked

    def _join(self) -> None:
        for thread in threading.enumerate():
            if thread.name == 'watch-image':
                thread.join(60)
                self.assertFalse(thread.is_alive())
