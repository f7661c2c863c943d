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

"""The oracle on real filesystems, made by e2fsprogs and qemu-img."""

import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import oracle

MIB = 1024 * 1024
SIZE = 8 * MIB


class OracleTest(unittest.TestCase):

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.image = self.scratch / 'image, with "signs"?'

    def _run(self, *command: str | pathlib.Path) -> None:
        subprocess.run(command, check=True, capture_output=True,
                       env={'PATH': '/usr/sbin:/sbin:/usr/bin:/bin'})

    def _filesystem(self, lines: str | None = '1\n2\n', kind: str = 'ext4',
                    dirty: bool = False, size: int = SIZE) -> bytes:
        tree = self.scratch / 'tree'
        writer = tree / oracle.WRITER_FILE.lstrip('/')
        writer.parent.mkdir(parents=True)
        if lines is not None:
            writer.write_text(lines)
        made = self.scratch / 'filesystem'
        self._run(f'mkfs.{kind}', '-q', '-d', tree, made, f'{size // 1024}k')
        if dirty:
            self._run('debugfs', '-w', '-R', 'feature needs_recovery', made)
        return made.read_bytes()

    def _disk(self, filesystem: bytes) -> None:
        """Put a filesystem into the second partition."""
        entries = [struct.pack('<B3sB3sII', 0, b'', kind, b'', start, size)
                   for kind, start, size in ((0x0e, 2048, 2048),
                                             (0x83, 4096, SIZE // 512))]
        table = b''.join(entries).ljust(64, b'\0') + b'\x55\xaa'
        self.image.write_bytes((b'\0' * 446 + table).ljust(2 * MIB, b'\0')
                               + filesystem)

    def test_clean(self) -> None:
        self._disk(self._filesystem())
        self.assertFalse(oracle.needs_recovery(self.image))

    def test_cut_while_running(self) -> None:
        self._disk(self._filesystem(dirty=True))
        self.assertTrue(oracle.needs_recovery(self.image))

    def test_no_partitions(self) -> None:
        self.image.write_bytes(self._filesystem(dirty=True))
        self.assertTrue(oracle.needs_recovery(self.image))

    def test_journal_far_from_the_superblock(self) -> None:
        self.image.write_bytes(self._filesystem(dirty=True, size=64 * MIB))
        self.assertTrue(oracle.needs_recovery(self.image))

    def test_qcow2(self) -> None:
        self._disk(self._filesystem(dirty=True))
        packed = self.scratch / 'packed'
        self._run('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2',
                  self.image, packed)
        self.assertTrue(oracle.needs_recovery(packed))
        self.assertEqual(b'1\n2\n',
                         oracle.content(packed, oracle.WRITER_FILE))

    def test_nothing_left_behind(self) -> None:
        self._disk(self._filesystem())
        before = set(self.scratch.iterdir())
        oracle.needs_recovery(self.image)
        self.assertEqual(before, set(self.scratch.iterdir()))

    def _assert_no_answer(self, why: str) -> None:
        with self.assertRaisesRegex(oracle.OracleError, why):
            oracle.needs_recovery(self.image)

    def test_a_filesystem_without_a_journal(self) -> None:
        self._disk(self._filesystem(kind='ext2'))
        self._assert_no_answer('no journal')

    def test_no_filesystem(self) -> None:
        self._disk(b'\0' * SIZE)
        self._assert_no_answer('no ext4')

    def test_a_partition_beyond_the_end(self) -> None:
        self._disk(self._filesystem()[:MIB])
        self._assert_no_answer('no ext4')

    def test_an_empty_image(self) -> None:
        self.image.write_bytes(b'')
        self._assert_no_answer('no ext4')

    def test_no_image(self) -> None:
        self._assert_no_answer('qemu-img')

    def test_content(self) -> None:
        self._disk(self._filesystem('9\n10\n1'))
        self.assertEqual(b'9\n10\n1',
                         oracle.content(self.image, oracle.WRITER_FILE))

    def test_no_content(self) -> None:
        self._disk(self._filesystem(''))
        self.assertEqual(b'', oracle.content(self.image, oracle.WRITER_FILE))

    def test_no_file(self) -> None:
        self._disk(self._filesystem(None))
        with self.assertRaisesRegex(oracle.OracleError, 'no /var/lib'):
            oracle.content(self.image, oracle.WRITER_FILE)

    def test_copy_is_removed(self) -> None:
        """Also where there is no answer."""
        self._disk(self._filesystem(dirty=True))
        copy = self.scratch / 'copy'
        self.assertTrue(oracle.copy_needs_recovery(
            copy, lambda target: target.hardlink_to(self.image)))
        self.assertFalse(copy.exists())
        with self.assertRaises(oracle.OracleError):
            oracle.copy_needs_recovery(copy, lambda target: target.touch())
        self.assertFalse(copy.exists())
