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

"""Windows that span two calls: whose they are, and how they end."""

import threading
import unittest
from unittest import mock

from nova_quiesce import consistency
from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import proof
from nova_quiesce.freeze import spanning_windows
from tests.unit.freeze import test_windows

LONG = 60


class SpanningWindowsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.closed: list[proof.Evidence] = []
        self.ended = threading.Event()
        self.windows = spanning_windows.SpanningWindows(machines.REAL)
        self.addCleanup(self._assert_thawed)

    def _assert_thawed(self) -> None:
        self.windows.close_all('the test ended')
        self.assertFalse(self.domain.frozen)

    def _on_close(self, evidence: proof.Evidence) -> None:
        self.closed.append(evidence)
        self.ended.set()

    def _open(self, owner: str = 'req-1', seconds: float = LONG) -> None:
        self.windows.open(
            'uuid', owner, test_windows.new_window(
                self.domain, longest=seconds), self._on_close)

    def test_frozen_from_open_to_close(self) -> None:
        self._open()
        self.assertTrue(self.domain.frozen)
        self.assertTrue(self.windows.close('uuid', 'req-1'))
        self.assertFalse(self.domain.frozen)
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)
        self.assertIs(consistency.Level.FILESYSTEM,
                      consistency.judge(self.closed[0]).level)

    def test_open_from_the_freeze_to_the_thaw(self) -> None:
        seen: list[str | None] = []
        for call in ('fsFreeze', 'fsThaw'):
            self.domain.after[call] = lambda: seen.append(
                self.windows.holder('uuid'))
        self.assertIsNone(self.windows.holder('uuid'))
        self._open()
        self.assertEqual('req-1', self.windows.holder('uuid'))
        self.assertIsNone(self.windows.holder('another'))
        self.windows.close('uuid', 'req-1')
        self.assertIsNone(self.windows.holder('uuid'))
        self.assertEqual([None, None], seen)

    def test_closed_once(self) -> None:
        self._open()
        self.windows.close('uuid', 'req-1')
        self.assertFalse(self.windows.close('uuid', 'req-1'))
        self.assertEqual(1, self.domain.calls.count('fsThaw'))

    def test_no_other_request_closes_it(self) -> None:
        self._open()
        self.assertFalse(self.windows.close('uuid', 'req-2'))
        self.assertTrue(self.domain.frozen)

    def test_second_request_is_refused(self) -> None:
        self._open()
        with self.assertRaisesRegex(errors.WindowBusy, 'req-1'):
            self._open('req-2')
        self._assert_held_on()

    def test_request_that_asks_a_frozen_guest_is_told_of_the_other(
            self) -> None:
        self._open()
        with self.assertRaisesRegex(errors.WindowBusy, 'req-1'):
            with self.windows.asking('uuid'):
                self.fail('the guest was asked')
        self._assert_held_on()

    def test_guest_that_is_frozen_while_it_is_asked(self) -> None:
        with self.assertRaisesRegex(errors.WindowBusy, 'req-1'):
            with self.windows.asking('uuid'):
                self._open()
                raise errors.AlreadyFrozen
        self._assert_held_on()

    def test_question_that_fails_with_no_other_request(self) -> None:
        with self.assertRaises(errors.AgentNotConnected):
            with self.windows.asking('uuid'):
                raise errors.AgentNotConnected
        self.assertEqual([], self.domain.calls)

    def _assert_held_on(self) -> None:
        self.assertTrue(self.domain.frozen)
        self.windows.close('uuid', 'req-1')
        self.assertIs(consistency.Level.FILESYSTEM,
                      consistency.judge(self.closed[0]).level)

    def test_nobody_is_frozen_while_the_service_stops(self) -> None:
        self.windows.close_all('it stops')
        with self.assertRaises(errors.ServiceStops):
            self._open()
        self.assertEqual([], self.domain.calls)

    def test_all_are_thawed_whatever_fails(self) -> None:
        others = [fixture.FakeDomain() for _ in range(2)]
        for number, domain in enumerate(others):
            self.windows.open(
                'uuid-%d' % number, 'req', test_windows.new_window(domain),
                mock.Mock(side_effect=RuntimeError))
        with self.assertLogs('nova_quiesce.freeze.spanning_windows', 'ERROR'):
            self.windows.close_all('it stops')
        self.assertEqual([False, False], [one.frozen for one in others])

    def test_deadline(self) -> None:
        self._open(seconds=0.05)
        self.assertTrue(self.ended.wait(test_windows.SOON))
        self.assertFalse(self.domain.frozen)
        self.assertFalse(self.windows.close('uuid', 'req-1'))
        record = consistency.judge(self.closed[0])
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn('deadline', record.reason)

    def test_failed_freeze_holds_nothing(self) -> None:
        self.domain.freeze_answer = 0
        with self.assertRaises(errors.NothingFrozen):
            self._open()
        self.assertFalse(self.domain.frozen)
        self.assertFalse(self.windows.close('uuid', 'req-1'))
        self.assertEqual([], self.closed)
        self.domain.freeze_answer = None
        self._open('req-2')

    def test_caller_that_gives_up_while_freezing(self) -> None:
        freeze = self.domain.fsFreeze

        def slow_freeze(mountpoints: list[str] | None = None) -> int:
            # The caller's remote call timed out, so it casts the thaw.
            self.assertFalse(self.windows.close('uuid', 'req-1'))
            return freeze()

        self.domain.fsFreeze = slow_freeze  # type: ignore
        with self.assertRaisesRegex(errors.MaybeFrozen, 'gave up'):
            self._open()
        self.assertFalse(self.domain.frozen)
        self.assertIs(consistency.Level.CRASH,
                      consistency.judge(self.closed[0]).level)

    def test_other_operation_thaws(self) -> None:
        self._open()
        self.windows.lapse('uuid', 'the instance was paused')
        self.windows.lapse('uuid', 'the instance was paused')
        self.assertFalse(self.domain.frozen)
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)
        self.assertEqual('the instance was paused', self.closed[0].lapse)

    def test_deadline_that_cannot_be_set(self) -> None:
        with mock.patch('threading.Thread.start', autospec=True,
                        side_effect=RuntimeError('no more threads')):
            with self.assertRaises(errors.NoThread):
                self._open()
        self.assertEqual([], self.domain.calls)
        self.assertFalse(self.windows.close('uuid', 'req-1'))

    def _lapse_within(self, name: str) -> None:
        """Let another operation come during an agent call.

        It must go on only after the guest is thawed.

        :param name: which call
        """
        call = getattr(self.domain, name)
        frozen: list[bool] = []

        def operate() -> None:
            self.windows.lapse('uuid', 'the instance was paused')
            frozen.append(self.domain.frozen)

        operation = threading.Thread(target=operate)

        def slow_call(*args: object) -> object:
            operation.start()
            operation.join(0.1)
            self.assertEqual([], frozen)
            return call(*args)

        setattr(self.domain, name, slow_call)
        self.addCleanup(lambda: self.assertEqual([False], frozen))
        self.addCleanup(operation.join)

    def test_other_operation_while_freezing(self) -> None:
        self._lapse_within('fsFreeze')
        with self.assertRaisesRegex(errors.MaybeFrozen, 'was paused'):
            self._open()
        self.assertFalse(self.domain.frozen)
        self.assertEqual('the instance was paused', self.closed[0].lapse)

    def test_other_operation_while_a_freeze_fails(self) -> None:
        self.domain.freeze_answer = 0
        self._lapse_within('fsFreeze')
        with self.assertRaises(errors.NothingFrozen):
            self._open()
        self.assertEqual([], self.closed)

    def test_other_operation_while_thawing(self) -> None:
        self._lapse_within('fsThaw')
        self._open()
        self.assertTrue(self.windows.close('uuid', 'req-1'))
        # It came after the cut.
        self.assertIsNone(self.closed[0].lapse)

    def test_request_while_thawing_is_refused(self) -> None:
        self._open()
        thaw = self.domain.fsThaw

        def slow_thaw() -> int:
            with self.assertRaises(errors.WindowBusy):
                self._open('req-2')
            return thaw()

        self.domain.fsThaw = slow_thaw  # type: ignore[method-assign]
        self.assertTrue(self.windows.close('uuid', 'req-1'))
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)

    def test_stopping_service_thaws(self) -> None:
        self._open()
        self.windows.close_all('nova-compute was stopped')
        self.assertFalse(self.domain.frozen)
        self.assertEqual('nova-compute was stopped', self.closed[0].lapse)
