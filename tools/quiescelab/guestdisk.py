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

"""A disk image that boots by itself, made without mounts or loop devices."""

import pathlib
import struct

from quiescelab import gueststep

MIB = 1024 * 1024
SECTOR = 512
BOOT_START = 1 * MIB
BOOT_SIZE = 31 * MIB
ROOT_START = BOOT_START + BOOT_SIZE
#: With the boot partition 512 MiB: fits small flavors, has room to write.
ROOT_SIZE = 480 * MIB

TYPE_FAT16_LBA = 0x0e
TYPE_LINUX = 0x83

MBR_CODE = (pathlib.Path('/usr/lib/SYSLINUX/mbr.bin'),
            pathlib.Path('/usr/lib/syslinux/mbr/mbr.bin'))
#: The partition table follows the boot code and the disk's signature.
MBR_TABLE = 446


def make(disk: pathlib.Path, boot: pathlib.Path, root: pathlib.Path) -> None:
    """Make a raw disk image.

    :param disk: the image to make
    :param boot: a directory; its files go to the boot partition
    :param root: a directory; it becomes the root filesystem
    :raises GuestError: a command fails
    """
    with disk.open('wb') as f:
        f.write(_mbr())
        f.truncate(ROOT_START + ROOT_SIZE)
    _make_boot(disk, boot)
    _make_root(disk, root)


def pack(disk: pathlib.Path, dest: pathlib.Path) -> None:
    """Turn a raw image into a compressed qcow2.

    :raises GuestError: a command fails
    """
    gueststep.run('pack the disk', (
        'qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', disk, dest))


def unpack(source: pathlib.Path, disk: pathlib.Path) -> None:
    """Turn a qcow2 into a raw image.

    :raises GuestError: a command fails
    """
    gueststep.run('unpack the disk', (
        'qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', source, disk))


def replace_boot_file(disk: pathlib.Path, source: pathlib.Path) -> None:
    """Replace a file of the boot partition.

    :param disk: a raw image
    :param source: a file of that name
    :raises GuestError: a command fails
    """
    gueststep.run('change the boot partition', (
        'mcopy', '-o', '-i', f'{disk}@@{BOOT_START}', source, '::/'))


def _mbr() -> bytes:
    code = next((path for path in MBR_CODE if path.exists()), None)
    if code is None:
        raise gueststep.GuestError('make the disk: there is no mbr.bin; '
                                   'install syslinux')
    table = (_entry(0x80, TYPE_FAT16_LBA, BOOT_START, BOOT_SIZE)
             + _entry(0, TYPE_LINUX, ROOT_START, ROOT_SIZE))
    start = code.read_bytes()[:440].ljust(MBR_TABLE, b'\0') + table
    return start.ljust(SECTOR - 2, b'\0') + b'\x55\xaa'


def _entry(flag: int, kind: int, start: int, size: int) -> bytes:
    # The cylinders of all modern tables: "see the sector numbers".
    chs = b'\xfe\xff\xff'
    return struct.pack('<B3sB3sII', flag, chs, kind, chs, start // SECTOR,
                       size // SECTOR)


def _make_boot(disk: pathlib.Path, boot: pathlib.Path) -> None:
    step = 'make the boot partition'
    start = str(BOOT_START // SECTOR)
    gueststep.run(step, (
        'mkfs.fat', '-F', '16', '--offset', start, '-h', start, disk,
        str(BOOT_SIZE // 1024)))
    gueststep.run(step, (
        'mcopy', '-i', f'{disk}@@{BOOT_START}', *sorted(boot.iterdir()),
        '::/'))
    gueststep.run(step, (
        'syslinux', '--install', '-t', str(BOOT_START), disk))


def _make_root(disk: pathlib.Path, root: pathlib.Path) -> None:
    # Not lazily: a kernel that still writes inode tables in the background
    # would disturb who measures the first minutes of a guest.
    extended = (f'offset={ROOT_START},root_owner=0:0,lazy_itable_init=0,'
                'lazy_journal_init=0')
    gueststep.run('make the root filesystem', (
        'mkfs.ext4', '-q', '-F', '-L', 'quiesce-root', '-b', '4096',
        '-N', '8192', '-J', 'size=8', '-E', extended, '-d', root, disk,
        f'{ROOT_SIZE // 1024}k'))
