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
"""A real NBD server for tests."""

import os
import pathlib
import socket
import subprocess
import time
import typing

import fixtures

#: How the disk is exported.
NAME = 'vda'
_SECONDS = 30


class DiskFixture(fixtures.Fixture):
    """A disk, and ``qemu-nbd`` to export it.

    :param size: the disk's, in bytes
    :param writes: what is on it: byte, offset and length of each part
    :ivar path: the disk, a qcow2
    :ivar socket: the server's, once it is started
    """

    def __init__(self, size: int, *writes: tuple[int, int, int]) -> None:
        super().__init__()
        self._size = size
        self._writes = writes
        self._server: subprocess.Popen[bytes] | None = None

    def _setUp(self) -> None:
        self._directory = self.useFixture(fixtures.TempDir()).path
        self.path = os.path.join(self._directory, 'disk')
        self.socket = os.path.join(self._directory, 'nbd')
        _run('qemu-img', 'create', '-q', '-f', 'qcow2', self.path,
             str(self._size))
        commands = ['write -q -P %d %d %d' % write for write in self._writes]
        _run('qemu-io', *(part for command in commands
                          for part in ('-c', command)), self.path)
        self.addCleanup(self.stop)

    def start(self, where: str | None = None) -> typing.Self:
        """Export the disk.

        :param where: the socket; one of its own by default
        """
        self.socket = where or self.socket
        self._server = subprocess.Popen(
            ['qemu-nbd', '--read-only', '--persistent', '--format=qcow2',
             '--socket', self.socket, '--export-name', NAME, self.path],
            stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _SECONDS
        while not self._is_served():
            assert time.monotonic() < deadline, 'no NBD server'
            time.sleep(0.01)
        return self

    def _is_served(self) -> bool:
        # The socket is there a moment before it is listened on.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
        return True

    def stop(self) -> None:
        """End the export, if there is one."""
        if self._server is not None:
            # It loses a SIGTERM that comes between its making the socket and
            # its main loop (QEMU 7.2), and then never ends.
            self._server.kill()
            self._server.wait()
            self._server = None

    def differs_from(self, image: str, image_format: str) -> str:
        """What tells an image from the disk; nothing where it is the same.

        :param image: its file
        :param image_format: its format
        """
        done = subprocess.run(
            ['qemu-img', 'compare', '-f', image_format, '-F', 'qcow2', image,
             self.path], check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        return done.stdout if done.returncode else ''

    def converted_size(self) -> int:
        """How long a qcow2 is that ``qemu-img`` makes of the disk."""
        target = pathlib.Path(self._directory, 'converted')
        _run('qemu-img', 'convert', '-O', 'qcow2', self.path, str(target))
        return target.stat().st_size


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
