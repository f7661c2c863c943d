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

"""Guests whose policy each test chooses, and copies that can be held."""

from collections import abc
import contextlib
import dataclasses
import pathlib
import signal
import tempfile
import typing

from quiescelab import api
from quiescelab import guestctl
from quiescelab import logs
from quiescelab import proc
from quiescelab import readers
from quiescelab import volumes
from quiescelab import waiting

from tests.integration import base
from tests.integration import snapshots

#: A file of the guest that tests fill, and overwrite while it is copied.
FILE = '/var/lib/fill'


@dataclasses.dataclass(frozen=True)
class HeldCopy:
    """A snapshot whose copy stands still.

    :ivar image_id: the image that it becomes
    :ivar calls: what the agent was sent since the request
    :ivar process: the program that reads the disk
    """

    image_id: str
    calls: logs.AgentCalls
    process: proc.Process

    def release(self) -> None:
        """Let it go on."""
        self.process.signal(signal.SIGCONT)


class CopyTestCase(snapshots.SnapshotTestCase):
    """A guest of an image made for tests, which prefers quiesce."""

    properties: typing.ClassVar = {'hw_qemu_guest_agent': 'yes'}

    @classmethod
    def setUpClass(cls) -> None:
        cls.image = 'test-image-%s' % (
            cls.images_type() if cls.shares_server else cls.__name__)
        super().setUpClass()

    def require(self) -> None:
        """Have quiesce required until the end of the test."""
        image_id = self.user.image_named(self.image)['id']
        self.user.change_image(image_id, 'add', 'os_require_quiesce', 'yes')
        self.addCleanup(self.user.change_image, image_id, 'remove',
                        'os_require_quiesce')

    def assert_writing(self) -> None:
        """The guest writes; nova-compute, which may be stuck, is not asked."""
        log = (self.host.paths.data('nova') / 'instances' / self.server['id'] /
               'console.log')
        before = guestctl.console_progress(log)
        waiting.wait(lambda: guestctl.console_progress(log) > before,
                     base.SOON, 'the guest to write')

    def assert_offline(self, taken: snapshots.Snapshotted) -> None:
        """A snapshot was taken of a guest that had shut itself down."""
        record = self.record_of(taken)
        self.assertEqual('offline', record['consistency'], record)
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
        self.assertFalse(self.needs_recovery(self.image_of(taken)['id']))

    @contextlib.contextmanager
    def shut_off(self) -> abc.Iterator[None]:
        """Have the guest shut down for the length of the block."""
        self.user.act(self.server, 'os-stop')
        self.wait_for_status('SHUTOFF')
        try:
            yield
        finally:
            self.start()

    @property
    def note(self) -> pathlib.Path:
        """The note that nova-compute makes when a guest shuts itself down."""
        return (self.host.paths.data('nova') / 'quiesce' / 'shutdowns' /
                ('%s.shutdown' % self.server['id']))

    def start(self) -> None:
        """Have the guest run, from however it came to be off."""
        self.wait_until_done()
        self.user.act(self.server, 'reboot', {'type': 'HARD'})
        waiting.wait(lambda: self.task_state() is not None, base.SOON,
                     'the reboot to begin', 0.1)
        self.wait_for_status('ACTIVE')
        type(self).guest = self.user.ready(self.server)

    @contextlib.contextmanager
    def held_copy(self) -> abc.Iterator[HeldCopy]:
        """Ask for a snapshot, and hold its copy for the length of the block.

        The image, if any is left, is removed at the end of the test.
        """
        before = readers.pids()
        calls = self.agent_calls()
        image_id = self.user.begin_snapshot(self.server, 'test-held')
        self.addCleanup(self.remove_images, 'test-held')
        held = HeldCopy(image_id, calls, readers.catch(self.lab, before))
        try:
            yield held
        finally:
            held.release()

    def remove_images(self, name: str) -> None:
        """Delete all images of a name."""
        for image in self.user.images_named(name):
            self.user.remove_image(image)

    def fill(self, mebibytes: int) -> str:
        """Write noise to a file of the guest.

        :returns: its MD5 sum
        """
        self.guest.run('dd if=/dev/urandom of=%s bs=1M count=%d && sync'
                       % (FILE, mebibytes), base.SOON * 4)
        return self.guest.run('md5sum %s' % FILE, base.SOON).split()[0]

    def overwrite(self, mebibytes: int) -> None:
        """Write zeros over that, in place."""
        self.guest.run(
            'dd if=/dev/zero of=%s bs=1M count=%d conv=notrunc && sync'
            % (FILE, mebibytes), base.SOON * 4)

    @contextlib.contextmanager
    def content_of(self, image_id: str) -> abc.Iterator[pathlib.Path]:
        """A copy of an image for the length of the block."""
        with tempfile.TemporaryDirectory(dir=self.lab.paths.run) as scratch:
            copy = pathlib.Path(scratch) / 'image'
            self.user.fetch(image_id, copy)
            yield copy

    def wait_until_done(self) -> api.Json:
        """Wait until Nova is done with a snapshot.

        :returns: the server
        """
        waiting.wait(lambda: self.task_state() is None,
                     volumes.SNAPSHOT_SECONDS, 'the end of the snapshot')
        return self.user.show(self.server)

    def domain_id(self) -> int:
        """Return the number of the domain's present start."""
        with self.domain() as domain:
            return int(domain.ID())

    def assert_no_io_errors(self) -> None:
        """The guest noticed nothing."""
        self.assertNotIn('I/O error', self.guest.run('dmesg'))
