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

"""Snapshots of volumes on NFS, which Cinder has Nova make, on real parts."""

import pathlib
import tempfile

import libvirt

from quiescelab import tenant
from quiescelab import volumes

from tests.integration import base
from tests.integration import foreign
from tests.integration import held


class NfsTestCase(base.LabTestCase):
    """A server on a volume on NFS."""

    from_volume = True
    volume_type = 'nfs'

    volume_id: str

    @classmethod
    def prepare(cls) -> None:
        super().prepare()
        cls.volume_id = cls.user.root_volume(cls.server)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self._wait_until_snapshots_are_gone)

    def _wait_until_snapshots_are_gone(self) -> None:
        # Their files are merged, by Nova, while the guest writes.
        tenant.wait(lambda: not self.user.volume_snapshots(self.volume_id),
                    tenant.SNAPSHOT_SECONDS, 'the snapshots to go')

    def snapshot_volume(self) -> tenant.Json:
        """Have Cinder snapshot the volume, and nothing else.

        :returns: the snapshot, available or in error
        """
        self._offset = self.lab.agent_log.stat().st_size
        # Seen as soon as it is there, for those who do something at once.
        taken = self.user.snapshot_volume(self.volume_id, held.LOOK)
        self.addCleanup(self.user.remove_volume_snapshot, taken['id'])
        return taken

    def assert_taken(self, taken: tenant.Json, sent: dict[str, int],
                     needs_recovery: bool) -> None:
        """A snapshot of the volume alone is there, and what it is worth."""
        self.assertEqual('available', taken['status'])
        self.assertEqual(sent, self.sent())
        with tempfile.TemporaryDirectory(dir=self.lab.paths.run) as scratch:
            self.assertIs(needs_recovery, self.user.volume_needs_recovery(
                taken['id'], pathlib.Path(scratch)))

    def sent(self) -> dict[str, int]:
        """What the agent was sent since :meth:`snapshot_volume`."""
        return tenant.agent_commands(self.lab.agent_log, self._offset)

    def status_of_volume_snapshot(self, taken: base.Snapshotted) -> str:
        """What became of the one volume snapshot of an image."""
        assert taken.image is not None, taken.said
        snapshot_id, = volumes.of_image(taken.image)
        return str(self.user.complete(snapshot_id)['status'])


class RequiredTest(NfsTestCase):
    """The volume's image sets both properties."""

    def test_image(self) -> None:
        """Nova freezes for the image, and not once more for the volume."""
        taken = self.snapshot()
        record = self.record_of(taken)
        self.assertEqual('filesystem', record['consistency'], record)
        self.assertEqual('available', self.status_of_volume_snapshot(taken))
        self.assertEqual(base.ONE_EACH, taken.sent)
        self.assertFalse(self.needs_recovery(taken))
        self.measured('volume-backed on NFS: freeze window',
                      int(record['window_ms']) / 1000)

    def test_volume_alone(self) -> None:
        self.assert_taken(self.snapshot_volume(), base.ONE_EACH,
                          needs_recovery=False)

    def test_volume_alone_and_dead_agent(self) -> None:
        self.guest.hold_agent(120)
        try:
            taken = self.snapshot_volume()
        finally:
            self.guest.release_agent()
        self.assertEqual('error', taken['status'])
        self.assertEqual(base.NO_CALLS, self.sent())

    def test_volume_alone_and_backup_job_of_somebody_else(self) -> None:
        """libvirt would let its snapshot wait for 30 s, and refuse it."""
        files = self._disk_files()
        connection = libvirt.open(self.lab.libvirt_uri)
        self.addCleanup(connection.close)
        with foreign.backup(connection.lookupByUUIDString(self.server['id']),
                            self.lab.paths.run) as see:
            taken = self.snapshot_volume()
            see()
        self.assertEqual('error', taken['status'])
        self.assertEqual(base.NO_CALLS, self.sent())
        self.assertEqual(files, self._disk_files())

    def test_volume_alone_and_failing_hook(self) -> None:
        self.guest.set_hook(freeze_fail=7)
        self.addCleanup(self.guest.set_hook)
        files = self._disk_files()
        self.assertEqual('error', self.snapshot_volume()['status'])
        self.assertEqual(files, self._disk_files())

    def test_volume_alone_and_shut_off(self) -> None:
        """Each snapshot gives a server another file, also one that is off."""
        self.user.act(self.server, 'os-stop')
        tenant.wait(lambda: self.user.show(self.server)['status'] ==
                    'SHUTOFF', 3 * base.SOON, 'the shutdown')
        try:
            self.assert_taken(self.snapshot_volume(), base.NO_CALLS,
                              needs_recovery=False)
            taken = self.snapshot_volume()
        finally:
            # At once: Nova knows the file that it has to start from.
            self.user.act(self.server, 'os-start')
            type(self).guest = self.user.ready(self.server)
        self.assertIn(taken['id'], self._disk_files())
        self.assert_taken(taken, base.NO_CALLS, needs_recovery=False)

    def test_server_starts_again_from_the_new_file(self) -> None:
        """Cinder knows the file that the guest writes to, and so does Nova."""
        before = self._disk_files()
        taken = self.snapshot_volume()
        self.user.act(self.server, 'reboot', {'type': 'HARD'})
        tenant.wait(lambda: self.user.show(self.server)['status'] ==
                    'HARD_REBOOT', base.SOON, 'the reboot', held.LOOK)
        tenant.wait(lambda: self.user.show(self.server)['status'] ==
                    'ACTIVE', base.SOON, 'the end of the reboot')
        self.user.ready(self.server)
        self.assertNotIn(taken['id'], before)
        self.assertIn(taken['id'], self._disk_files())
        self.assert_taken(taken, base.ONE_EACH, needs_recovery=False)

    def _disk_files(self) -> str:
        return self.guest.virsh('domblklist')


class PreferredTest(NfsTestCase):
    """The volume's image sets hw_qemu_guest_agent alone."""

    image = 'test-nfs-preferred'

    @classmethod
    def setUpClass(cls) -> None:
        user = tenant.Tenant(cls.find_lab())
        user.upload(cls.image, hw_qemu_guest_agent='yes')
        cls.addClassCleanup(lambda: user.remove_image(
            user.image_named(cls.image)))
        super().setUpClass()

    def test_volume_alone(self) -> None:
        self.assert_taken(self.snapshot_volume(), base.ONE_EACH,
                          needs_recovery=False)

    def test_volume_alone_and_dead_agent(self) -> None:
        self.guest.hold_agent(120)
        try:
            taken = self.snapshot_volume()
        finally:
            self.guest.release_agent()
        self.assert_taken(taken, base.NO_CALLS, needs_recovery=True)

    def test_image_and_dead_agent(self) -> None:
        self.guest.hold_agent(120)
        try:
            taken = self.snapshot()
            status = self.status_of_volume_snapshot(taken)
        finally:
            self.guest.release_agent()
        self.assertEqual('available', status)
        self.assertEqual('crash', self.record_of(taken)['consistency'])
        self.assertEqual(base.NO_CALLS, taken.sent)
        self.assertTrue(self.needs_recovery(taken))
