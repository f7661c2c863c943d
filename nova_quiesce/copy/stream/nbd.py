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
"""Reading from an NBD export.

No more of the protocol than a hypervisor's export on this host takes: no TLS,
no structured replies. See the protocol's own specification, ``doc/proto.md``
of the NBD project, for the numbers here.
"""

import collections
from collections import abc
import socket
import struct
import types
import typing

#: How long a request can be at most, in bytes; servers need not allow more
#: than 32 MiB.
LONGEST = 1 << 20
# Requests that are sent ahead of the answers, so that neither end waits.
_AHEAD = 4

_GREETING = b'NBDMAGICIHAVEOPT'
_OPTION = b'IHAVEOPT'
_EXPORT_NAME = 1
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_REQUEST = struct.Struct('>IHHQQI')
_REPLY = struct.Struct('>IIQ')
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _DISCONNECT = 0, 2

#: A part of a disk: where it begins, and how long it is, in bytes.
Range = tuple[int, int]


class ExportError(Exception):
    """The export cannot be read; the text says why."""


class Export:
    """One export, opened to be read.

    :param path: the server's unix socket
    :param name: the export's name
    :ivar size: the disk's, in bytes
    :raises ExportError: the server does not answer as one does
    :raises OSError: there is none
    """

    def __init__(self, path: str, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
            self.size = self._agree(name.encode())
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        with self._socket:
            if kind is None:
                self._request(_DISCONNECT, 0, (0, 0))

    def read(self, ranges: abc.Iterable[Range]) -> abc.Iterator[bytes]:
        """Read parts of the disk.

        :param ranges: the parts, each of at most :data:`LONGEST` bytes
        :returns: their bytes, in the order of the ranges
        :raises ExportError: one of them could not be read
        """
        lengths: dict[int, int] = {}
        arrived: dict[int, bytes] = {}
        asked: collections.deque[int] = collections.deque()
        for number, one in enumerate(ranges):
            self._request(_READ, number, one)
            lengths[number] = one[1]
            asked.append(number)
            if len(asked) > _AHEAD:
                yield self._await(asked.popleft(), lengths, arrived)
        for number in asked:
            yield self._await(number, lengths, arrived)

    def _await(self, number: int, lengths: dict[int, int],
               arrived: dict[int, bytes]) -> bytes:
        while number not in arrived:
            magic, error, answered = _REPLY.unpack(
                self._receive(_REPLY.size))
            if magic != _REPLY_MAGIC or answered not in lengths:
                raise ExportError('the export answered what was not asked')
            if error:
                raise ExportError('a part of the export cannot be read: '
                                  'error %d' % error)
            arrived[answered] = self._receive(lengths.pop(answered))
        return arrived.pop(number)

    def _agree(self, name: bytes) -> int:
        if self._receive(len(_GREETING)) != _GREETING:
            raise ExportError('this is no NBD server')
        (flags,) = struct.unpack('>H', self._receive(2))
        if not flags & _FIXED_NEWSTYLE or not flags & _NO_ZEROES:
            raise ExportError('this NBD server is too old')
        self._socket.sendall(
            struct.pack('>I', _FIXED_NEWSTYLE | _NO_ZEROES) + _OPTION +
            struct.pack('>II', _EXPORT_NAME, len(name)) + name)
        # A server that has no such export hangs up.
        size, _flags = struct.unpack('>QH', self._receive(10))
        return int(size)

    def _request(self, kind: int, number: int, where: Range) -> None:
        self._socket.sendall(_REQUEST.pack(
            _REQUEST_MAGIC, 0, kind, number, *where))

    def _receive(self, count: int) -> bytes:
        received = bytearray(count)
        view = memoryview(received)
        while view:
            got = self._socket.recv_into(view)
            if not got:
                raise ExportError('the export has gone')
            view = view[got:]
        return bytes(received)
