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

"""Leases of backup jobs: who ends a job, and when its files may go."""

import dataclasses
import pathlib
import tempfile
import typing
import unittest
from unittest import mock

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import duties
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import job_watcher
from nova_quiesce.freeze.guard import watcher
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.freeze import machines
from tests.unit.freeze import test_guard

UUID = test_guard.UUID
FILES = jobs.Files('/place/nbd', '/place/scratch')
BACKUP = ("<domainbackup mode='pull'><server transport='unix' socket='%s'/>"
          "<disks><disk name='vda' backup='yes'><scratch file='%s'/></disk>"
          '</disks></domainbackup>')
OURS = BACKUP % ('/place/nbd', '/place/scratch')
ANOTHERS = BACKUP % ('/elsewhere/nbd', '/elsewhere/scratch')


class JobTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = duties.DutyDirectory(
            str(pathlib.Path(scratch.name, 'duties')))
        self.directory.prepare()
        self.hypervisor = test_guard.Hypervisor()
        self.guest = self.hypervisor.guests[UUID]
        self.guest.backup = OURS
        self.guard = mock.create_autospec(
            guard_client.GuardClient, instance=True)
        self.guard.defer.side_effect = lambda call, *given: call(*given)
        self.jobs = leased_jobs.LeasedJobs(
            self.directory, self.guard, self.hypervisor.open, machines.REAL)
        self.addCleanup(
            lambda: self.assertEqual(0, self.hypervisor.connections))


class LeasedJobsTest(JobTestCase):

    def test_from_before_it_begins_until_its_files_are_gone(self) -> None:
        lease = self.jobs.take(UUID, FILES)
        self.guard.watch_job.assert_called_once_with(lease)
        self.assertEqual([lease], self.jobs.left())
        self.assertTrue(self.jobs.end(lease))
        self.assertIsNone(self.guest.backup)
        self.assertEqual([lease], self.jobs.left())
        self.jobs.drop(lease)
        self.assertEqual([], self.jobs.left())
        self.guard.release.assert_called_once_with(lease.id)

    def test_nobody_is_there_to_end_it(self) -> None:
        self.guard.watch_job.side_effect = guard_client.GuardUnavailable()
        with self.assertLogs(leased_jobs.LOG, 'ERROR') as logged:
            lease = self.jobs.take(UUID, FILES)
        self.assertIn('Nobody ends', logged.output[0])
        self.assertEqual([lease], self.jobs.left())

    def test_job_of_somebody_else(self) -> None:
        self.guest.backup = ANOTHERS
        self.assertTrue(self.jobs.end(self.jobs.take(UUID, FILES)))
        self.assertEqual(ANOTHERS, self.guest.backup)

    def test_guest_that_is_gone(self) -> None:
        lease = self.jobs.take(UUID, FILES)
        del self.hypervisor.guests[UUID]
        self.assertTrue(self.jobs.end(lease))

    def test_libvirtd_is_restarted(self) -> None:
        lease = self.jobs.take(UUID, FILES)
        self.hypervisor.is_up = False
        sleep = mock.create_autospec(machines.RealMachine, instance=True)
        sleep.monotonic.return_value = 0.0
        sleep.sleep.side_effect = lambda _: setattr(
            self.hypervisor, 'is_up', True)
        self.jobs._machine = sleep
        with self.assertLogs(leased_jobs.LOG, 'ERROR'):
            self.assertTrue(self.jobs.end(lease))
        self.assertIsNone(self.guest.backup)

    def test_libvirtd_stays_away(self) -> None:
        """It is known of no job that it has ended; it is, later."""
        lease = self.jobs.take(UUID, FILES)
        self.hypervisor.is_up = False
        with self.assertLogs(leased_jobs.LOG, 'ERROR'):
            self.assertFalse(self.jobs.end(lease, patience=0))
        removed = mock.Mock()
        self.jobs.end_later(lease, removed)
        removed.assert_not_called()
        self.assertEqual([lease], self.jobs.left())
        self.hypervisor.is_up = True
        test_guard.wait_until(lambda: not self.jobs.left())
        removed.assert_called_once_with()
        self.assertIsNone(self.guest.backup)

    def test_guest_that_stands_still(self) -> None:
        """It goes on once the job has ended: before, it would stop again."""
        lease = self.jobs.take(UUID, FILES)
        self.guest.stuck = True
        abort = self.guest.abortJob

        def stay_stuck() -> int:
            self.assertTrue(self.guest.stuck)
            return abort()

        self.guest.abortJob = stay_stuck  # type: ignore[method-assign]
        self.assertTrue(self.jobs.end(lease))
        self.assertFalse(self.guest.stuck)

    def test_job_that_an_earlier_service_left(self) -> None:
        lease = self.jobs.take(UUID, FILES)
        self.guard.watch_job.reset_mock()
        removed = mock.Mock()
        self.jobs.adopt(lease, removed)
        self.guard.watch_job.assert_called_once_with(lease)
        test_guard.wait_until(lambda: not self.jobs.left())
        removed.assert_called_once_with()
        self.assertIsNone(self.guest.backup)

    def test_files_that_cannot_be_removed(self) -> None:
        """What was owed is done all the same."""
        lease = self.jobs.take(UUID, FILES)
        with self.assertRaises(OSError):
            self.jobs._keep_ending(lease, mock.Mock(side_effect=OSError))
        self.assertEqual([], self.jobs.left())

    def test_what_is_another_kind_of_duty(self) -> None:
        other = duties.Duty(UUID, 'a-record', {})
        self.directory.write(other)
        self.assertEqual([], self.jobs.left())
        with self.assertRaises(jobs.InvalidJob):
            leased_jobs.files_of(other)

    def test_files_that_are_none(self) -> None:
        for fields in (None, {}, {'socket': '/a'},
                       {'socket': 'a', 'scratch': '/b'},
                       {'socket': '/a', 'scratch': 7},
                       {'socket': '/a', 'scratch': '/b', 'more': 1}):
            with self.subTest(fields), self.assertRaises(jobs.InvalidJob):
                jobs.Files.from_dict(fields)


class JobWatcherTest(JobTestCase):

    def _start(self) -> job_watcher.JobWatcher:
        watch = job_watcher.JobWatcher(
            duties.Duty(UUID, leased_jobs.KIND, dataclasses.asdict(FILES)),
            FILES, self.hypervisor.open, 0.01, machines.REAL)
        watch.start()
        return watch

    def test_nova_compute_is_gone(self) -> None:
        self.guest.stuck = True
        with self.assertLogs(watcher.LOG) as logged:
            watch = self._start()
            watch.end('nova-compute is gone')
            watch.join()
        self.assertIsNone(self.guest.backup)
        self.assertFalse(self.guest.stuck)
        self.assertIn('has ended', logged.output[-1])

    def test_it_has_ended_before(self) -> None:
        watch = self._start()
        watch.release()
        watch.end('too late')
        watch.join()
        self.assertEqual(OURS, self.guest.backup)

    def test_job_that_does_not_end_at_first(self) -> None:
        errors: list[typing.Any] = [fixture.libvirt_error(
            libvirt.VIR_ERR_SYSTEM_ERROR, 'client socket is closed'), None]
        abort = self.guest.abortJob

        def fail_once() -> int:
            error = errors.pop(0)
            if error is not None:
                raise error
            return abort()

        self.guest.abortJob = fail_once  # type: ignore[method-assign]
        with self.assertLogs(watcher.LOG) as logged:
            watch = self._start()
            watch.end('nova-compute is gone')
            watch.join()
        self.assertIsNone(self.guest.backup)
        self.assertEqual(3, len(logged.output))

    def test_guest_that_is_gone(self) -> None:
        del self.hypervisor.guests[UUID]
        with self.assertLogs(watcher.LOG) as logged:
            watch = self._start()
            watch.end('nova-compute is gone')
            watch.join()
        self.assertIn('gone', logged.output[-1])
