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

"""Ending a backup job."""

from concurrent import futures
import threading
import unittest
from unittest import mock

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import machines

OURS = jobs.Files('/place/nbd', '/place/scratch')


def job_in(path: str) -> str:
    """A backup job, as libvirt describes it."""
    return ("<domainbackup mode='pull'><server transport='unix' "
            "socket='%s/nbd'/><disks>"
            "<disk name='vda' backup='yes' type='file'>"
            "<scratch file='%s/scratch'/></disk><disk name='vdb' backup='no'/>"
            '</disks></domainbackup>' % (path, path))


class Domain(fixture.FakeDomain):
    """A domain whose job may take its time to end."""

    #: How often a job is still seen after it was told to end.
    lingers = 0

    def abortJob(self) -> int:
        lingering = self.backup if self.lingers else None
        super().abortJob()
        self.backup = lingering
        return 0

    def backupGetXMLDesc(self, flags: int = 0) -> str:
        described = super().backupGetXMLDesc(flags)
        if self.lingers:
            self.lingers -= 1
            if not self.lingers:
                self.backup = None
        return described


class EndTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = Domain()
        self.domain.backup = job_in('/place')
        self.sleep = self.enterContext(mock.patch(
            'time.sleep', autospec=True))

    def _end(self) -> bool:
        return jobs.end(self.domain, OURS, machines.REAL)

    def test_jobs_of_others(self) -> None:
        for job in (job_in('/other'), "<domainbackup mode='push'/>"):
            self.domain.backup = job
            self.assertTrue(self._end())
            self.assertEqual(job, self.domain.backup)

    def test_two_at_once(self) -> None:
        """A call that comes late would end somebody else's job."""
        calls, go_on = threading.Semaphore(0), threading.Event()
        abort = self.domain.abortJob

        def abort_later() -> int:
            calls.release()
            go_on.wait(10)
            return abort()

        with (mock.patch.object(self.domain, 'abortJob', abort_later),
              futures.ThreadPoolExecutor(2) as pool):
            both = [pool.submit(self._end) for _ in range(2)]
            self.assertTrue(calls.acquire(timeout=10))
            self.assertFalse(calls.acquire(timeout=0.1))
            go_on.set()
        self.assertEqual([True, True], [one.result() for one in both])
        self.assertFalse(calls.acquire(blocking=False))

    def test_no_job(self) -> None:
        self.domain.backup = None
        self.assertTrue(self._end())

    def test_guest_that_was_paused_goes_on(self) -> None:
        self.domain.stuck = True
        self.assertTrue(self._end())
        self.assertFalse(self.domain.stuck)

    def test_job_that_takes_time_to_end(self) -> None:
        self.domain.lingers = 3
        self.assertTrue(self._end())
        self.assertIsNone(self.domain.backup)
        self.assertEqual(2, self.sleep.call_count)

    def test_job_that_does_not_end(self) -> None:
        self.domain.lingers = 1000
        with mock.patch('time.monotonic', autospec=True,
                        side_effect=[0, 1, 60]), \
                self.assertLogs(jobs.LOG, 'WARNING') as logged:
            self.assertFalse(self._end())
        self.assertIn('has not ended', logged.output[0])

    def test_job_that_ends_at_the_same_moment(self) -> None:
        def end() -> int:
            self.domain.backup = None
            return fixture.FakeDomain.abortJob(self.domain)

        with mock.patch.object(self.domain, 'abortJob', end):
            self.assertTrue(self._end())

    def test_domain_that_is_gone(self) -> None:
        with mock.patch.object(
                self.domain, 'backupGetXMLDesc', autospec=True,
                side_effect=fixture.libvirt_error(
                    libvirt.VIR_ERR_NO_DOMAIN, 'no domain')):
            self.assertTrue(self._end())
