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

"""Running the commands of which building a guest consists."""

from collections.abc import Sequence
import os
import pathlib
import subprocess

#: The host's packages whose commands and files the build uses.
PACKAGES: tuple[str, ...] = (
    'cpio', 'dosfstools', 'e2fsprogs', 'gcc', 'libc6-dev', 'mtools',
    'qemu-utils', 'syslinux', 'zstd')


class GuestError(Exception):
    """The guest cannot be built; the text names the step and the cause."""


def run(step: str, command: Sequence[str | pathlib.Path],
        cwd: pathlib.Path | None = None, stdin: bytes = b'') -> bytes:
    """Run a command of a build step.

    :param step: what the command is for, in the words of an error
    :returns: the command's standard output
    :raises GuestError: it fails; names the step and what it said
    """
    try:
        done = subprocess.run(command, cwd=cwd, input=stdin, check=True,
                              env=_environment(), capture_output=True)
    except FileNotFoundError as e:
        raise GuestError(f'{step}: {e.filename} is not there; install '
                         f'{" ".join(PACKAGES)}') from e
    except subprocess.CalledProcessError as e:
        said = (e.stderr or e.stdout).decode(errors='replace').strip()
        raise GuestError(f'{step}: {command[0]} ended with status '
                         f'{e.returncode}: {said}') from e
    return done.stdout


def _environment() -> dict[str, str]:
    # A user's path often lacks the directories of mkfs.
    path = os.environ.get('PATH', '/usr/bin:/bin') + ':/usr/sbin:/sbin'
    return {**os.environ, 'PATH': path, 'LC_ALL': 'C'}
