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

"""The disk of the host: real files, whose system calls are points."""

from collections import abc
import fcntl
import os
import pathlib
import shutil
import subprocess
import tempfile
import types
import typing

from tests.simulation import guests
from tests.simulation import scheduler as scheduling
from tests.simulation import world as worlds


class Disk:
    """The system calls of :mod:`nova_quiesce.freeze.files`, as points.

    The files are real ones, on a real filesystem. Locks are not: a task that
    waits for one in the kernel would keep all others waiting.

    :param world: the world
    """

    #: The calls that change what is on the disk.
    _CHANGING = ('link', 'rename', 'unlink', 'fsync')

    def __init__(self, world: worlds.World) -> None:
        self._world = world
        self._locks: dict[
            tuple[int, int], tuple[int, scheduling.Process]] = {}
        self.LOCK_EX = fcntl.LOCK_EX

    def __getattr__(self, name: str) -> typing.Any:
        real = getattr(os, name)
        if name not in self._CHANGING:
            return real

        def call(*arguments: object, **kwargs: object) -> object:
            self._world.point('disk %s: before' % name)
            result = real(*arguments, **kwargs)
            self._world.point('disk %s: after' % name)
            return result

        return call

    def flock(self, descriptor: int, _operation: int) -> None:
        """Lock a directory, until its descriptor is closed."""
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)

        def is_free() -> bool:
            holder = self._locks.get(key)
            return holder is None or holder[1].is_dead

        self._world.scheduler.wait(is_free)
        task = self._world.scheduler.current
        assert task is not None
        self._locks[key] = (descriptor, task.process)

    def close(self, descriptor: int) -> None:
        """Close a descriptor, and with it end its lock."""
        for key, (holder, _process) in list(self._locks.items()):
            if holder == descriptor:
                del self._locks[key]
        os.close(descriptor)


class Workshop:
    """The system calls of :mod:`nova_quiesce.copy.workplace`, as points.

    It stands for :mod:`shutil`, :mod:`tempfile`, :mod:`subprocess` and Nova's
    privileged calls.

    :param world: the world
    :param guest: whose job's files must not be removed while it is active
    """

    DEVNULL = subprocess.DEVNULL

    def __init__(self, world: worlds.World, guest: guests.Guest) -> None:
        self._world = world
        self._guest = guest

    def mkdtemp(self, prefix: str, dir: str) -> str:
        """Make a directory of a name that is not there yet."""
        self._world.point('disk mkdtemp: before')
        return tempfile.mkdtemp(prefix=prefix, dir=dir)

    def run(self, command: abc.Sequence[str],
            **_kwargs: object) -> types.SimpleNamespace:
        """Have ``qemu-img`` make a file."""
        self._world.point('disk qemu-img: before')
        pathlib.Path(command[-2]).touch()
        self._world.point('disk qemu-img: after')
        return types.SimpleNamespace(returncode=0, stderr=b'')

    def rmtree(self, path: str) -> None:
        """Remove a directory, and all that is in it."""
        self._world.point('disk rmtree: before')
        job = self._guest.job
        if job is not None and any(
                file.is_relative_to(path) for file in job.files()):
            self._world.break_promise("an active job's files are removed")
        if 'other' in pathlib.Path(path).name:
            self._world.break_promise("another host's files are removed")
        shutil.rmtree(path)
        self._world.point('disk rmtree: after')

    def chown(self, path: str, uid: int | None = None,
              gid: int | None = None) -> None:
        """Give a file to another user; all are this one's here."""
        self._world.point('disk chown: before')
        os.stat(path)


#: The names that :class:`Workshop` has in the module whose calls it makes.
WORKSHOP_NAMES: abc.Sequence[str] = (
    'shutil', 'subprocess', 'tempfile', 'privsep_path')
