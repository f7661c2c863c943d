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

"""Processes as the kernel tells of them, safe against recycled ids."""

from collections.abc import Iterable, Iterator, Sequence, Set
import dataclasses
import os
import pathlib
import pwd
import signal
import time

PROC = pathlib.Path('/proc')
POLL_SECONDS = 0.05
# Places in /proc/PID/stat, counted after the name.
STATE, SESSION, START_TIME = 0, 3, 19
# Places in a line of /proc/net/tcp, and a value there.
LOCAL_ADDRESS, TCP_STATE, INODE = 1, 3, 9
ESTABLISHED = '01'


@dataclasses.dataclass(frozen=True)
class Process:
    """One process for good: its id and the time it started.

    :param pid: the id, which the kernel may give to another one later
    :param start: the start time in clock ticks since boot
    """

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> 'Process | None':
        """Return the process that has this id now, unless dead."""
        fields = _fields(pid)
        return cls(pid, int(fields[START_TIME])) if fields else None

    @property
    def alive(self) -> bool:
        """Tell whether it runs; a zombie does not."""
        _reap(self.pid)
        return Process.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to this process or to none."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def wait_for_end(family: Sequence[Process], seconds: float) -> bool:
    """Tell whether all of them ended within that many seconds."""
    deadline = time.monotonic() + seconds
    while any(one.alive for one in family):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def everyone(but: Set[int] = frozenset()) -> Iterator[Process]:
    """Return each process of this machine, and not of containers on it.

    In a container there may be another lab, with the same paths and users.

    :param but: the ids of processes to leave out
    """
    here = _pid_namespace('self')
    for name in filter(str.isdigit, os.listdir(PROC)):
        if int(name) in but or _pid_namespace(name) != here:
            continue
        if one := Process.of(int(name)):
            yield one


def environment(process: Process) -> dict[str, str]:
    """Return the environment that a process was started with."""
    items = (item.partition('=') for item in _items(process, 'environ'))
    return {name: value for name, _, value in items}


def arguments(process: Process) -> list[str]:
    """Return the command line of a process."""
    return _items(process, 'cmdline')


def of_users(names: Iterable[str]) -> list[Process]:
    """Return the processes that run as one of the users."""
    ids = {str(pwd.getpwnam(name).pw_uid) for name in names}
    return [one for one in everyone() if _user_id(one) in ids]


def serving(port: int) -> list[Process]:
    """Return the processes that serve a connection to a TCP port."""
    sockets = {f'socket:[{inode}]' for inode in _connections(port)}
    return [one for one in everyone() if sockets & _open_files(one)]


def sees_in_place_of(process: Process, path: pathlib.Path,
                     other: pathlib.Path) -> bool:
    """Tell whether a process finds one directory where another is."""
    try:
        seen = PROC / str(process.pid) / 'root' / path.relative_to('/')
        return seen.samefile(other)
    except OSError:
        # It ended in between, or sees nothing there.
        return False


def in_session_of(process: Process, leader: Process) -> bool:
    """Tell whether a process is in the session that another began."""
    if Process.of(leader.pid) not in (leader, None):
        # The leader is gone, and so is its session: the id was given again.
        return False
    fields = _fields(process.pid)
    return (fields is not None and int(fields[SESSION]) == leader.pid
            and process.start >= leader.start)


def stands_still(process: Process) -> bool:
    """Tell whether a signal has stopped a process."""
    fields = _fields(process.pid)
    return fields is not None and fields[STATE] == 'T'


def _connections(port: int) -> Iterator[str]:
    lines = (PROC / 'net' / 'tcp').read_text().splitlines()[1:]
    for fields in map(str.split, lines):
        local_port = int(fields[LOCAL_ADDRESS].partition(':')[2], 16)
        if local_port == port and fields[TCP_STATE] == ESTABLISHED:
            yield fields[INODE]


def _open_files(process: Process) -> Set[str]:
    directory = PROC / str(process.pid) / 'fd'
    try:
        return {_link(directory / name) for name in os.listdir(directory)}
    except OSError:
        # It ended in between.
        return frozenset()


def _pid_namespace(pid: str) -> str:
    return _link(PROC / pid / 'ns' / 'pid')


def _link(path: pathlib.Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        # It ended in between, or closed the file.
        return ''


def _user_id(process: Process) -> str:
    lines = _read(process, 'status').splitlines()
    return next((line.split()[1] for line in lines
                 if line.startswith('Uid:')), '')


def _items(process: Process, name: str) -> list[str]:
    return [item for item in _read(process, name).split('\0') if item]


def _read(process: Process, name: str) -> str:
    try:
        path = PROC / str(process.pid) / name
        return path.read_bytes().decode(errors='replace')
    except OSError:
        # It ended in between, or it is the kernel's own.
        return ''


def _fields(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / 'stat').read_text(errors='replace')
    except OSError:
        return None
    # The name in parentheses may hold blanks and parentheses itself.
    fields = text.rpartition(')')[2].split()
    return None if fields[STATE] in 'ZX' else fields


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # Somebody else's child: its parent or init sees to it.
        return
