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

"""``nova image-create`` of image-backed servers, on real parts."""

import os
import pathlib
import pwd

from tests.integration import copies
from tests.integration import snapshots


class RequiredTest(snapshots.SnapshotTestCase):
    """The image sets hw_qemu_guest_agent and os_require_quiesce."""

    def test_healthy(self) -> None:
        self.assert_healthy(self.snapshot_by_command())

    def test_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot_by_command()
        self.assertIsNotNone(taken.refusal)
        self.assert_refused(taken, 'install and start qemu-guest-agent')
        self.assertEqual(snapshots.NO_CALLS, taken.sent)

    def test_failing_hook(self) -> None:
        self.set_hook(freeze_fail=7)
        taken = self.snapshot()
        self.assert_refused(taken, 'status 7')
        self.assertEqual(1, taken.sent['freeze'])

    def test_type_that_cannot_be_frozen(self) -> None:
        where = self.mount_boot()
        record = self.assert_healthy(self.snapshot())
        self.assertEqual(
            '1 filesystem stayed frozen during the cut; not frozen, because '
            'its type cannot be: %s (vfat)' % where, record['reason'])

    def test_one_is_frozen_by_somebody_else(self) -> None:
        where = self.mount_another()
        self.guest.run('fsfreeze --freeze %s' % where)
        taken = self.snapshot()
        self.assert_refused(taken, 'froze only 1 of these 2 filesystems: / '
                            '(ext4), %s (ext4)' % where)
        self.assertEqual(snapshots.ONE_EACH, taken.sent)
        # The agent's thaw leaves none out.
        self.guest.run('touch %s/file' % where)

    def test_paused(self) -> None:
        self.user.act(self.server, 'pause')
        self.wait_for_status('PAUSED')
        try:
            taken = self.snapshot()
            self.assertEqual('PAUSED', self.status())
            self.assert_refused(taken, 'resume it first')
        finally:
            self.user.act(self.server, 'unpause')
            self.wait_for_status('ACTIVE')


class PreferredTest(copies.CopyTestCase):
    """The image sets hw_qemu_guest_agent alone."""

    shares_server = True


    def test_healthy(self) -> None:
        self.assert_healthy(self.snapshot())

    def test_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_crash(taken, 'not connected')

    def test_one_is_hidden_by_another_mount(self) -> None:
        where = self.mount_another()
        self.guest.run('mount -t tmpfs none %s' % where)
        self.addCleanup(self.guest.run, 'umount %s' % where)
        taken = self.snapshot()
        record = self.record_of(taken)
        self.assertEqual('crash', record['consistency'], record)
        self.assertIn('froze only 1 of these 2', record['reason'])
        # The others profit from the freeze all the same.
        self.assertFalse(self.needs_recovery(self.image_of(taken)['id']))

    def test_failing_hook(self) -> None:
        self.set_hook(freeze_fail=7)
        self.assert_crash(self.snapshot(), 'status 7')


class ControlTest(snapshots.SnapshotTestCase):
    """The image asks for no quiesce, so its guest has no agent channel."""

    image = 'quiesce-control'

    @classmethod
    def prepare(cls) -> None:
        cls.user.wait_until_writing(cls.server)

    def assert_thawed_and_writing(self) -> None:
        self.assert_writing()

    def test_labelled_for_what_it_is(self) -> None:
        taken = self.snapshot()
        self.assertEqual('crash', self.record_of(taken)['consistency'])
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
        self.assertTrue(self.needs_recovery(self.image_of(taken)['id']))

    def test_production_like_users(self) -> None:
        # Root hides the faults that production has.
        compute = self.lab.process('nova-compute')
        assert compute is not None
        self.assertNotEqual(0, _owner(compute.pid))
        guests = [int(path.name) for path in pathlib.Path('/proc').iterdir()
                  if path.name.isdigit() and
                  self.server['id'].encode() in _cmdline(path)]
        self.assertEqual(['libvirt-qemu'],
                         [pwd.getpwuid(_owner(pid)).pw_name
                          for pid in guests])


def _owner(pid: int) -> int:
    return os.stat('/proc/%d' % pid).st_uid


def _cmdline(path: pathlib.Path) -> bytes:
    try:
        command = (path / 'cmdline').read_bytes()
    except OSError:
        return b''
    return command if b'qemu-system' in command.split(b'\0')[0] else b''
