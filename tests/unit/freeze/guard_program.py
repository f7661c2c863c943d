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

"""A guard, and a nova-compute under it, on guests that are files.

Run by ``test_guard_process`` as processes of their own, which can be killed::

    guard_program.py guard STATE ...    the real guard, on fake guests
    guard_program.py quiet STATE ...    the same, with its log in STATE
    guard_program.py compute STATE N    freezes N guests under such a guard
    guard_program.py mute STATE ...     a guard that never answers

The directory STATE holds a directory for each guest, with the files
``frozen`` and ``hanging`` if that is what it is, and the log of all thaws.
"""

import os
import pathlib
import sys
import time

import libvirt

from nova_quiesce import fixture
from nova_quiesce import fixture_jobs
from nova_quiesce.freeze import domains
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import process
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines

#: libvirt's ``ID()`` of each guest.
DOMAIN_ID = 7


class Guest(fixture.FakeDomain):
    """A ``virDomain`` whose state is a directory.

    :param path: the directory
    """

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = path
        self.number = DOMAIN_ID

    def getTime(self, flags: int = 0) -> object:
        """Tell the time, unless the guest is frozen."""
        self._wait_while_hanging()
        if (self.path / 'frozen').exists():
            raise fixture.agent_refusal(
                'guest-get-time', 'Command guest-get-time has been disabled: '
                'the agent is in frozen state')
        return {}

    def interfaceAddresses(self, source: int, flags: int = 0) -> object:
        """Tell the addresses, unless the guest is frozen."""
        return self.getTime()

    def fsInfo(self, flags: int = 0) -> object:
        """List the filesystems, unless the guest is frozen."""
        self.getTime()
        return []

    def fsFreeze(self, mountpoints: list[str] | None = None) -> int:
        """Freeze."""
        (self.path / 'frozen').touch()
        return 1

    def fsThaw(self) -> int:
        """Thaw, and log it; a guest that hangs uses up its time."""
        self._wait_while_hanging()
        was_frozen = (self.path / 'frozen').exists()
        (self.path / 'frozen').unlink(missing_ok=True)
        self._log()
        return int(was_frozen)

    def _wait_while_hanging(self) -> None:
        limit = time.monotonic() + self.timeout
        while (self.path / 'hanging').exists():
            if time.monotonic() > limit:
                raise fixture.libvirt_error(
                    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
                    'Guest agent not available for now')
            time.sleep(0.01)

    def _log(self) -> None:
        line = '%f %s\n' % (time.monotonic(), self.path.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = os.open(self.path.parent / 'log', flags)
        os.write(log, line.encode())
        os.close(log)


class Hypervisor(fixture_jobs.FakeConnection):
    """A ``virConnect`` that finds its guests in a directory.

    :param path: the directory
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def open(self, uri: str) -> domains.Connection:
        """Connect, unless there is a file ``down``."""
        if (self._path / 'down').exists():
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_SYSTEM_ERROR, 'Failed to connect socket')
        return self

    def lookupByUUIDString(self, uuidstr: str) -> Guest:
        """Find a guest."""
        return Guest(self._path / uuidstr)

    def isAlive(self) -> int:
        """Return 1, unless there is a file ``down``."""
        return int(not (self._path / 'down').exists())


def guard_command(state: pathlib.Path, what: str = 'guard') -> list[str]:
    """The command line of a guard on fake guests."""
    return [sys.executable, __file__, what, str(state)]


def new_client(state: pathlib.Path, socket_path: str | None = None,
               what: str = 'guard') -> guard_client.GuardClient:
    """The client of a guard on fake guests."""
    return guard_client.GuardClient(
        wire.GuardSettings('fake:///', str(state / 'leases'), 1, 1, 0.05),
        socket_path, guard_command(state, what))


def answers(guard: guard_client.GuardClient) -> bool:
    """Tell whether a client has a guard that answers now."""
    with guard._lock:
        try:
            guard._ask({'ping': True}, guard_client.ANSWER_TIMEOUT)
        except (OSError, wire.WireError):
            return False
        return True


def freeze(state: pathlib.Path, guard: guard_client.GuardClient, number: int,
           seconds: float = 3600) -> leases.Lease:
    """Freeze a guest as the driver does: lease, guard, freeze."""
    uuid = '0e5a17e4-2d32-4f1b-8a55-%012d' % number
    guest = Guest(state / uuid)
    guest.path.mkdir(exist_ok=True)
    lease = leases.Lease.new(
        machines.REAL, uuid, 'req-1', 'snapshot', seconds, DOMAIN_ID)
    directory = lease_directory.LeaseDirectory(str(state / 'leases'))
    directory.prepare()
    directory.acquire(lease)
    guard.watch(lease)
    guest.fsFreeze()
    return lease


def _log_to(path: pathlib.Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stderr.fileno())


def _compute(state: pathlib.Path, count: str, socket_path: str = '') -> None:
    guard = new_client(state, socket_path or None)
    lease_directory.LeaseDirectory(str(state / 'leases')).prepare()
    guard.start()
    for number in range(int(count)):
        freeze(state, guard, number)
    if os.fork() == 0:
        # Whatever nova-compute forks has its sockets, and may outlive it.
        sys.stdin.read()
        os._exit(0)
    print('frozen', flush=True)
    sys.stdin.read()


def main() -> int:
    """Be what the command line says."""
    what, state, *rest = sys.argv[1:]
    path = pathlib.Path(state)
    if what == 'quiet':
        _log_to(path / 'stderr')
    if what in ('guard', 'quiet'):
        return process.main(rest, Hypervisor(path).open)
    if what == 'compute':
        _compute(path, *rest)
    else:
        time.sleep(60)
    return 0


if __name__ == '__main__':
    os._exit(main())
