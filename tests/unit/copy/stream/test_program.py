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
"""Images of exports, against what ``qemu-img`` says of them."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from unittest import mock

import fixtures
import testtools

from nova_quiesce.copy import convert
from nova_quiesce.copy.stream import program
from nova_quiesce.copy.stream import qcow2
from nova_quiesce.copy import streamed
from tests import nbd_server

MIB = 1 << 20
#: As many clusters as one index table of a qcow2 has entries for.
TABLE = 512 * MIB


class ProgramTest(testtools.TestCase):

    def _stream(self, disk: nbd_server.DiskFixture, image_format: str) -> str:
        """Make an image with the program, and see that it is whole."""
        command = streamed.command(disk.socket, nbd_server.NAME, image_format)
        told = subprocess.run(
            command, check=True, stdout=subprocess.PIPE).stdout
        length, image = told[:8], told[8:]
        self.assertEqual(len(image), int.from_bytes(length))
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, 'image')
        pathlib.Path(path).write_bytes(image)
        self.assertEqual('', disk.differs_from(path, image_format))
        if image_format == 'qcow2':
            subprocess.run(['qemu-img', 'check', '-q', path], check=True)
        return path

    def _disk(self, size: int, *writes: tuple[int, int, int],
              ) -> nbd_server.DiskFixture:
        return self.useFixture(nbd_server.DiskFixture(size, *writes)).start()

    def test_nothing_on_it(self) -> None:
        disk = self._disk(3 * MIB)
        for image_format in streamed.FORMATS:
            self._stream(disk, image_format)

    def test_data_here_and_there(self) -> None:
        disk = self._disk(8 * MIB, (1, 0, 512), (2, MIB - 512, 1024),
                          (3, 3 * MIB + 512, 2 * MIB), (4, 8 * MIB - 512, 512))
        for image_format in streamed.FORMATS:
            self._stream(disk, image_format)

    def test_disk_that_ends_within_a_cluster(self) -> None:
        for writes in ((), ((1, 0, 512),), ((1, MIB, 512),)):
            disk = self._disk(MIB + 512, *writes)
            for image_format in streamed.FORMATS:
                self._stream(disk, image_format)

    def test_several_index_tables(self) -> None:
        disk = self._disk(5 * TABLE, (1, TABLE - MIB, 2 * MIB),
                          (2, 4 * TABLE, 512))
        image = self._stream(disk, 'qcow2')
        self.assertEqual(disk.converted_size(), os.path.getsize(image))

    def test_zeroes_that_were_written_take_no_space(self) -> None:
        disk = self._disk(64 * MIB, (0, 0, 32 * MIB), (1, 8 * MIB, 512))
        image = self._stream(disk, 'qcow2')
        self.assertLess(os.path.getsize(image), MIB)
        self.assertEqual(disk.converted_size(), os.path.getsize(image))

    def test_failure_is_told(self) -> None:
        disk = self._disk(MIB)
        disk.stop()
        done = subprocess.run(
            streamed.command(disk.socket, nbd_server.NAME, 'raw'), check=False,
            capture_output=True, text=True)
        self.assertNotEqual(0, done.returncode)
        self.assertEqual('', done.stdout)
        self.assertNotIn('Traceback', done.stderr)
        self.assertIn('qemu-img', done.stderr)

    def test_run_in_this_process(self) -> None:
        disk = self._disk(MIB, (1, 0, 512))
        with tempfile.TemporaryFile('w') as written:
            with mock.patch.object(sys, 'stdout', written):
                program.run([disk.socket, nbd_server.NAME, convert.export_url(
                    disk.socket, nbd_server.NAME), 'raw'])
            self.assertEqual(8 + MIB, os.fstat(written.fileno()).st_size)

    def test_stopped_and_continued_while_it_writes(self) -> None:
        # A signal cuts a write to a pipe short that waits for its reader.
        disk = self._disk(8 * MIB, (1, 0, 8 * MIB))
        for buffering in ({}, {'PYTHONUNBUFFERED': '1'}):
            with subprocess.Popen(
                    streamed.command(disk.socket, nbd_server.NAME, 'raw'),
                    stdout=subprocess.PIPE,
                    env=_environment() | buffering) as process:
                assert process.stdout is not None
                told = process.stdout.read(8)
                while piece := process.stdout.read(MIB // 4):
                    process.send_signal(signal.SIGSTOP)
                    process.send_signal(signal.SIGCONT)
                    told += piece
            self.assertEqual(0, process.returncode)
            self.assertEqual(8 + 8 * MIB, len(told))
            self.assertEqual({1}, set(told[8:]))

    def test_unknown_format(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as told:
            self.assertRaises(SystemExit, program.run,
                              ['socket', 'vda', 'url', 'vmdk'])
        self.assertIn('vmdk', told.getvalue())


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items()
            if name != 'PYTHONUNBUFFERED'}


class LayoutTest(testtools.TestCase):
    """Images that are too large to be made here."""

    def test_blocks_of_references_count_themselves(self) -> None:
        # With as many clusters as one block counts, and one more.
        per_block = qcow2.CLUSTER // 2
        for clusters in (per_block - 5, per_block - 4, per_block - 3):
            image = qcow2.Image(
                clusters * qcow2.CLUSTER, ((0, clusters),))
            tables = b''.join(image.tables())
            blocks = int.from_bytes(tables[56:60])
            self.assertEqual(1, blocks)
            self.assertEqual(
                image.length, len(tables) + clusters * qcow2.CLUSTER)
            counted = tables.count(b'\0\1' * per_block)
            self.assertLessEqual(counted, 1)

    def test_length_of_a_large_one(self) -> None:
        # 16 TiB, with data at both ends.
        last = (16 << 40) // qcow2.CLUSTER - 1
        image = qcow2.Image(16 << 40, ((0, 1), (last, 1)))
        tables = b''.join(image.tables())
        self.assertEqual(image.length, len(tables) + 2 * qcow2.CLUSTER)
