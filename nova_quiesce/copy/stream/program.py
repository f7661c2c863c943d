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
"""The program: an export goes in, an image comes out."""

import argparse
from collections import abc
import json
import struct
import subprocess
import sys

from nova_quiesce.copy.stream import nbd
from nova_quiesce.copy.stream import qcow2

#: How the output begins: the image's length in bytes.
LENGTH = struct.Struct('>Q')

_ZEROES = bytes(nbd.LONGEST)

Write = abc.Callable[[bytes], object]


def data_of(export_url: str) -> list[nbd.Range]:
    """The parts of a disk that do not read as zeroes for sure.

    :param export_url: the address of the disk's export
    :raises CalledProcessError: it cannot be asked
    """
    told = subprocess.run(
        ['qemu-img', 'map', '--output=json', '-f', 'raw', export_url],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    return [(int(part['start']), int(part['length']))
            for part in json.loads(told) if not part['zero']]


def write_raw(export: nbd.Export, data: abc.Iterable[nbd.Range],
              write: Write) -> None:
    """Write a disk as it is.

    :param export: of the disk
    :param data: the parts of it that hold data, in order
    :param write: takes the image, part after part
    """
    write(LENGTH.pack(export.size))
    pieces = list(_pieces(data))
    end = 0
    for (start, length), content in zip(
            pieces, export.read(pieces), strict=True):
        _write_zeroes(start - end, write)
        write(content)
        end = start + length
    _write_zeroes(export.size - end, write)


def write_qcow2(export: nbd.Export, data: abc.Iterable[nbd.Range],
                write: Write) -> None:
    """Write a disk as a qcow2 image, as ``qemu-img convert`` would.

    It is read twice: which clusters are zeroes has to be known before the
    first is written. What is read the second time, is mostly in memory.

    :param export: of the disk
    :param data: the parts of it that may hold data, in order
    :param write: takes the image, part after part
    """
    runs = _merge(_clusters_with_data(export, data))
    image = qcow2.Image(export.size, tuple(runs))
    write(LENGTH.pack(image.length))
    for table in image.tables():
        write(table)
    pieces = [_clip(piece, export.size) for piece in _pieces(
        (first * qcow2.CLUSTER, count * qcow2.CLUSTER)
        for first, count in runs)]
    for content in export.read(pieces):
        write(content)
    # The disk may end within a cluster; an image does not.
    _write_zeroes(-export.size % qcow2.CLUSTER if runs and _is_last(
        runs[-1], export.size) else 0, write)


WRITERS: dict[str, abc.Callable[
    [nbd.Export, abc.Iterable[nbd.Range], Write], None]] = {
        'raw': write_raw, 'qcow2': write_qcow2}


def run(arguments: abc.Sequence[str] | None = None) -> None:
    """Write an image to the standard output.

    :param arguments: the command line, but for the program's name
    """
    parser = argparse.ArgumentParser(prog='nova_quiesce.copy.stream')
    parser.add_argument('socket')
    parser.add_argument('export')
    parser.add_argument('url')
    parser.add_argument('format', choices=WRITERS)
    given = parser.parse_args(arguments)
    try:
        data = data_of(given.url)
        # With PYTHONUNBUFFERED, sys.stdout.buffer writes only part of what it
        # is given where a signal interrupts it, if only SIGCONT, and the rest
        # would be missing in the image.
        with (nbd.Export(given.socket, given.export) as export,
              open(sys.stdout.fileno(), 'wb', closefd=False) as image):
            WRITERS[given.format](export, data, image.write)
    except (nbd.ExportError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))


def _pieces(ranges: abc.Iterable[nbd.Range]) -> abc.Iterator[nbd.Range]:
    for start, length in ranges:
        for at in range(start, start + length, nbd.LONGEST):
            yield at, min(nbd.LONGEST, start + length - at)


def _whole_clusters(data: abc.Iterable[nbd.Range],
                    size: int) -> abc.Iterator[nbd.Range]:
    """The data with the clusters that it touches, none of them twice."""
    end = 0
    for start, length in data:
        begin = max(end, start // qcow2.CLUSTER * qcow2.CLUSTER)
        end = max(end, -(-(start + length) // qcow2.CLUSTER) * qcow2.CLUSTER)
        if end > begin:
            yield _clip((begin, end - begin), size)


def _clusters_with_data(export: nbd.Export, data: abc.Iterable[nbd.Range],
                        ) -> abc.Iterator[int]:
    pieces = list(_pieces(_whole_clusters(data, export.size)))
    for (start, _length), content in zip(
            pieces, export.read(pieces), strict=True):
        for at in range(0, len(content), qcow2.CLUSTER):
            cluster = content[at:at + qcow2.CLUSTER]
            if cluster != _ZEROES[:len(cluster)]:
                yield (start + at) // qcow2.CLUSTER


def _merge(numbers: abc.Iterable[int]) -> list[qcow2.Run]:
    runs: list[qcow2.Run] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def _clip(piece: nbd.Range, size: int) -> nbd.Range:
    return piece[0], min(piece[1], size - piece[0])


def _is_last(run: qcow2.Run, size: int) -> bool:
    return sum(run) * qcow2.CLUSTER >= size


def _write_zeroes(count: int, write: Write) -> None:
    while count:
        part = min(count, len(_ZEROES))
        write(_ZEROES[:part])
        count -= part
