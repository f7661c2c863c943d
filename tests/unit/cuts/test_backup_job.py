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

from nova_quiesce.cuts import backup_job
from nova_quiesce import exception
from nova_quiesce import fixture
from nova_quiesce.freeze import jobs

FILES = jobs.Files('/place/nbd', '/place/scratch')
DISKS = """<domain type='kvm'><os><type arch='x86_64' machine='pc'>hvm</type>
</os><devices><emulator>/qemu</emulator>
<disk device='cdrom'><target dev='hda'/></disk>
<disk><source file='/disk'/><target dev='vda'/></disk>
<disk><source dev='/dev/vg/disk'/><target dev='vdb'/></disk>
<disk><source protocol='rbd' name='vms/disk'/><target dev='vdc'/></disk>
<disk><source file='/secret'><encryption format='luks'/></source>
<target dev='vdd'/></disk></devices></domain>"""


class JobTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()

    def _job(self, path: str) -> backup_job.Job:
        return backup_job.Job(self.domain, DISKS, path)

    def test_disks_are_found_as_nova_calls_them(self) -> None:
        found = [self._job(path).target
                 for path in ('/disk', '/dev/vg/disk', 'rbd:vms/disk')]
        self.assertEqual(['vda', 'vdb', 'vdc'], found)

    def test_unknown_disk(self) -> None:
        with self.assertRaisesRegex(backup_job.Refused, 'no disk /other'):
            self._job('/other')

    def test_encrypted_disk(self) -> None:
        with self.assertRaisesRegex(backup_job.Refused, 'encrypted'):
            self._job('/secret')

    def test_hypervisor_without_backup_jobs(self) -> None:
        self.domain.has_backup_jobs = False
        with self.assertRaisesRegex(backup_job.Refused, 'no backup jobs'):
            self._job('/disk')

    def test_hypervisor_that_does_not_tell(self) -> None:
        with mock.patch.object(
                self.domain, 'getDomainCapabilities', autospec=True,
                return_value='<domainCapabilities><features/>'
                '</domainCapabilities>') as asked:
            self._job('/disk')
        asked.assert_called_once_with('/qemu', 'x86_64', 'pc', 'kvm', 0)

    def test_begin_exports_one_disk(self) -> None:
        self._job('/disk').begin(FILES)
        self.assertEqual(
            '<domainbackup mode="pull"><server transport="unix" '
            'socket="/place/nbd" /><disks><disk name="vda" type="file">'
            '<driver type="qcow2" /><scratch file="/place/scratch" /></disk>'
            '</disks></domainbackup>', self.domain.backup)

    def test_refused_begin(self) -> None:
        self.domain.backup_error = fixture.libvirt_error(
            libvirt.VIR_ERR_OPERATION_UNSUPPORTED, 'not supported')
        with self.assertRaisesRegex(backup_job.Refused, 'not supported'):
            self._job('/disk').begin(FILES)

    def test_begin_beside_another_job(self) -> None:
        self.domain.backup = "<domainbackup mode='push'/>"
        with self.assertRaisesRegex(exception.JobUnderWay, 'another job'):
            self._job('/disk').begin(FILES)

    def test_begin_without_a_running_guest_is_no_refusal(self) -> None:
        for code in (libvirt.VIR_ERR_NO_DOMAIN,
                     libvirt.VIR_ERR_OPERATION_INVALID):
            self.domain.backup_error = fixture.libvirt_error(code, 'gone')
            with self.assertRaises(libvirt.libvirtError):
                self._job('/disk').begin(FILES)
