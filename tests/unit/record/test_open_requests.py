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

"""Open requests: they outlive what ends, and end with a proof."""

from collections import abc
import pathlib
import tempfile
import threading
import time
import types
import unittest
from unittest import mock

from nova_quiesce import exception
from nova_quiesce.freeze import duties
from nova_quiesce.record import duty_worker
from nova_quiesce.record import open_requests
from nova_quiesce.record import record_duty
from nova_quiesce.record import recorder
from tests.unit.freeze import test_duties
from tests.unit.record import test_record_duty

SOON = 10


class OpenRequestsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(scratch) / 'duties'
        self.directory = duties.DutyDirectory(str(self.path))
        self.told: list[record_duty.RecordDuty] = []
        self.options = types.SimpleNamespace(record_timeout=SOON)
        self.tried: list[tuple[object, record_duty.RecordDuty]] = []
        self.is_done = threading.Event()
        self.failures: list[Exception] = []
        self.before: abc.Callable[[], object] = lambda: None
        self.context = mock.Mock(request_id='req-1', project_id='project')
        self.requests = self._start()

    def _start(self) -> open_requests.OpenRequests:
        recorder = mock.Mock()
        recorder.attempt.side_effect = self._attempt
        recorder.tell_late.side_effect = self.told.append
        started = open_requests.OpenRequests(
            self.directory, recorder, self.options)
        started.start()
        self.addCleanup(self._stop, started)
        return started

    def _stop(self, started: open_requests.OpenRequests) -> None:
        started.stop()
        for thread in threading.enumerate():
            if thread.name.startswith(('record-', 'late-')):
                thread.join(SOON)

    def _attempt(self, context: object, duty: record_duty.RecordDuty,
                 save: recorder.Save) -> str | None:
        self.tried.append((context, duty))
        self.before()
        if self.failures:
            raise self.failures.pop()
        return 'done' if self.is_done.is_set() else None

    def _wait(self, condition: object) -> None:
        end = time.monotonic() + SOON
        while not condition():  # type: ignore[operator]
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def _begin(self) -> None:
        self.requests.begin(self.context, test_duties.UUID, True)

    def _on_disk(self) -> list[record_duty.RecordDuty]:
        return [record_duty.RecordDuty.of(one)
                for one in self.directory.read_all()[0]]

    def _assert_nothing_left(self) -> None:
        self._wait(lambda: not self._on_disk())

    def test_on_the_disk_before_anything_is_done(self) -> None:
        self._begin()
        duty, = self._on_disk()
        self.assertIsNone(duty.verdict)
        self.assertEqual([], self.tried)
        self.assertTrue(self.requests.is_wanted('req-1'))

    def test_cannot_be_written(self) -> None:
        self.path.rmdir()
        with self.assertLogs('nova_quiesce.record.open_requests', 'ERROR'):
            with self.assertRaises(open_requests.DutyNotWritten):
                self._begin()
        self.assertFalse(self.requests.is_wanted('req-1'))

    def test_written_although_that_failed(self) -> None:
        """Its last system call failed."""
        write = self.directory.write

        def fail_after(duty: duties.Duty) -> None:
            write(duty)
            raise duties.DutyError('Input/output error')

        with mock.patch.object(self.directory, 'write', fail_after):
            with self.assertRaises(open_requests.DutyNotWritten):
                self._begin()
        self.assertEqual([], self._on_disk())

    def test_given_up_while_it_is_written(self) -> None:
        """A disk may be slower than nova-api is patient."""
        write = self.directory.write

        def give_up(duty: duties.Duty) -> None:
            self.requests.list_came(self.context, 'req-1', ())
            write(duty)

        with mock.patch.object(self.directory, 'write', give_up):
            with self.assertRaises(exception.GivenUp):
                self._begin()
        self._assert_nothing_left()
        self.assertFalse(self.requests.is_wanted('req-1'))

    def test_refused(self) -> None:
        self._begin()
        self.requests.refuse('req-1')
        self.assertEqual([], self._on_disk())
        self.assertFalse(self.requests.is_wanted('req-1'))
        self.requests.judge('req-1', test_record_duty.CRASH)
        self.assertEqual([], self._on_disk())

    def test_judged_and_listed_in_either_order(self) -> None:
        for is_judged_first in (True, False):
            self._begin()
            if is_judged_first:
                self.requests.judge('req-1', test_record_duty.HELD)
            self.requests.list_came(self.context, 'req-1', ('s1',))
            if not is_judged_first:
                self.requests.judge('req-1', test_record_duty.HELD)
            duty, = self._on_disk()
            self.assertEqual(('s1',), duty.snapshot_ids)
            self.assertEqual(test_record_duty.HELD, duty.verdict)
            self.is_done.set()
            self.requests.lend(self.context)
            self._assert_nothing_left()
            self.assertEqual(duty.stored, self.tried[-1][1].stored)
            self.is_done.clear()

    def test_given_up(self) -> None:
        self._begin()
        self.requests.list_came(self.context, 'req-1', ())
        self.assertFalse(self.requests.is_wanted('req-1'))

    def test_given_up_before_it_is_heard_of(self) -> None:
        self.requests.list_came(self.context, 'req-1', ())
        with self.assertRaises(exception.GivenUp):
            self._begin()
        self.assertEqual([], self._on_disk())

    def test_same_request_twice(self) -> None:
        self._begin()
        with self.assertRaises(exception.GivenUp):
            self._begin()
        self.assertEqual(1, len(self._on_disk()))

    def test_no_thread_is_to_be_had(self) -> None:
        self._begin()
        with mock.patch.object(threading.Thread, 'start', autospec=True,
                               side_effect=RuntimeError), (
                self.assertLogs('nova_quiesce.record.duty_worker', 'ERROR')):
            self.requests.judge('req-1', test_record_duty.HELD)
        self.assertEqual([], self.tried)
        self.is_done.set()
        self.requests.list_came(self.context, 'req-1', ('s1',))
        self._assert_nothing_left()

    def test_call_that_hangs(self) -> None:
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.before = lambda: self.tried[1:] or go_on.wait(SOON)
        self._begin()
        self.requests.judge('req-1', test_record_duty.HELD)
        self._wait(lambda: bool(self.tried))
        self.requests.list_came(self.context, 'req-1', ('s1',))
        self.assertEqual(1, len(self.tried))
        self.is_done.set()
        with mock.patch.object(duty_worker, '_HANGING', 0):
            self.requests.list_came(self.context, 'req-1', ('s1',))
        self._assert_nothing_left()

    def test_call_that_hung_says_nothing_of_its_replacement(self) -> None:
        releases = [threading.Event(), threading.Event()]
        for one in releases:
            self.addCleanup(one.set)
        begun: list[int] = []

        def hang() -> None:
            begun.append(len(begun))
            if len(begun) <= len(releases):
                releases[len(begun) - 1].wait(SOON)

        self.before = hang
        self._begin()
        with mock.patch.object(duty_worker, '_HANGING', 0):
            self.requests.judge('req-1', test_record_duty.HELD)
            self._wait(lambda: len(begun) == 1)
            self.requests.list_came(self.context, 'req-1', ('s1',))
            self._wait(lambda: len(begun) == 2)
            releases[0].set()
            self._wait(lambda: sum(
                thread.name.startswith('record-')
                for thread in threading.enumerate()) == 1)
            self.is_done.set()
            # The second one hangs, too, and is replaced in its turn.
            self.requests.list_came(self.context, 'req-1', ('s1',))
            self._assert_nothing_left()

    def test_late_one_is_told_although_a_call_hangs(self) -> None:
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.before = lambda: go_on.wait(SOON)
        self.options.record_timeout = 0.05
        self._begin()
        self.requests.judge('req-1', test_record_duty.HELD)
        self._wait(lambda: bool(self.told))

    def test_authority_that_works_is_not_replaced(self) -> None:
        self._begin()
        self.requests.judge('req-1', test_record_duty.HELD)
        self._wait(lambda: bool(self.tried))
        self.requests.lend(mock.Mock(project_id='project'))
        self.requests.list_came(self.context, 'req-1', ('s1',))
        self._wait(lambda: len(self.tried) > 2)
        self.assertEqual({self.context}, {
            context for context, _ in self.tried})

    def test_nobody_works_any_more(self) -> None:
        """A list that does not come is waited for, and then no more."""
        self._begin()
        with mock.patch.object(duty_worker, '_LONGEST_WORK', 0):
            self.requests.judge('req-1', test_record_duty.HELD)
            self._wait(lambda: bool(self.tried))
            self._wait(lambda: not any(
                thread.name.startswith('record-')
                for thread in threading.enumerate()))
        self.is_done.set()
        self.requests.lend(mock.Mock(project_id='project'))
        self._assert_nothing_left()

    def test_request_that_is_not_known(self) -> None:
        self.requests.list_came(self.context, 'req-2', ('s1',))
        self.requests.judge('req-2', test_record_duty.CRASH)
        self.assertEqual([], self._on_disk())

    def test_failure_is_tried_again(self) -> None:
        self._begin()
        self.failures = [RuntimeError('busy')]
        self.is_done.set()
        with mock.patch.object(duty_worker, '_FIRST_PAUSE', 0.01):
            with self.assertLogs(
                    'nova_quiesce.record.duty_worker', 'WARNING'):
                self.requests.judge('req-1', test_record_duty.HELD)
                self._assert_nothing_left()

    def test_what_takes_long_is_told_once(self) -> None:
        self.options.record_timeout = 0
        self._begin()
        with mock.patch.object(duty_worker, '_FIRST_PAUSE', 0.01):
            self.requests.judge('req-1', test_record_duty.HELD)
            self._wait(lambda: len(self.tried) > 3)
        self.assertEqual(1, len(self.told))
        self.assertTrue(self._on_disk()[0].is_told)

    def test_newer_request_ends_nothing(self) -> None:
        self._begin()
        self.requests.judge('req-1', test_record_duty.CRASH)
        self.context.request_id = 'req-2'
        self._begin()
        self.requests.judge('req-2', test_record_duty.HELD)
        self.assertEqual({'req-1', 'req-2'}, {
            duty.request_id for duty in self._on_disk()})

    def _restart(self) -> None:
        self._stop(self.requests)
        self.assertEqual(1, len(self._on_disk()))
        self.tried.clear()
        self.requests = self._start()
        self._wait(lambda: bool(self.tried))

    def test_next_process_goes_on(self) -> None:
        self._begin()
        self.requests.list_came(self.context, 'req-1', ('s1',))
        self.requests.judge('req-1', test_record_duty.HELD)
        self._restart()
        context, duty = self.tried[0]
        self.assertIsNone(context)
        self.assertEqual(test_record_duty.HELD, duty.verdict)
        self._wait(lambda: bool(self.told))
        self._lend(mock.Mock(project_id='another'))
        self.assertIsNone(self.tried[-1][0])
        self.is_done.set()
        self.requests.lend(self.context)
        self._assert_nothing_left()
        self.assertIs(self.context, self.tried[-1][0])

    def _lend(self, context: mock.Mock) -> None:
        self.requests.lend(context)
        time.sleep(0.05)

    def test_next_process_claims_nothing_of_an_open_window(self) -> None:
        self._begin()
        self._restart()
        duty, = self._on_disk()
        assert duty.verdict is not None
        self.assertEqual('crash', duty.verdict.level)
        self.assertIn('nova-compute was stopped', duty.verdict.reason)

    def test_cast_that_still_comes_lends_its_authority(self) -> None:
        self._begin()
        self._restart()
        self.is_done.set()
        self.requests.list_came(self.context, 'req-1', ('s1',))
        self._assert_nothing_left()
        self.assertIs(self.context, self.tried[-1][0])

    def test_what_is_no_duty_is_told_and_left_alone(self) -> None:
        self.directory.write(test_duties.new_duty(more='than known'))
        (self.path / 'stray').write_text('x')
        with self.assertLogs(
                'nova_quiesce.record.open_requests', 'ERROR') as logged:
            self._start()
        self.assertEqual(2, len(logged.output))
        self.assertEqual(2, len(list(self.path.iterdir())))
