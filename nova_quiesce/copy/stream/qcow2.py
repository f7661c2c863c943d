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
"""Writing a qcow2 image from its first byte to its last.

A program that makes such an image usually goes back and forth in its file.
Where it is known before which clusters hold data, all tables can come first,
and then the data, in order. See QEMU's ``docs/interop/qcow2.txt`` for the
format; here are version 3, clusters of 64 KiB and references of 16 bits,
which is what ``qemu-img`` makes by default.
"""

import array
from collections import abc
import struct
import sys

CLUSTER_BITS = 16
#: The size of a cluster, in bytes.
CLUSTER = 1 << CLUSTER_BITS
# How many entries fit into one cluster of each table.
_ENTRIES = CLUSTER // 8
_REFERENCES = CLUSTER // 2
_REFERENCE_ORDER = 4
# In a table's entry: what it points to is used once.
_USED_ONCE = 1 << 63
_VERSION = 3
_HEADER = struct.Struct('>4sIQIIQIIQQIIQQQQII')

#: Clusters that follow each other: the first one's number, and how many.
Run = tuple[int, int]


class Image:
    """An image of a disk.

    :param size: of the disk, in bytes
    :param data: the clusters of the disk that hold data, in order
    :ivar length: of the image, in bytes
    """

    def __init__(self, size: int, data: abc.Sequence[Run]) -> None:
        self._size = size
        self._data = data
        self._top_entries = _divide(_divide(size, CLUSTER), _ENTRIES)
        self._top = max(1, _divide(self._top_entries, _ENTRIES))
        #: The numbers of those index tables (L2) that are not empty.
        self._indexes = _indexes(data)
        counted = (1 + self._top + len(self._indexes) +
                   sum(count for _first, count in data))
        self._blocks = _blocks(counted)
        self._block_table = _divide(self._blocks, _ENTRIES)
        self._clusters = counted + self._blocks + self._block_table
        self.length = self._clusters * CLUSTER

    def tables(self) -> abc.Iterator[bytes]:
        """The image's beginning, up to the first cluster of data."""
        first_table = 1 + self._top
        first_block = first_table + self._block_table
        first_index = first_block + self._blocks
        yield self._header(first_table)
        yield self._top_table(first_index)
        yield _table(_offsets(first_block, self._blocks), self._block_table)
        yield from self._reference_blocks()
        yield from self._index_tables(first_index + len(self._indexes))

    def _header(self, first_table: int) -> bytes:
        return _HEADER.pack(
            b'QFI\xfb', _VERSION, 0, 0, CLUSTER_BITS, self._size, 0,
            self._top_entries, CLUSTER, first_table * CLUSTER,
            self._block_table, 0, 0, 0, 0, 0, _REFERENCE_ORDER, _HEADER.size,
        ).ljust(CLUSTER, b'\0')

    def _top_table(self, first_index: int) -> bytes:
        entries = array.array('Q', bytes(8 * self._top_entries))
        for place, number in enumerate(self._indexes, first_index):
            entries[number] = place * CLUSTER | _USED_ONCE
        return _table(entries, self._top)

    def _reference_blocks(self) -> abc.Iterator[bytes]:
        left = self._clusters
        for _block in range(self._blocks):
            used = min(left, _REFERENCES)
            yield (b'\0\1' * used).ljust(CLUSTER, b'\0')
            left -= used

    def _index_tables(self, first_data: int) -> abc.Iterator[bytes]:
        entries = array.array('Q', bytes(CLUSTER))
        current: int | None = None
        place = first_data
        for number in _each(self._data):
            table, entry = divmod(number, _ENTRIES)
            if table != current:
                if current is not None:
                    yield _table(entries, 1)
                    entries = array.array('Q', bytes(CLUSTER))
                current = table
            entries[entry] = place * CLUSTER | _USED_ONCE
            place += 1
        if current is not None:
            yield _table(entries, 1)


def _indexes(data: abc.Iterable[Run]) -> list[int]:
    found: dict[int, None] = {}
    for first, count in data:
        found.update(dict.fromkeys(range(
            first // _ENTRIES, (first + count - 1) // _ENTRIES + 1)))
    return list(found)


def _blocks(counted: int) -> int:
    # The blocks of references count themselves, and their table.
    blocks = 1
    while blocks * _REFERENCES < counted + blocks + _divide(blocks, _ENTRIES):
        blocks += 1
    return blocks


def _each(runs: abc.Iterable[Run]) -> abc.Iterator[int]:
    for first, count in runs:
        yield from range(first, first + count)


def _offsets(first: int, count: int) -> 'array.array[int]':
    return array.array(
        'Q', (number * CLUSTER for number in range(first, first + count)))


def _table(entries: 'array.array[int]', clusters: int) -> bytes:
    if sys.byteorder == 'little':
        entries.byteswap()
    return entries.tobytes().ljust(clusters * CLUSTER, b'\0')


def _divide(amount: int, unit: int) -> int:
    return -(-amount // unit)
