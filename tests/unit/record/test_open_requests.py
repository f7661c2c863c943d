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

"""Duties are gone on with, whatever ends, and end with their proof."""

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
from nova_quiesce.record import open_requests
from nova_quiesce.record import owing
from nova_quiesce.record import recorder
from tests.unit.freeze import test_duties
from tests.unit.record import test_owing

SOON = 10


class DutiesTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(scratch) / 'duties'
        self.directory = duties.DutyDirectory(str(self.path))
        self.told: list[owing.Owed] = []
        self.enterContext(mock.patch.object(
            recorder.Pending, 'tell',
            lambda pending: self.told.append(pending.owed)))
        self.options = types.SimpleNamespace(record_timeout=SOON)
        self.tried: list[tuple[object, owing.Owed]] = []
        self.is_done = threading.Event()
        self.failures: list[Exception] = []
        self.before: abc.Callable[[], object] = lambda: None
        self.context = mock.Mock(request_id='req-1', project_id='project')
        self.duties = self._start()

    def _start(self) -> open_requests.Duties:
        recorder = mock.Mock()
        recorder.attempt.side_effect = self._attempt
        started = open_requests.Duties(
            self.directory, recorder, 'host', self.options)
        started.start()
        self.addCleanup(self._stop, started)
        return started

    def _stop(self, started: open_requests.Duties) -> None:
        started.stop()
        for thread in threading.enumerate():
            if thread.name.startswith('record-'):
                thread.join(SOON)

    def _attempt(self, context: object, owed: owing.Owed,
                 save: recorder.Save) -> str | None:
        self.tried.append((context, owed))
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
        self.duties.begin(self.context, test_duties.UUID, True)

    def _on_disk(self) -> list[owing.Owed]:
        return [owing.Owed.of(one) for one in self.directory.read_all()[0]]

    def _assert_nothing_left(self) -> None:
        self._wait(lambda: not self._on_disk())

    def test_on_the_disk_before_anything_is_done(self) -> None:
        self._begin()
        owed, = self._on_disk()
        self.assertIsNone(owed.verdict)
        self.assertEqual([], self.tried)
        self.assertTrue(self.duties.is_wanted('req-1'))

    def test_cannot_be_written(self) -> None:
        self.path.rmdir()
        with self.assertLogs('nova_quiesce.record.open_requests', 'ERROR'):
            with self.assertRaises(open_requests.NotNoted):
                self._begin()
        self.assertFalse(self.duties.is_wanted('req-1'))

    def test_refused(self) -> None:
        self._begin()
        self.duties.refuse('req-1')
        self.assertEqual([], self._on_disk())
        self.assertFalse(self.duties.is_wanted('req-1'))
        self.duties.judge('req-1', test_owing.CRASH)
        self.assertEqual([], self._on_disk())

    def test_judged_and_listed_in_either_order(self) -> None:
        for is_judged_first in (True, False):
            self._begin()
            if is_judged_first:
                self.duties.judge('req-1', test_owing.HELD)
            self.duties.list_came(self.context, 'req-1', ('s1',))
            if not is_judged_first:
                self.duties.judge('req-1', test_owing.HELD)
            owed, = self._on_disk()
            self.assertEqual(('s1',), owed.snapshot_ids)
            self.assertEqual(test_owing.HELD, owed.verdict)
            self.is_done.set()
            self.duties.lend(self.context)
            self._assert_nothing_left()
            self.assertEqual(owed.duty, self.tried[-1][1].duty)
            self.is_done.clear()

    def test_given_up(self) -> None:
        self._begin()
        self.duties.list_came(self.context, 'req-1', ())
        self.assertFalse(self.duties.is_wanted('req-1'))

    def test_given_up_before_it_is_heard_of(self) -> None:
        self.duties.list_came(self.context, 'req-1', ())
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
                self.assertLogs('nova_quiesce.record.open_requests', 'ERROR')):
            self.duties.judge('req-1', test_owing.HELD)
        self.assertEqual([], self.tried)
        self.is_done.set()
        self.duties.list_came(self.context, 'req-1', ('s1',))
        self._assert_nothing_left()

    def test_call_that_hangs(self) -> None:
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.before = lambda: self.tried[1:] or go_on.wait(SOON)
        self._begin()
        self.duties.judge('req-1', test_owing.HELD)
        self._wait(lambda: bool(self.tried))
        self.duties.list_came(self.context, 'req-1', ('s1',))
        self.assertEqual(1, len(self.tried))
        self.is_done.set()
        with mock.patch.object(open_requests, '_HANGING', 0):
            self.duties.list_came(self.context, 'req-1', ('s1',))
        self._assert_nothing_left()

    def test_late_one_is_told_although_a_call_hangs(self) -> None:
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        self.before = lambda: go_on.wait(SOON)
        self.options.record_timeout = 0.05
        self._begin()
        self.duties.judge('req-1', test_owing.HELD)
        self._wait(lambda: bool(self.told))

    def test_authority_that_works_is_not_replaced(self) -> None:
        self._begin()
        self.duties.judge('req-1', test_owing.HELD)
        self._wait(lambda: bool(self.tried))
        self.duties.lend(mock.Mock(project_id='project'))
        self.duties.list_came(self.context, 'req-1', ('s1',))
        self._wait(lambda: len(self.tried) > 2)
        self.assertEqual({self.context}, {
            context for context, _ in self.tried})

    def test_request_that_is_not_known(self) -> None:
        self.duties.list_came(self.context, 'req-2', ('s1',))
        self.duties.judge('req-2', test_owing.CRASH)
        self.assertEqual([], self._on_disk())

    def test_failure_is_tried_again(self) -> None:
        self._begin()
        self.failures = [RuntimeError('busy')]
        self.is_done.set()
        with mock.patch.object(open_requests, '_FIRST_PAUSE', 0.01):
            with self.assertLogs(
                    'nova_quiesce.record.open_requests', 'WARNING'):
                self.duties.judge('req-1', test_owing.HELD)
                self._assert_nothing_left()

    def test_what_takes_long_is_told_once(self) -> None:
        self.options.record_timeout = 0
        self._begin()
        with mock.patch.object(open_requests, '_FIRST_PAUSE', 0.01):
            self.duties.judge('req-1', test_owing.HELD)
            self._wait(lambda: len(self.tried) > 3)
        self.assertEqual(1, len(self.told))
        self.assertTrue(self._on_disk()[0].is_told)

    def test_newer_request_ends_nothing(self) -> None:
        self._begin()
        self.duties.judge('req-1', test_owing.CRASH)
        self.context.request_id = 'req-2'
        self._begin()
        self.duties.judge('req-2', test_owing.HELD)
        self.assertEqual({'req-1', 'req-2'}, {
            owed.request_id for owed in self._on_disk()})

    def _restart(self) -> None:
        self._stop(self.duties)
        self.assertEqual(1, len(self._on_disk()))
        self.tried.clear()
        self.duties = self._start()
        self._wait(lambda: bool(self.tried))

    def test_next_process_goes_on(self) -> None:
        self._begin()
        self.duties.list_came(self.context, 'req-1', ('s1',))
        self.duties.judge('req-1', test_owing.HELD)
        self._restart()
        context, owed = self.tried[0]
        self.assertIsNone(context)
        self.assertEqual(test_owing.HELD, owed.verdict)
        self._wait(lambda: bool(self.told))
        self._lend(mock.Mock(project_id='another'))
        self.assertIsNone(self.tried[-1][0])
        self.is_done.set()
        self.duties.lend(self.context)
        self._assert_nothing_left()
        self.assertIs(self.context, self.tried[-1][0])

    def _lend(self, context: mock.Mock) -> None:
        self.duties.lend(context)
        time.sleep(0.05)

    def test_next_process_claims_nothing_of_an_open_window(self) -> None:
        self._begin()
        self._restart()
        owed, = self._on_disk()
        assert owed.verdict is not None
        self.assertEqual('crash', owed.verdict.level)
        self.assertIn('nova-compute was stopped', owed.verdict.reason)

    def test_cast_that_still_comes_lends_its_authority(self) -> None:
        self._begin()
        self._restart()
        self.is_done.set()
        self.duties.list_came(self.context, 'req-1', ('s1',))
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
