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

"""Space for what the guest overwrites while its disk is copied: too little."""

from collections import abc
import contextlib
import pathlib
import signal
import subprocess
import tempfile

import libvirt

from quiescelab import lab as running
from quiescelab import proc
from quiescelab import system
from quiescelab import waiting

from tests.integration import base
from tests.integration import copies

#: More than the reserve, so that copies begin; and more than is left.
VOLUME_MIB = 100
FILL_MIB = 120


@contextlib.contextmanager
def small_volume(lab: running.Lab) -> abc.Iterator[pathlib.Path]:
    """A small filesystem for snapshots, which libvirt sees as well.

    :param lab: the lab
    :returns: where it is mounted
    """
    libvirtd = lab.process('libvirtd')
    assert libvirtd is not None
    # No mount of this namespace reaches libvirt's, whose root may be another
    # one, too.
    namespaces: tuple[list[str], ...] = ([], [
        'nsenter', '--mount', '--root', '--target', str(libvirtd.pid)])
    with contextlib.ExitStack() as undo:
        scratch = pathlib.Path(undo.enter_context(
            tempfile.TemporaryDirectory(dir=lab.paths.run)))
        # QEMU's user has to pass through.
        scratch.chmod(0o711)
        device = _make_volume(scratch / 'ext4', undo)
        mount_point = scratch / 'on'
        mount_point.mkdir()
        for enter in namespaces:
            _run(*enter, 'mount', device, str(mount_point))
            undo.callback(_run, *enter, 'umount', str(mount_point))
        system.make_directory(mount_point, 'nq-nova')
        yield mount_point


def _make_volume(path: pathlib.Path, undo: contextlib.ExitStack) -> str:
    with path.open('wb') as volume:
        volume.truncate(VOLUME_MIB << 20)
    _run('mkfs.ext4', '-q', '-m', '0', str(path))
    device = _run('losetup', '--find', '--show', str(path))
    undo.callback(_run, 'losetup', '--detach', device)
    return device


class FullTest(copies.CopyTestCase):
    """The snapshot fails, and the guest goes on."""

    # QEMU has mounts of its own, as they were at its start: its server is
    # booted after the volume is mounted.
    shares_server = False

    @classmethod
    def setUpClass(cls) -> None:
        cls.volume = cls.enterClassContext(
            small_volume(running.Lab.from_env()))
        cls.options = {'libvirt': {'snapshots_directory': cls.volume,
                                   'snapshot_compression': cls.compress}}
        super().setUpClass()

    volume: pathlib.Path
    #: So that both, the image and what is overwritten, are in the volume.
    compress = True

    @property
    def snapshots(self) -> pathlib.Path:
        """The directory in which snapshots are made."""
        return self.volume

    def setUp(self) -> None:
        super().setUp()
        self.fill(FILL_MIB)
        self.addCleanup(self._assert_went_on)

    def _assert_went_on(self) -> None:
        self.wait_until_done()
        self.assertEqual([], self.user.images_named('test-held'))
        self.assert_told('not copied')
        self.assert_nothing_left()
        self.assert_no_io_errors()

    def test_the_reserve_is_touched(self) -> None:
        domain_id = self.domain_id()
        with self.held_copy() as held:
            self.overwrite(FILL_MIB // 2)
            self.assertTrue(proc.wait_for_end([held.process], base.SOON))
        self.assertEqual(domain_id, self.domain_id())

    def test_a_write_of_the_guest_fails(self) -> None:
        # nova-compute itself stands still, so that it cannot prevent it.
        self.addCleanup(self.lab.go_on, 'nova-compute')
        with self.held_copy():
            self.lab.kill('nova-compute', signal.SIGSTOP)
            self.guest.console('{ dd if=/dev/zero of=%s bs=1M count=%d '
                               'conv=notrunc & }' % (copies.FILE, FILL_MIB))
            waiting.wait(self._is_stuck, base.SOON, 'the guest to be paused')
            self.lab.go_on('nova-compute')
            waiting.wait(lambda: not self._is_stuck(), base.SOON,
                         'the guest to go on')
            self.assert_writing()

    def _is_stuck(self) -> bool:
        with self.domain() as domain:
            return bool(domain.state()[:2] == [
                libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR])


class FullDuringUploadTest(FullTest):
    """The same, and the image is uploaded while the disk is read."""

    compress = False


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True,
                          text=True).stdout.strip()
