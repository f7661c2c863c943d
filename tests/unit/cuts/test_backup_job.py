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

import unittest
from unittest import mock

import libvirt

from nova_quiesce.copy import workplace
from nova_quiesce.cuts import backup_job
from nova_quiesce import exception
from nova_quiesce import fixture
from nova_quiesce.freeze import jobs

PLACE = workplace.Workplace('/place')
DISKS = """<domain type='kvm'><os><type arch='x86_64' machine='pc'>hvm</type>
</os><devices><emulator>/qemu</emulator>
<disk device='cdrom'><target dev='hda'/></disk>
<disk><source file='/disk'/><target dev='vda'/></disk>
<disk><source dev='/dev/vg/disk'/><target dev='vdb'/></disk>
<disk><source protocol='rbd' name='vms/disk'/><target dev='vdc'/></disk>
<disk><source file='/secret'><encryption format='luks'/></source>
<target dev='vdd'/></disk></devices></domain>"""
PLACES = workplace.Places('/place', 'host')
OURS = workplace.Workplace('/place/quiesce-host-abcd_123')


def job_in(path: str, scratch: str = 'scratch', socket: str = 'nbd') -> str:
    """A backup job, as libvirt describes it."""
    return ("<domainbackup mode='pull'><server transport='unix' "
            "socket='%s/%s'/><disks><disk name='vda' backup='yes' type='file'>"
            "<scratch file='%s/%s'/></disk><disk name='vdb' backup='no'/>"
            '</disks></domainbackup>' % (path, socket, path, scratch))


class Domain(fixture.FakeDomain):
    """A domain with disks."""

    #: How often a job is still seen after it was told to end.
    lingers = 0

    def XMLDesc(self, flags: int = 0) -> str:
        return DISKS

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


class JobTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = Domain()

    def test_disks_are_found_as_nova_calls_them(self) -> None:
        found = [backup_job.Job(self.domain, path, PLACE).target
                 for path in ('/disk', '/dev/vg/disk', 'rbd:vms/disk')]
        self.assertEqual(['vda', 'vdb', 'vdc'], found)

    def test_unknown_disk(self) -> None:
        with self.assertRaisesRegex(backup_job.Refused, 'no disk /other'):
            backup_job.Job(self.domain, '/other', PLACE)

    def test_encrypted_disk(self) -> None:
        with self.assertRaisesRegex(backup_job.Refused, 'encrypted'):
            backup_job.Job(self.domain, '/secret', PLACE)

    def test_hypervisor_without_backup_jobs(self) -> None:
        self.domain.has_backup_jobs = False
        with self.assertRaisesRegex(backup_job.Refused, 'no backup jobs'):
            backup_job.Job(self.domain, '/disk', PLACE)

    def test_hypervisor_that_does_not_tell(self) -> None:
        with mock.patch.object(
                self.domain, 'getDomainCapabilities', autospec=True,
                return_value='<domainCapabilities><features/>'
                '</domainCapabilities>') as asked:
            backup_job.Job(self.domain, '/disk', PLACE)
        asked.assert_called_once_with('/qemu', 'x86_64', 'pc', 'kvm', 0)

    def test_begin_exports_one_disk(self) -> None:
        backup_job.Job(self.domain, '/disk', PLACE).begin()
        self.assertEqual(
            '<domainbackup mode="pull"><server transport="unix" '
            'socket="/place/nbd" /><disks><disk name="vda" type="file">'
            '<scratch file="/place/scratch" /></disk></disks></domainbackup>',
            self.domain.backup)

    def test_refused_begin(self) -> None:
        self.domain.backup_error = fixture.libvirt_error(
            libvirt.VIR_ERR_OPERATION_UNSUPPORTED, 'not supported')
        with self.assertRaisesRegex(backup_job.Refused, 'not supported'):
            backup_job.Job(self.domain, '/disk', PLACE).begin()

    def test_begin_beside_another_job(self) -> None:
        self.domain.backup = "<domainbackup mode='push'/>"
        with self.assertRaisesRegex(exception.JobUnderWay, 'another job'):
            backup_job.Job(self.domain, '/disk', PLACE).begin()

    def test_begin_without_a_running_guest_is_no_refusal(self) -> None:
        for code in (libvirt.VIR_ERR_NO_DOMAIN,
                     libvirt.VIR_ERR_OPERATION_INVALID):
            self.domain.backup_error = fixture.libvirt_error(code, 'gone')
            with self.assertRaises(libvirt.libvirtError):
                backup_job.Job(self.domain, '/disk', PLACE).begin()


class FindTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = Domain()

    def test_ours(self) -> None:
        self.domain.backup = job_in(OURS.path)
        found = backup_job.find(self.domain, PLACES)
        assert found is not None
        self.assertEqual(OURS.path, found.path)

    def test_jobs_of_others(self) -> None:
        for job in ("<domainbackup mode='push'/>",
                    "<domainbackup mode='pull'><server transport='tcp'/>"
                    '</domainbackup>',
                    job_in('/other/quiesce-host-abcd_123'),
                    job_in('/place/quiesce-host-gpu-abcd_123'),
                    job_in('/place/quiesce-host2-abcd_123'),
                    job_in('/place/quiesce-host-abcd_123/more'),
                    job_in('/place/quiesce-host-abcd_1234'),
                    job_in(OURS.path, scratch='../scratch'),
                    job_in(OURS.path, socket='socket'),
                    job_in(OURS.path).replace('scratch', 'target')):
            self.domain.backup = job
            self.assertIsNone(backup_job.find(self.domain, PLACES), job)

    def test_no_job(self) -> None:
        self.assertIsNone(backup_job.find(self.domain, PLACES))

    def test_where_it_cannot_be_told(self) -> None:
        with mock.patch.object(
                self.domain, 'backupGetXMLDesc', autospec=True,
                side_effect=fixture.libvirt_error(
                    libvirt.VIR_ERR_SYSTEM_ERROR, 'socket is closed')), \
                self.assertRaises(libvirt.libvirtError):
            backup_job.find(self.domain, PLACES)


class EndTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = Domain()
        self.domain.backup = job_in(OURS.path)
        self.sleep = self.enterContext(mock.patch(
            'time.sleep', autospec=True))

    def test_jobs_of_others(self) -> None:
        for job in (job_in('/other'), "<domainbackup mode='push'/>"):
            self.domain.backup = job
            self.assertTrue(backup_job.end(self.domain, OURS))
            self.assertEqual(job, self.domain.backup)

    def test_no_job(self) -> None:
        self.domain.backup = None
        self.assertTrue(backup_job.end(self.domain, OURS))

    def test_guest_that_was_paused_goes_on(self) -> None:
        self.domain.stuck = True
        self.assertTrue(backup_job.end(self.domain, OURS))
        self.assertFalse(self.domain.stuck)

    def test_job_that_takes_time_to_end(self) -> None:
        self.domain.lingers = 3
        self.assertTrue(backup_job.end(self.domain, OURS))
        self.assertIsNone(self.domain.backup)
        self.assertEqual(2, self.sleep.call_count)

    def test_job_that_does_not_end(self) -> None:
        self.domain.lingers = 1000
        with mock.patch('time.monotonic', autospec=True,
                        side_effect=[0, 1, 60]), \
                self.assertLogs(jobs.LOG, 'WARNING') as logged:
            self.assertFalse(backup_job.end(self.domain, OURS))
        self.assertIn('has not ended', logged.output[0])

    def test_job_that_ends_at_the_same_moment(self) -> None:
        def end() -> int:
            self.domain.backup = None
            return fixture.FakeDomain.abortJob(self.domain)

        with mock.patch.object(self.domain, 'abortJob', end):
            self.assertTrue(backup_job.end(self.domain, OURS))

    def test_domain_that_is_gone(self) -> None:
        with mock.patch.object(
                self.domain, 'backupGetXMLDesc', autospec=True,
                side_effect=fixture.libvirt_error(
                    libvirt.VIR_ERR_NO_DOMAIN, 'no domain')):
            self.assertTrue(backup_job.end(self.domain, OURS))
