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
"""Image-backed snapshots on the paths that are not live in stock Nova."""

import typing
from unittest import mock

import fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import imagebackend

from tests.functional import base
from tests.functional import hypervisor
from tests.functional import test_backup_job

BY_PATH = 'nova.virt.libvirt.imagebackend.Backend.by_libvirt_path'

BACKUP = ("<domainbackup mode='push'><disks>"
          "<disk name='%s' backup='yes' type='file'/></disks></domainbackup>")


class SuspendTestCase(test_backup_job.BackupJobTestCase):

    def setUp(self) -> None:
        super().setUp()
        #: What the guest did as it was suspended: frozen or not.
        self.frozen_at_save: list[bool] = []
        self.save_error: Exception | None = None
        self._follow('managedSave', self._save)
        self._follow('createWithFlags', self._resume)
        self.disk = mock.create_autospec(imagebackend.Qcow2, instance=True)
        self.disk.direct_snapshot.side_effect = NotImplementedError
        self.disk.snapshot_extract.side_effect = self._extract
        self.useFixture(fixtures.MockPatch(
            BY_PATH, autospec=True, side_effect=lambda *args, **kwargs:
            self.disk))
        self.saved_at_copy: list[bool] = []

    def _follow(self, name: str, also: typing.Any) -> None:
        call = getattr(fakelibvirt.Domain, name)

        def followed(domain: object, *args: object) -> object:
            also()
            return call(domain, *args)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.%s' % name, followed))

    def _save(self) -> None:
        if self.save_error is not None:
            raise self.save_error
        self.frozen_at_save.append(self.guest.frozen)
        self.guest.saved = True

    def _resume(self) -> None:
        self.guest.saved = False

    def _extract(self, target: str, out_format: str) -> None:
        self.saved_at_copy.append(self.guest.saved)
        self._write(target)

    def _assert_running(self, server: dict[str, str]) -> None:
        self.assertFalse(self.guest.saved)
        self.assertFalse(self.guest.frozen)
        self.assertEqual(1, self.api.get_server(server['id'])[
            'OS-EXT-STS:power_state'])

    def _write(self, target: str) -> None:
        with open(target, 'wb') as image:
            image.write(b'bits')


class ForcedColdTest(SuspendTestCase):
    """The operator has live snapshots switched off."""

    def setUp(self) -> None:
        super().setUp()
        self.flags(disable_libvirt_livesnapshot=True, group='workarounds')

    def test_required_and_healthy(self) -> None:
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual([True], self.frozen_at_save)
        self.assertEqual([True], self.saved_at_copy)
        self._assert_running(server)

    def test_required_and_dead_agent(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.connected = False
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('install and start', self.fault_of(server))
        self.assertEqual([], self.frozen_at_save)
        self._assert_running(server)

    def test_preferred_and_dead_agent(self) -> None:
        server = self.boot(base.PREFERRED)
        self.guest.connected = False
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertEqual([False], self.frozen_at_save)
        self._assert_running(server)

    def test_suspend_that_fails(self) -> None:
        server = self.boot(base.QUIESCED)
        self.save_error = fakelibvirt.libvirtError('no space')
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self._assert_running(server)

    def test_copy_that_fails(self) -> None:
        server = self.boot(base.QUIESCED)
        self.disk.snapshot_extract.side_effect = OSError('no space')
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertEqual([True], self.frozen_at_save)
        self._assert_running(server)

    def test_failure_after_which_nova_forgets_to_resume(self) -> None:
        server = self.boot(base.QUIESCED)
        self.disk.direct_snapshot.side_effect = RuntimeError('planned')
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertEqual([True], self.frozen_at_save)
        self._assert_running(server)


class BlockDeviceTest(SuspendTestCase):
    """The disk is a block device, as with images_type=lvm."""

    def setUp(self) -> None:
        super().setUp()
        self.disk_tools['find_disk'].return_value = ('/dev/vg/disk', 'raw')
        self.disk_xml = hypervisor.DISK.replace(
            "type='file'", "type='block'").replace(
            "file='/disk'", "dev='/dev/vg/disk'")

    def test_is_never_suspended(self) -> None:
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([], self.frozen_at_save)
        self.assertEqual([], self.saved_at_copy)
        self.assertEqual([True], self.frozen_at_begin)
        self.assertEqual([False], self.frozen_at_copy)
        self.assertEqual('raw', self.convert.call_args.args[2])

    def test_is_suspended_where_there_are_no_backup_jobs(self) -> None:
        self.guest.has_backup_jobs = False
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([True], self.frozen_at_save)
        self.assertEqual([True], self.saved_at_copy)
        self._assert_running(server)


class RbdTest(SuspendTestCase):
    """The disk is in Ceph."""

    def setUp(self) -> None:
        super().setUp()
        self.disk_tools['find_disk'].return_value = ('rbd:vms/disk', 'raw')
        self.disk_xml = (
            "<disk type='network' device='disk'><source protocol='rbd' "
            "name='vms/disk'/><target dev='vda'/></disk>")
        self.image = self.useFixture(fixtures.MockPatch(
            'nova.storage.rbd_utils.RBDVolumeProxy')
        ).mock.return_value.__enter__.return_value
        self.image.is_protected_snap.return_value = False
        self.did: list[tuple[str, bool]] = []
        for name in ('create_snap', 'protect_snap'):
            self._note(self.image, name)
        self.disk = imagebackend.Rbd.__new__(imagebackend.Rbd)
        self.disk.rbd_name = 'disk'
        self.disk.driver = mock.Mock(pool='vms')
        self.disk.driver.get_fsid.return_value = 'fsid'
        self.disk.driver.parse_url.return_value = (
            'fsid', 'vms', 'disk', 'snap')
        for name in ('clone', 'flatten'):
            self._note(self.disk.driver, name)
        self.pool = self.useFixture(fixtures.MockPatchObject(
            imagebackend.Rbd, '_get_parent_pool', return_value='images')).mock

    def _note(self, thing: typing.Any, name: str) -> None:
        getattr(thing, name).side_effect = lambda *args, **kwargs: (
            self.did.append((name, self.guest.frozen)))

    def test_only_the_cut_is_frozen(self) -> None:
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([
            ('create_snap', True), ('protect_snap', False),
            ('clone', False), ('flatten', False)], self.did)
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)

    def test_required_and_dead_agent(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.connected = False
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('install and start', self.fault_of(server))
        self.assertEqual([], self.did)

    def test_freeze_that_did_not_last(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.thaw_answer = 1
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('only 1 were still frozen', self.fault_of(server))
        self.assertEqual([('create_snap', True)], self.did)
        self.disk.driver._wrapped.remove_snap.assert_called_once()

    def test_cut_that_fails(self) -> None:
        server = self.boot(base.QUIESCED)
        self.image.create_snap.side_effect = RuntimeError('planned')
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)

    def test_without_a_direct_snapshot_it_goes_on_running(self) -> None:
        self.pool.side_effect = NotImplementedError
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([], self.frozen_at_save)
        self.assertEqual([True], self.frozen_at_begin)

    def test_others_back_it_up(self) -> None:
        """libvirt has no part in the cut, so no job is in its way."""
        self.guest.backup = BACKUP % 'vda'
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual(BACKUP % 'vda', self.guest.backup)
        self.guest.backup = None

    def test_others_back_up_another_disk_and_there_is_no_direct_snapshot(
            self) -> None:
        """There can be neither a second backup nor a suspend."""
        self.pool.side_effect = NotImplementedError
        self.guest.backup = BACKUP % 'vdb'
        server = self.boot(base.QUIESCED)
        self.assert_failed(server, self.create_image(server),
                           "another program's backup job is under way")
        self.assertNotIn('fsFreeze', self.guest.calls)
        self.assertEqual([], self.frozen_at_save)
        self.assertEqual(BACKUP % 'vdb', self.guest.backup)
        self.guest.backup = None

    def test_forced_cold(self) -> None:
        self.flags(disable_libvirt_livesnapshot=True, group='workarounds')
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual([True], self.frozen_at_save)
        self._assert_running(server)

    def test_shut_off(self) -> None:
        server = self.boot(base.QUIESCED)
        self._stop_server(server)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('offline', record['quiesce_consistency'])
        self.assertEqual([], self.guest.calls)
        self.assertIn(('create_snap', False), self.did)
