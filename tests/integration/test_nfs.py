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
import typing

from quiescelab import api
from quiescelab import volumes
from quiescelab import waiting

from tests.integration import base
from tests.integration import foreign
from tests.integration import snapshots


class NfsTestCase(snapshots.SnapshotTestCase):
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
        waiting.wait(lambda: not self.user.volume_snapshots(self.volume_id),
                     volumes.SNAPSHOT_SECONDS, 'the snapshots to go')

    def snapshot_volume(self) -> api.Json:
        """Have Cinder snapshot the volume, and nothing else.

        :returns: the snapshot, available or in error
        """
        self._calls = self.agent_calls()
        # Seen as soon as it is there, for those who do something at once.
        taken = self.user.snapshot_volume(self.volume_id, base.LOOK)
        self.addCleanup(self.user.remove_volume_snapshot, taken['id'])
        return taken

    def assert_taken(self, taken: api.Json, sent: dict[str, int],
                     needs_recovery: bool) -> None:
        """A snapshot of the volume alone is there, and what it is worth."""
        self.assertEqual('available', taken['status'])
        self.assertEqual(sent, self.sent())
        with tempfile.TemporaryDirectory(dir=self.lab.paths.run) as scratch:
            self.assertIs(needs_recovery, self.user.volume_needs_recovery(
                taken['id'], pathlib.Path(scratch)))

    def sent(self) -> dict[str, int]:
        """Return what the agent was sent since :meth:`snapshot_volume`."""
        return self._calls.sent

    def status_of_volume_snapshot(self, taken: snapshots.Snapshotted) -> str:
        """Return what became of the one volume snapshot of an image."""
        snapshot_id, = volumes.of_image(self.image_of(taken))
        return str(self.user.complete(snapshot_id)['status'])


class RequiredTest(NfsTestCase):
    """The volume's image sets both properties."""

    def test_image(self) -> None:
        """Nova freezes for the image, and not once more for the volume."""
        taken = self.snapshot()
        record = self.assert_healthy(taken)
        self.assertEqual('available', self.status_of_volume_snapshot(taken))
        self.measured('volume-backed on NFS: freeze window',
                      int(record['window_ms']) / 1000)

    def test_volume_alone(self) -> None:
        self.assert_taken(self.snapshot_volume(), snapshots.ONE_EACH,
                          needs_recovery=False)

    def test_volume_alone_and_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot_volume()
        self.assertEqual('error', taken['status'])
        self.assertEqual(snapshots.NO_CALLS, self.sent())

    def test_volume_alone_and_backup_job_of_somebody_else(self) -> None:
        """libvirt would let its snapshot wait for 30 s, and refuse it."""
        files = self._disk_files()
        with self.domain() as domain, foreign.backup(
                domain, self.lab.paths.run) as see:
            taken = self.snapshot_volume()
            see()
        self.assertEqual('error', taken['status'])
        self.assertEqual(snapshots.NO_CALLS, self.sent())
        self.assertEqual(files, self._disk_files())

    def test_volume_alone_and_failing_hook(self) -> None:
        self.set_hook(freeze_fail=7)
        files = self._disk_files()
        self.assertEqual('error', self.snapshot_volume()['status'])
        self.assertEqual(files, self._disk_files())

    def test_volume_alone_and_shut_off(self) -> None:
        """Each snapshot gives a server another file, also one that is off."""
        self.user.act(self.server, 'os-stop')
        self.wait_for_status('SHUTOFF')
        try:
            self.assert_taken(self.snapshot_volume(), snapshots.NO_CALLS,
                              needs_recovery=False)
            taken = self.snapshot_volume()
        finally:
            # At once: Nova knows the file that it has to start from.
            self.user.act(self.server, 'os-start')
            type(self).guest = self.user.ready(self.server)
        self.assertIn(taken['id'], self._disk_files())
        self.assert_taken(taken, snapshots.NO_CALLS, needs_recovery=False)

    def test_server_starts_again_from_the_new_file(self) -> None:
        """Cinder knows the file that the guest writes to, and so does Nova."""
        before = self._disk_files()
        taken = self.snapshot_volume()
        self.user.act(self.server, 'reboot', {'type': 'HARD'})
        self.wait_for_status('HARD_REBOOT', base.LOOK)
        self.wait_for_status('ACTIVE')
        self.user.ready(self.server)
        self.assertNotIn(taken['id'], before)
        self.assertIn(taken['id'], self._disk_files())
        self.assert_taken(taken, snapshots.ONE_EACH, needs_recovery=False)

    def _disk_files(self) -> str:
        return self.guest.virsh('domblklist')


class PreferredTest(NfsTestCase):
    """The volume's image sets hw_qemu_guest_agent alone."""

    image = 'test-nfs-preferred'
    properties: typing.ClassVar = {'hw_qemu_guest_agent': 'yes'}

    def test_volume_alone(self) -> None:
        self.assert_taken(self.snapshot_volume(), snapshots.ONE_EACH,
                          needs_recovery=False)

    def test_volume_alone_and_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot_volume()
        self.assert_taken(taken, snapshots.NO_CALLS, needs_recovery=True)

    def test_image_and_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot()
            status = self.status_of_volume_snapshot(taken)
        self.assertEqual('available', status)
        self.assert_crash(taken, 'not connected')
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
