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
"""Copying a disk's export into an image, watched all the while."""

from collections import abc
import os
import re
import subprocess
import tempfile
from urllib import parse

from nova_quiesce.freeze import texts

#: Seconds between two looks at the copy and its surroundings.
LOOK_INTERVAL = 0.5

#: Called at each look, with how much is done, in percent. What it raises
#: ends the copy.
Watch = abc.Callable[[float], None]

_PROGRESS = re.compile(rb'\((\d+\.\d+)/100%\)')
# In bytes.
_TEXT = 65536
_FORMATS = {'iso': 'raw', 'ploop': 'parallels'}


class CopyFailed(Exception):
    """The disk was not copied; the text says why."""


def export_url(socket: str, name: str) -> str:
    """The address of an NBD export.

    :param socket: the path of its unix socket
    :param name: the export's name
    """
    return 'nbd+unix:///%s?socket=%s' % (
        parse.quote(name, safe=''), parse.quote(socket))


def convert(source: str, target: str, image_format: str, is_compressed: bool,
            is_direct: bool, watch: Watch) -> None:
    """Copy a raw export into an image file.

    :param source: the export's address
    :param target: the file to write
    :param image_format: Glance's name of its format
    :param is_compressed: whether its data is compressed
    :param is_direct: whether it can be written without the page cache
    :param watch: called at each look
    :raises CopyFailed: it cannot be done
    """
    command = ['qemu-img', 'convert', '-p', '-f', 'raw',
               '-t', 'none' if is_direct else 'writeback',
               '-O', _FORMATS.get(image_format, image_format),
               *(['-c'] if is_compressed else []), source, target]
    try:
        _run(command, watch)
    except OSError as error:
        raise CopyFailed('qemu-img: %s' % error) from error


def _run(command: list[str], watch: Watch) -> None:
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=told,
                stderr=errors, env=os.environ | {'LC_ALL': 'C'}) as process:
            _attend(process, told.fileno(), watch)
        if process.returncode:
            raise CopyFailed('qemu-img: %s' % texts.printable(
                os.pread(errors.fileno(), _TEXT, 0).decode(errors='replace')))


def _attend(process: subprocess.Popen[bytes], told: int,
            watch: Watch) -> None:
    try:
        while not _has_ended(process):
            watch(_progress(told))
    except BaseException:
        process.kill()
        raise


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(LOOK_INTERVAL)
    except subprocess.TimeoutExpired:
        return False
    return True


def _progress(told: int) -> float:
    # It is told at each percent, so this is never long.
    found = _PROGRESS.findall(os.pread(told, _TEXT, 0))
    return float(found[-1]) if found else 0
