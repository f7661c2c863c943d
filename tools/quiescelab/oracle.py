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

"""Looks into a copy of a disk, which tells how it was taken.

ext4 sets ``needs_recovery`` while it is mounted and clears it when it is
frozen or unmounted. A copy with the flag clear was cut inside a freeze, or
offline; fsck and databases' own checks pass in either case and prove nothing.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import struct
import subprocess
import tempfile

#: Of a superblock: where it is, and where in it the magic number is.
SUPERBLOCK = 1024
MAGIC_AT = SUPERBLOCK + 56
MAGIC = b'\x53\xef'
#: The bytes of a filesystem that show whether it is ext4.
HEAD = 2 * SUPERBLOCK
#: Bytes in which all is that ``debugfs`` reads for the superblock's features.
HEADER = 1 << 20

SECTOR = 512
MBR_TABLE = 446
TYPE_LINUX = 0x83

#: The file of the test guest's writer.
WRITER_FILE = '/var/lib/writer/lines'


class OracleError(Exception):
    """The image cannot answer the question; the text says why."""


@dataclasses.dataclass(frozen=True)
class _Disk:
    """An image of which parts can be read, whatever its format."""

    image: pathlib.Path
    format: str
    #: In bytes.
    size: int

    @classmethod
    def open(cls, image: pathlib.Path) -> '_Disk':
        info = json.loads(_run('qemu-img', 'info', '--output=json', image))
        return cls(image, info['format'], info['virtual-size'])

    def extract(self, start: int, length: int, target: pathlib.Path) -> None:
        """Copy a part to a raw and sparse file."""
        file = {'driver': 'file', 'filename': str(self.image)}
        disk = {'driver': self.format, 'file': file}
        part = {'driver': 'raw', 'offset': start, 'size': length, 'file': disk}
        _run('qemu-img', 'convert', '-O', 'raw', f'json:{json.dumps(part)}',
             target)

    def read(self, start: int, length: int, scratch: pathlib.Path) -> bytes:
        """Read a part by way of a scratch file."""
        self.extract(start, length, scratch)
        return scratch.read_bytes()


def needs_recovery(image: pathlib.Path) -> bool:
    """Tell whether a filesystem was neither frozen nor unmounted when copied.

    :param image: a disk image in any format of qemu-img, which nobody writes
        to; its ext4 is in a partition of an MBR or takes the whole disk
    :raises OracleError: there is no ext4 with a journal
    """
    with _filesystem(image, HEADER) as raw:
        # dumpe2fs would read the journal, too.
        header = _run('debugfs', '-R', 'stats -h', raw).decode(
            errors='replace')
    found = re.search(r'^Filesystem features: +(.*)$', header, re.MULTILINE)
    features = found.group(1).split() if found else []
    if 'has_journal' not in features:
        raise OracleError(f'{image}: the filesystem has no journal')
    return 'needs_recovery' in features


def copy_needs_recovery(copy: pathlib.Path,
                        make: Callable[[pathlib.Path], None]) -> bool:
    """Tell the same of a copy that is made for that, and removed.

    :param copy: where the copy is to be
    :param make: makes it there
    """
    try:
        make(copy)
        return needs_recovery(copy)
    finally:
        copy.unlink(missing_ok=True)


def content(image: pathlib.Path, path: str) -> bytes:
    """Read a file of the filesystem.

    :param image: as in :func:`needs_recovery`
    :param path: the file's in the guest
    :raises OracleError: there is no ext4, or not the file
    """
    with _filesystem(image) as raw:
        # debugfs ends with status 0 in any case.
        found = _run('debugfs', '-R', f'stat {path}', raw)
        if b'Type: regular' not in found:
            raise OracleError(f'{image}: there is no {path}')
        return _run('debugfs', '-R', f'cat {path}', raw)


@contextlib.contextmanager
def _filesystem(image: pathlib.Path,
                most: int | None = None) -> Iterator[pathlib.Path]:
    """Copy the first ext4 of a disk to a raw file beside the image.

    :param most: bytes of it that are wanted; the rest is a hole
    """
    disk = _Disk.open(image)
    with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
        part = pathlib.Path(scratch) / 'part'
        for start, length in _candidates(disk, part):
            head = disk.read(start, HEAD, part)
            if head[MAGIC_AT:MAGIC_AT + len(MAGIC)] == MAGIC:
                disk.extract(start, min(length, most or length), part)
                os.truncate(part, length)
                yield part
                return
    raise OracleError(f'{image}: no ext4 found')


def _candidates(disk: _Disk,
                scratch: pathlib.Path) -> list[tuple[int, int]]:
    """List where on a disk a filesystem can be.

    :returns: start and length in bytes, the whole disk last
    """
    if disk.size < HEAD:
        return []
    found = []
    mbr = disk.read(0, SECTOR, scratch)
    if mbr.endswith(b'\x55\xaa'):
        table = struct.iter_unpack('<B3sB3sII', mbr[MBR_TABLE:SECTOR - 2])
        found = [(start * SECTOR, length * SECTOR)
                 for _, _, kind, _, start, length in table
                 if kind == TYPE_LINUX]
    # A table may be older than the disk is, or be noise.
    return [(start, length) for start, length in [*found, (0, disk.size)]
            if HEAD <= length <= disk.size - start]


def _run(*command: str | pathlib.Path) -> bytes:
    try:
        return subprocess.run(command, check=True, capture_output=True,
                              env=_environment()).stdout
    except FileNotFoundError as e:
        raise OracleError(f'{e.filename} is not installed') from e
    except subprocess.CalledProcessError as e:
        said = e.stderr.decode(errors='replace').strip()
        raise OracleError(f'{command[0]} ended with status {e.returncode}: '
                          f'{said}') from e


def _environment() -> dict[str, str]:
    # A user's path often lacks the directory of debugfs.
    path = os.environ.get('PATH', '/usr/bin:/bin') + ':/usr/sbin:/sbin'
    return {**os.environ, 'PATH': path, 'LC_ALL': 'C'}
