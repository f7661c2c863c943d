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

"""What holds for each disk: its images are whole, and the same as it."""

from collections import abc
import pathlib
import subprocess
import tempfile
import typing
import unittest

import hypothesis
from hypothesis import strategies

from nova_quiesce.copy.stream import nbd
from nova_quiesce.copy.stream import program
from nova_quiesce.copy.stream import qcow2
from tests.unit import any_input

_SECTOR = 512
#: A disk's size, in sectors: up to 4 MiB.
_SIZES = strategies.integers(1, (4 << 20) // _SECTOR)
#: A byte, and where it is written, in sectors.
_WRITES = strategies.lists(strategies.tuples(
    strategies.integers(0, 3), strategies.integers(0, 8192),
    strategies.integers(1, 600)), max_size=6)
#: Clusters of a large disk that hold data, as many as 1 TiB has.
_CLUSTERS = strategies.sets(strategies.integers(0, (1 << 24) - 1), max_size=5)


class Export:
    """An export of a disk that is in memory.

    :param disk: what is on it
    """

    def __init__(self, disk: bytes) -> None:
        self.size = len(disk)
        self._disk = disk

    def read(self, ranges: abc.Iterable[nbd.Range]) -> abc.Iterator[bytes]:
        """Read parts of it."""
        for start, length in ranges:
            assert 0 < length <= nbd.LONGEST
            assert start + length <= self.size
            yield self._disk[start:start + length]


def _written(sectors: int, writes: list[tuple[int, int, int]]) -> bytes:
    disk = bytearray(sectors * _SECTOR)
    for byte, start, length in writes:
        end = min(start + length, sectors)
        if start < end:
            disk[start * _SECTOR:end * _SECTOR] = (
                bytes([byte]) * ((end - start) * _SECTOR))
    return bytes(disk)


def _parts(sectors: int, writes: list[tuple[int, int, int]]
           ) -> list[nbd.Range]:
    """The parts that were written to, in order, as an export tells them."""
    numbers = sorted({number for _byte, start, length in writes
                      for number in range(start, min(start + length, sectors))
                      })
    return [(first * _SECTOR, count * _SECTOR)
            for first, count in program._merge(numbers)]


class AnyDiskTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.image = pathlib.Path(scratch, 'image')
        self.disk = pathlib.Path(scratch, 'disk')

    def _image_of(self, disk: bytes, parts: list[nbd.Range],
                  image_format: str) -> bytes:
        image = bytearray()
        program.WRITERS[image_format](
            typing.cast(nbd.Export, Export(disk)), parts, image.extend)
        self.assertEqual(len(image) - 8, int.from_bytes(image[:8]))
        return bytes(image[8:])

    def _check(self) -> None:
        image, disk = str(self.image), str(self.disk)
        for command in (
                ['check', '-q', '-f', 'qcow2', image],
                ['compare', '-q', '-f', 'raw', '-F', 'qcow2', disk, image]):
            done = subprocess.run(
                ['qemu-img', *command], check=False, capture_output=True)
            self.assertEqual((0, b'', b''), (
                done.returncode, done.stdout, done.stderr))

    @hypothesis.given(_SIZES, _WRITES)
    def test_raw(self, sectors: int,
                 writes: list[tuple[int, int, int]]) -> None:
        disk = _written(sectors, writes)
        self.assertEqual(disk, self._image_of(
            disk, _parts(sectors, writes), 'raw'))

    @any_input.some(20)
    @hypothesis.given(_SIZES, _WRITES)
    def test_qcow2(self, sectors: int,
                   writes: list[tuple[int, int, int]]) -> None:
        disk = _written(sectors, writes)
        self.disk.write_bytes(disk)
        self.image.write_bytes(self._image_of(
            disk, _parts(sectors, writes), 'qcow2'))
        self._check()

    @any_input.some(20)
    @hypothesis.given(_CLUSTERS, strategies.integers(0, 1 << 20))
    def test_large_qcow2(self, clusters: set[int], more: int) -> None:
        """Of which the images are mostly holes here."""
        size = (max(clusters, default=0) + 1) * qcow2.CLUSTER + (
            more * _SECTOR)
        image = qcow2.Image(size, program._merge(sorted(clusters)))
        with open(self.disk, 'wb') as disk, open(self.image, 'wb') as made:
            disk.truncate(size)
            for table in image.tables():
                made.write(table)
            for number in sorted(clusters):
                content = b'%016d' % number * (qcow2.CLUSTER // 16)
                made.write(content)
                disk.seek(number * qcow2.CLUSTER)
                disk.write(content)
            self.assertEqual(image.length, made.tell())
        self._check()
