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

"""A block device as disk, as with images_type=lvm, copied while it is used.

The lab's kernel need not have LVM, so this is the copy alone, without Nova
around it: a loop device in place of a logical volume.
"""

import pathlib
import subprocess
import tempfile
import types
import typing

import libvirt
from nova import conf as nova_conf
from nova import privsep

from nova_quiesce import conf
from nova_quiesce.copy import disk_copy
from nova_quiesce.copy import disk_export
from nova_quiesce.cuts import cutter
from nova_quiesce.freeze import freezer
from nova_quiesce import policy
from nova_quiesce import snapshots
from quiescelab import oracle

from tests.integration import copies

CONF = nova_conf.CONF
DISK_MIB = 64
LIMITS = policy.Limits(freeze_timeout=30, max_freeze_time=60)
WRITE = ('i=0; while [ -e /run/go-on ]; do i=$((i+1)); echo $i >> /data/lines;'
         ' sync; echo $i > /run/written; done; rm /run/written')


class BlockDeviceTest(copies.CopyTestCase):

    shares_server = True

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        config = cls.lab.paths.etc('nova') / 'nova-compute.conf'
        CONF([], project='nova', default_config_files=[str(config)])
        conf.register_opts(CONF)
        # This process is root already.
        privsep.sys_admin_pctxt.set_client_mode(False)
        directory = cls.enterClassContext(tempfile.TemporaryDirectory(
            dir=cls.lab.paths.run))
        cls.freezer = freezer.Freezer(
            freezer.Settings(
                uri=cls.lab.libvirt_uri, leases=directory + '/leases', ask=5,
                thaw=10, retry=0.5, has_guard=False),
            lambda: libvirt.open(cls.lab.libvirt_uri))
        cls.freezer.start()

    freezer: freezer.Freezer

    def setUp(self) -> None:
        super().setUp()
        self.scratch = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory(dir=self.lab.paths.run)))
        self.device = self._attach()
        self.guest.run('mount -t ext4 /dev/vdb /data && touch /run/go-on')
        self.addCleanup(
            self.guest.run, 'rm /run/go-on; while [ -e /run/written ]; do '
            'usleep 100000; done; umount /data')
        self.guest.console('{ (%s) > /dev/null 2>&1 & }' % WRITE)
        self.guest.run('until [ -e /run/written ]; do sleep 1; done')

    def _attach(self) -> str:
        disk = self.scratch / 'disk'
        with disk.open('wb') as stream:
            stream.truncate(DISK_MIB << 20)
        _run('mkfs.ext4', '-q', str(disk))
        device = _run('losetup', '--find', '--show', str(disk))
        self.addCleanup(_run, 'losetup', '--detach', device)
        virsh = ('virsh', '-c', self.lab.libvirt_uri)
        _run(*virsh, 'attach-disk', self.server['id'], device, 'vdb',
             '--driver', 'qemu', '--subdriver', 'raw', '--sourcetype',
             'block')
        self.addCleanup(self._detach, virsh)
        self.guest.run('until [ -b /dev/vdb ]; do sleep 1; done')
        return device

    def _detach(self, virsh: tuple[str, ...]) -> None:
        _run(*virsh, 'detach-disk', self.server['id'], 'vdb')
        self.guest.run('while [ -b /dev/vdb ]; do sleep 1; done')

    def test_frozen(self) -> None:
        with self.domain() as domain:
            agent = self.freezer.agent(
                self.server['id'], LIMITS.freeze_timeout)
            snapshot = snapshots.Snapshot(
                policy.Decision(policy.Policy.REQUIRE, LIMITS), agent,
                lambda is_saved: self.freezer.window(agent, freezer.Purpose(
                    self.server['id'], 'test', 'req-test', 'snapshot',
                    LIMITS.freeze_timeout, LIMITS.max_freeze_time, is_saved)))
            snapshot.prepare()
            image = self._copy(domain, snapshot.cut_and_check)
        self.assertEqual('filesystem', snapshot.record.level.value)
        self.assertEqual(2, snapshot.record.filesystems)
        self.assertFalse(oracle.needs_recovery(image))
        self.assert_nothing_left()

    def test_control_is_not_frozen(self) -> None:
        with self.domain() as domain:
            image = self._copy(domain, lambda make: make())
        self.assertTrue(oracle.needs_recovery(image))
        self.assert_nothing_left()

    def _instance(self) -> typing.Any:
        return types.SimpleNamespace(uuid=self.server['id'], name='test')

    def _copy(self, domain: typing.Any,
              cut: cutter.Cutter) -> pathlib.Path:
        image = self.scratch / 'image'
        before = self._written()
        export = disk_export.DiskExport(disk_export.Disk(
            domain, self.device, self._instance(), lambda: domain),
            self.freezer.jobs)
        try:
            export.prepare()
            cut(export.begin)
            export.open()
            disk_copy.to_file(export, str(image), 'raw', lambda: None)
        finally:
            export.close()
        self.assertGreater(self._written(), before)
        return image

    def _written(self) -> int:
        return int(self.guest.run('cat /run/written'))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True,
                          text=True).stdout.strip()
