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

"""Running disks of this host, copied by backup jobs of real hypervisors."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import typing

from quiescelab import oracle
from quiescelab import proc
from quiescelab import waiting

from tests.integration import base
from tests.integration import copies
from tests.integration import foreign
from tests.integration import snapshots

FILL_MIB = 40
#: A watched copy ends so soon after its image was deleted; without the watch
#: it would not end while it is held.
ASKED_SECONDS = 15


class FormatTestCase(copies.CopyTestCase):
    """A disk of one format, and an image of one, which may be another.

    What is copied depends on the formats; what fails before it does not.
    """

    image_format = 'qcow2'
    is_compressed = False

    def write_during_the_copy(self) -> None:
        """What is written then is not in the image, and the rest is."""
        self.require()
        old = self.fill(FILL_MIB)
        domain_id = self.domain_id()
        with self.held_copy() as held:
            self.assertTrue(self.has_job())
            self.overwrite(FILL_MIB)
            self.assert_writing()
        self.wait_until_done()
        self.assert_healthy_image(held.image_id, held.calls)
        self.assertEqual(self.image_format,
                         self.user.image(held.image_id)['disk_format'])
        with self.content_of(held.image_id) as image:
            self.assertEqual(self.image_format, info(image)['format'])
            self.assertEqual(self.is_compressed, is_compressed(image))
            found = oracle.content(image, copies.FILE)
        self.assertEqual(old, hashlib.md5(found).hexdigest())
        self.assertEqual(domain_id, self.domain_id())

    def kill_nova_compute_during_the_copy(self) -> None:
        """Nothing is left, and the guest did not notice."""
        self.fill(FILL_MIB)
        domain_id = self.domain_id()
        self.addCleanup(self.lab.start, 'nova-compute')
        with self.held_copy() as held:
            self.lab.kill('nova-compute')
            self.assert_writing()
            # QEMU ends no job while somebody who reads stands still.
            held.release()
            self.assertTrue(proc.wait_for_end([held.process], base.SOON))
            # The guard has none of nova-compute's rights on its files.
            waiting.wait(lambda: not self.has_job(), base.SOON,
                         'the job to end')
            others = self._place_of_another_host()
            self.lab.start('nova-compute')
        others.rmdir()
        self.assert_nothing_left()
        self.assertEqual('ACTIVE', self.wait_until_done()['status'])
        self.assertEqual(domain_id, self.domain_id())
        self._remove_novas_own()

    def _place_of_another_host(self) -> pathlib.Path:
        """Make such a directory as that of a host whose name goes on."""
        ours, = self.left_over()
        others = self.snapshots / (
            '%s-gpu-abcd_123' % ours.name.rpartition('-')[0])
        others.mkdir()
        return others

    def _remove_novas_own(self) -> None:
        # It does not look for what it was at as it was killed.
        for directory in self.snapshots.glob('tmp*'):
            shutil.rmtree(directory)


class QcowDiskTest(FormatTestCase):
    """The disk is a qcow2, and so is the image. It needs no file."""

    shares_server = True

    def test_what_is_written_during_the_copy_is_not_in_it(self) -> None:
        self.write_during_the_copy()

    def test_required_and_dead_agent(self) -> None:
        self.require()
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_refused(taken, 'install and start qemu-guest-agent')
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
        self.assert_nothing_left()

    def test_preferred_and_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_crash(taken, 'not connected')
        self.assert_nothing_left()

    def test_nova_compute_killed_during_the_copy(self) -> None:
        self.kill_nova_compute_during_the_copy()

    def test_image_deleted_during_the_copy(self) -> None:
        self.fill(FILL_MIB)
        with self.held_copy() as held:
            self.user.api.call('DELETE', 'glance',
                               '/v2/images/%s' % held.image_id)
            # It is still held: the watch alone can end it.
            self.assertTrue(proc.wait_for_end([held.process], ASKED_SECONDS))
        self.assertEqual('ACTIVE', self.wait_until_done()['status'])
        self.assertEqual([], self.user.images_named('test-held'))
        self.assert_nothing_left()


class RawDiskTest(FormatTestCase):
    """The disk is raw, and so is the image."""

    shares_server = True
    options: typing.ClassVar = {'libvirt': {'images_type': 'raw'}}
    image_format = 'raw'

    def test_what_is_written_during_the_copy_is_not_in_it(self) -> None:
        self.write_during_the_copy()


class CompressedTest(FormatTestCase):
    """The disk is raw, and the image is a qcow2, compressed, in a file."""

    shares_server = True
    options: typing.ClassVar = {'libvirt': {
        'images_type': 'raw', 'snapshot_image_format': 'qcow2',
        'snapshot_compression': True}}
    is_compressed = True

    def test_what_is_written_during_the_copy_is_not_in_it(self) -> None:
        self.write_during_the_copy()


class FileTest(FormatTestCase):
    """The disk is raw, and the image a qcow2 in a file, by an option."""

    shares_server = True
    options: typing.ClassVar = {
        'libvirt': {'images_type': 'raw', 'snapshot_image_format': 'qcow2'},
        'quiesce': {'direct_upload': False}}

    def test_what_is_written_during_the_copy_is_not_in_it(self) -> None:
        self.write_during_the_copy()

    def test_nova_compute_killed_during_the_copy(self) -> None:
        self.kill_nova_compute_during_the_copy()

    def _snapshot_and_be_refused(self, reason: str) -> None:
        before = set(self.snapshots.glob('*'))
        taken = self.snapshot()
        self.assert_refused(taken, reason)
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
        self.assertEqual(before, set(self.snapshots.glob('*')))

    def test_backup_job_of_somebody_else(self) -> None:
        """The other job goes on, and the guest is not frozen for nothing."""
        reason = "another program's backup job is under way"
        with self.domain() as domain:
            with foreign.backup(domain, self.lab.paths.run) as see:
                self._snapshot_and_be_refused(reason)
                see()
                self.require()
                self._snapshot_and_be_refused(reason)
                see()
        self.assert_healthy(self.snapshot())

    def test_copy_job_of_somebody_else(self) -> None:
        with self.domain() as domain:
            with foreign.copy(domain, self.lab.paths.run) as see:
                self._snapshot_and_be_refused('another copy job is under way')
                see()
        self.assert_nothing_left()

    def test_backup_job_of_another_disk(self) -> None:
        """The other job goes on beside a mirror; the guest is frozen once."""
        self.require()
        run = self.lab.paths.run
        with self.domain() as domain:
            with foreign.disk(domain, run, 'vdz'), foreign.backup(
                    domain, run, 'vdz') as see:
                taken = self.snapshot()
                see()
        self.assert_healthy(taken)


class DeletedServerTest(copies.CopyTestCase):
    """The server is deleted while its disk is copied."""

    def setUp(self) -> None:
        # No guest is left that could be thawed.
        self.user.wait_until_writing(self.server)

    def test_nothing_is_left(self) -> None:
        self.fill(FILL_MIB)
        before = set(self.snapshots.glob('*'))
        with self.held_copy() as held:
            self.user.delete(self.server)
            held.release()
            self.assertTrue(proc.wait_for_end([held.process], base.SOON))
        waiting.wait(lambda: not self.user.images_named('test-held'),
                     base.SOON, 'the image to go')
        waiting.wait(lambda: set(self.snapshots.glob('*')) <= before,
                     base.SOON, 'what the copy left to go')


def info(image: pathlib.Path) -> dict[str, typing.Any]:
    """Return what ``qemu-img`` says of an image."""
    found: dict[str, typing.Any] = json.loads(_qemu_img('info', image))
    return found


def is_compressed(image: pathlib.Path) -> bool:
    """Tell whether there are compressed clusters in an image."""
    if info(image)['format'] == 'raw':
        return False
    return bool(json.loads(_qemu_img('check', image)).get(
        'compressed-clusters', 0))


def _qemu_img(command: str, image: pathlib.Path) -> bytes:
    return subprocess.run(
        ['qemu-img', command, '--output=json', image], check=True,
        capture_output=True).stdout
