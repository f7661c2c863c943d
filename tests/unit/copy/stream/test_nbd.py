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
"""Reading an NBD export, and what a server can do wrong."""

from collections import abc
import contextlib
import socket
import struct
import tempfile
import threading
import unittest

import testtools

from nova_quiesce.copy.stream import nbd
from tests import nbd_server

MIB = 1 << 20
GREETING = b'NBDMAGICIHAVEOPT\0\3'
SIZE = struct.pack('>QH', MIB, 0)


def reply(number: int, content: bytes = b'', error: int = 0) -> bytes:
    """A server's answer to a request."""
    return struct.pack('>IIQ', 0x67446698, error, number) + content


class RealExportTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.useFixture(nbd_server.DiskFixture(
            16 * MIB, (1, 0, MIB), (2, 5 * MIB, 512))).start()

    def test_size(self) -> None:
        with nbd.Export(self.disk.socket, nbd_server.NAME) as export:
            self.assertEqual(16 * MIB, export.size)

    def test_order_is_that_of_the_ranges(self) -> None:
        ranges = [(5 * MIB, 1024), (0, MIB), *((n * 512, 512)
                                               for n in range(100))]
        with nbd.Export(self.disk.socket, nbd_server.NAME) as export:
            parts = list(export.read(ranges))
        self.assertEqual(b'\2' * 512 + bytes(512), parts[0])
        self.assertEqual(b'\1' * MIB, parts[1])
        self.assertEqual([b'\1' * 512] * 100, parts[2:])

    def test_no_ranges(self) -> None:
        with nbd.Export(self.disk.socket, nbd_server.NAME) as export:
            self.assertEqual([], list(export.read([])))

    def test_beyond_the_end(self) -> None:
        with testtools.ExpectedException(
                nbd.ExportError, '.*cannot be read.*'):
            with nbd.Export(self.disk.socket, nbd_server.NAME) as export:
                list(export.read([(16 * MIB, 512)]))

    def test_no_such_export(self) -> None:
        with testtools.ExpectedException(nbd.ExportError):
            nbd.Export(self.disk.socket, 'vdb')

    def test_server_that_ends(self) -> None:
        self.assertRaises((OSError, nbd.ExportError),
                          self._read_from_ended)

    def _read_from_ended(self) -> None:
        with nbd.Export(self.disk.socket, nbd_server.NAME) as export:
            self.disk.stop()
            list(export.read([(0, 512)]))


class BadServerTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = '%s/socket' % directory

    def _serve(self, *answers: bytes) -> None:
        listening = self.enterContext(socket.socket(socket.AF_UNIX))
        listening.bind(self.path)
        listening.listen()

        def answer() -> None:
            connection, _address = listening.accept()
            with connection:
                for one in answers:
                    connection.sendall(one)
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(4096):
                        pass

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)

    def _read(self, ranges: abc.Iterable[nbd.Range]) -> list[bytes]:
        # The server does not wait for what it is asked.
        with nbd.Export(self.path, 'vda') as export:
            return list(export.read(ranges))

    def test_answers_in_another_order(self) -> None:
        self._serve(GREETING, SIZE, reply(1, b'bb'), reply(0, b'aaa'))
        self.assertEqual([b'aaa', b'bb'], self._read([(0, 3), (9, 2)]))

    def test_error(self) -> None:
        self._serve(GREETING, SIZE, reply(0, error=5))
        with self.assertRaisesRegex(nbd.ExportError, 'error 5'):
            self._read([(0, 3)])

    def test_what_was_not_asked(self) -> None:
        self._serve(GREETING, SIZE, reply(7, b'aaa'))
        with self.assertRaisesRegex(nbd.ExportError, 'not asked'):
            self._read([(0, 3)])

    def test_same_answer_twice(self) -> None:
        self._serve(GREETING, SIZE, reply(0, b'aaa'), reply(0, b'aaa'))
        with self.assertRaisesRegex(nbd.ExportError, 'not asked'):
            self._read([(0, 3), (3, 3)])

    def test_hanging_up_within_an_answer(self) -> None:
        self._serve(GREETING, SIZE, reply(0, b'a'))
        with self.assertRaisesRegex(nbd.ExportError, 'has gone'):
            self._read([(0, 3)])

    def test_another_kind_of_server(self) -> None:
        self._serve(b'SSH-2.0-a-server-of-another-kind')
        with self.assertRaisesRegex(nbd.ExportError, 'no NBD server'):
            self._read([])

    def test_old_server(self) -> None:
        self._serve(GREETING[:-1] + b'\0')
        with self.assertRaisesRegex(nbd.ExportError, 'too old'):
            self._read([])
