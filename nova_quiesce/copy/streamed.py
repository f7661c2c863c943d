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
"""An image that is made as it is read: no file of it is there at any time."""

from collections import abc
import contextlib
import os
import subprocess
import sys
import tempfile
import threading

from nova_quiesce.copy import convert
from nova_quiesce.copy.stream import program
from nova_quiesce.freeze import texts

#: Glance's names of the formats that can be made so.
FORMATS = frozenset(program.WRITERS)

# In bytes.
_TEXT = 65536


def command(socket: str, export: str, image_format: str) -> list[str]:
    """The command that makes an image of an export.

    :param socket: the unix socket of the export's server
    :param export: the export's name
    :param image_format: one of :data:`FORMATS`
    """
    return [sys.executable, '-m', 'nova_quiesce.copy.stream', socket, export,
            convert.export_url(socket, export), image_format]


class StreamedImage:
    """An image that a program writes, watched until it is closed.

    Who reads it may take any time, so the watch has a thread of its own.

    :param arguments: the program's, with its name
    :param watch: called at each look, with how much was read, in percent
    :param release: called as soon as nothing is left to read, or the watch
        has raised
    :ivar length: the whole image's, in bytes; 0 until it is known
    :raises CopyFailed: the program cannot be started
    """

    def __init__(self, arguments: abc.Sequence[str], watch: convert.Watch,
                 release: abc.Callable[[], object]) -> None:
        self._watch = watch
        self._release = release
        self.length = 0
        self._read = 0
        self._failure: Exception | None = None
        self._is_over = threading.Event()
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self._errors = undo.enter_context(tempfile.TemporaryFile())
            self._process = self._start(arguments)
            undo.callback(self._end_process)
            threading.Thread(target=self._attend, daemon=True,
                             name='watch-upload').start()
            undo.callback(self._is_over.set)
            self._resources = undo.pop_all()

    def read(self, size: int) -> bytes:
        """Read on.

        :param size: how many bytes at most
        :returns: nothing only where the image is complete
        :raises CopyFailed: it cannot be made
        :raises Exception: what the watch raised
        """
        if not self.length:
            told = self._take(program.LENGTH.size)
            if len(told) == program.LENGTH.size:
                (self.length,) = program.LENGTH.unpack(told)
        content = self._take(min(size, self.length - self._read))
        self._read += len(content)
        if content:
            return content
        if not self._is_complete():
            raise self._failure or convert.CopyFailed(self._complaint())
        self._release()
        return b''

    def close(self) -> None:
        """End the program, and the watch."""
        self._resources.close()

    def _is_complete(self) -> bool:
        return bool(self.length) and self._read == self.length

    def _take(self, size: int) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def _start(self, arguments: abc.Sequence[str]
               ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=self._errors, env=os.environ | {'LC_ALL': 'C'})
        except OSError as error:
            raise convert.CopyFailed('%s: %s' % (
                arguments[0], error)) from error

    def _end_process(self) -> None:
        self._process.kill()
        with self._process:
            pass

    def _complaint(self) -> str:
        status = self._process.wait()
        text = os.pread(self._errors.fileno(), _TEXT, 0)
        return ('the image was not made; there were %d bytes of %d, and the '
                'program ended with status %d: %s' % (
                    self._read, self.length, status, texts.printable(
                        text.decode(errors='replace'))))

    def _attend(self) -> None:
        while not self._is_over.wait(convert.LOOK_INTERVAL):
            try:
                self._watch(100 * self._read / (self.length or 1))
            except Exception as error:
                self._failure = error
                self._process.kill()
                self._release()
                return
