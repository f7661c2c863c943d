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

"""The traces: each kind of disk shows a write, and nothing else."""

import datetime
import os
import pathlib
import stat
import tempfile
import types
import typing
import unittest
from unittest import mock

from nova_quiesce.freeze import machines
from nova_quiesce.shutdown import traces

# Documentation/block/stat.rst: reads, writes, what is under way, discards.
STAT = '%d 0 %d 7  %d 0 %d 9  0 5 6  %d 0 %d 3  1 2\n'


class TracesTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)


class FileTest(TracesTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.scratch / 'disk'
        self.disk.write_bytes(b'0' * 512)
        os.utime(self.disk, ns=(1, 1))
        self.before = traces.of(str(self.disk))
        self.assertIsNotNone(self.before)

    def _assert_changed(self) -> None:
        self.assertNotEqual(self.before, traces.of(str(self.disk)))

    def test_read(self) -> None:
        self.disk.read_bytes()
        # As libvirt does to it.
        self.disk.chmod(0o600)
        os.chown(self.disk, os.getuid(), os.getgid())
        self.assertEqual(self.before, traces.of(str(self.disk)))

    def test_write(self) -> None:
        with self.disk.open('r+b') as file:
            file.write(b'0')
        self._assert_changed()

    def test_replaced(self) -> None:
        self.disk.rename(self.scratch / 'old')
        self.disk.write_bytes(b'0' * 512)
        os.utime(self.disk, ns=(1, 1))
        self._assert_changed()

    def test_other_file(self) -> None:
        os.link(self.disk, self.scratch / 'other')
        self.assertNotEqual(self.before,
                            traces.of(str(self.scratch / 'other')))


class BlockDeviceTest(TracesTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(mock.patch.object(
            traces, '_BLOCK_DEVICE', str(self.scratch / '%d:%d')))
        self.enterContext(mock.patch(
            'os.stat', autospec=True, return_value=types.SimpleNamespace(
                st_mode=stat.S_IFBLK | 0o660, st_rdev=os.makedev(253, 3))))
        self.device = self.scratch / '253:3'
        (self.device / 'queue').mkdir(parents=True)
        self._count()
        self._keep_statistics('1')

    def _count(self, read: int = 0, written: int = 0,
               discarded: int = 0) -> None:
        (self.device / 'stat').write_text(STAT % (
            read, 8 * read, written, 8 * written, discarded, 8 * discarded))

    def _keep_statistics(self, are_kept: str) -> None:
        (self.device / 'queue' / 'iostats').write_text(are_kept + '\n')

    def test_writes(self) -> None:
        before = traces.of('/dev/vg/disk')
        self._count(read=1)
        self.assertEqual(before, traces.of('/dev/vg/disk'))
        self._count(written=1)
        self.assertNotEqual(before, traces.of('/dev/vg/disk'))
        self._count(discarded=1)
        self.assertNotEqual(before, traces.of('/dev/vg/disk'))

    def test_the_host_was_booted_again(self) -> None:
        before = traces.of('/dev/vg/disk')
        with mock.patch.object(machines.RealMachine, 'boot_id', autospec=True,
                               return_value='another'):
            self.assertNotEqual(before, traces.of('/dev/vg/disk'))

    def test_writes_that_are_not_counted(self) -> None:
        self._keep_statistics('0')
        self.assertIsNone(traces.of('/dev/vg/disk'))


class CephTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.driver = self.enterContext(mock.patch(
            'nova.storage.rbd_utils.RBDDriver', autospec=True))
        proxy = self.enterContext(mock.patch(
            'nova.storage.rbd_utils.RBDVolumeProxy', autospec=True))
        self.opened = proxy
        self.image: typing.Any = proxy.return_value.__enter__.return_value
        self.image.id.return_value = 'abc'
        self.image.client.conf_get.return_value = '60'
        self.image.modify_timestamp.return_value = datetime.datetime(2026, 1,
                                                                     2)

    def test_writes(self) -> None:
        before = traces.of('rbd:vms/disk')
        self.opened.assert_called_once_with(
            self.driver.return_value, 'disk', pool='vms', read_only=True)
        self.assertEqual(before, traces.of('rbd:vms/disk'))
        self.image.modify_timestamp.return_value = datetime.datetime(2026, 1,
                                                                     3)
        self.assertNotEqual(before, traces.of('rbd:vms/disk'))

    def test_other_image(self) -> None:
        before = traces.of('rbd:vms/disk')
        self.image.id.return_value = 'abd'
        self.assertNotEqual(before, traces.of('rbd:vms/disk'))

    def test_writes_that_are_not_noted(self) -> None:
        for interval in ('0', None):
            self.image.client.conf_get.return_value = interval
            self.assertIsNone(traces.of('rbd:vms/disk'))
        self.image.client.conf_get.assert_called_with(
            'rbd_mtime_update_interval')


class RootDiskTest(TracesTestCase):

    def _of(self, path: str) -> traces.Trace | None:
        with mock.patch('nova.virt.libvirt.utils.find_disk', autospec=True,
                        return_value=(path, 'qcow2')):
            return traces.of_root_disk(mock.Mock())

    def test_file(self) -> None:
        disk = self.scratch / 'disk'
        disk.touch()
        self.assertEqual(str(disk), (self._of(str(disk)) or {})['path'])

    def test_gone(self) -> None:
        self.assertIsNone(self._of(str(self.scratch / 'disk')))

    def test_directory(self) -> None:
        self.assertIsNone(self._of(str(self.scratch)))

    def test_no_disk(self) -> None:
        with mock.patch('nova.virt.libvirt.utils.find_disk', autospec=True,
                        side_effect=RuntimeError("Can't retrieve root")):
            self.assertIsNone(traces.of_root_disk(mock.Mock()))
