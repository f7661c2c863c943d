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

"""The world around the freeze: a guest, its agent, libvirtd, a disk.

Each call into it passes two points, one before it takes effect and one after.
One of all the points of a run is where the fault is. What the parts do, and
how long it takes, was measured on real ones (libvirt 9.0, QEMU 7.2): see
:mod:`nova_quiesce.fixture`, whose words for errors are used.
"""

from collections import abc
import dataclasses
import enum
import fcntl
import os
import typing

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import domains
from tests.simulation import scheduler as scheduling

#: Seconds that libvirt waits for an agent to take a command.
SYNCHRONIZATION = 5
#: Seconds after which something that died is there again.
COMES_BACK = 5
FILESYSTEMS = 2


class Fault(enum.Enum):
    """The things that can go wrong at a point."""

    ERROR = 'the call fails'
    HANG = 'the call takes 20 s'
    KILL_COMPUTE = 'nova-compute is killed'
    KILL_GUARD = 'the guard is killed'
    KILL_BOTH = 'nova-compute and the guard are killed'
    KILL_LIBVIRTD = 'libvirtd is killed'
    RESET_GUEST = 'the guest is reset'
    DESTROY_GUEST = 'the guest is destroyed'
    HANG_AGENT = 'the agent hangs for 30 s'
    KILL_AGENT = 'the agent is killed'


#: Seconds until nothing is wrong any more.
_HEALS_IN = {
    Fault.HANG: 20, Fault.HANG_AGENT: 30, Fault.KILL_COMPUTE: COMES_BACK,
    Fault.KILL_BOTH: COMES_BACK, Fault.KILL_LIBVIRTD: COMES_BACK,
    Fault.RESET_GUEST: COMES_BACK, Fault.KILL_AGENT: COMES_BACK,
}


def _error_of(name: str) -> Exception:
    if name.startswith('disk'):
        return OSError(5, 'Input/output error')
    error: Exception = fixture.libvirt_error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        'Cannot recv data: Connection reset by peer')
    return error


class Point(typing.NamedTuple):
    """A point of a run.

    :ivar number: its place in the run
    :ivar name: the call's, and whether it is before or after its effect
    :ivar process: the name of the process that makes the call
    """

    number: int
    name: str
    process: str


class World:
    """All there is in one run.

    :param seed: of the order in which tasks run
    :param faults: what goes wrong, by the number of the point
    """

    def __init__(self, seed: int = 0,
                 faults: abc.Mapping[int, Fault] | None = None) -> None:
        self.scheduler = scheduling.Scheduler(seed)
        self.story: list[str] = []
        self.points: list[Point] = []
        self.healed_at = 0.0
        self.boot = '6d0b2c48-f1a9-4e53-8f00-000000000001'
        self.compute = scheduling.Process('nova-compute')
        self.guard = scheduling.Process('guard')
        self.operator = scheduling.Process('operator')
        self.guest = Guest(self)
        self.is_libvirtd_up = True
        self.libvirtd_start = 1
        self.on_compute_death: list[abc.Callable[[], None]] = []
        self.on_guard_death: list[abc.Callable[[], None]] = []
        self._faults = dict(faults or {})

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append('%9.3f %s' % (self.scheduler.now - 1000, text))

    def point(self, name: str) -> None:
        """Pass a point of the run, at which something may go wrong.

        :raises OSError, libvirtError: that the call fails is what went wrong
        """
        self.scheduler.check()
        task = self.scheduler.current
        process = task.process if task is not None else self.operator
        number = len(self.points)
        self.points.append(Point(number, name, process.name))
        fault = self._faults.get(number)
        if fault is not None:
            self.tell('FAULT at %d, %s in %s: %s' % (
                number, name, process, fault.value))
            self._go_wrong(fault, name)
        self.scheduler.switch()

    def _go_wrong(self, fault: Fault, name: str) -> None:
        self._heals_in(_HEALS_IN.get(fault, 0))
        faults: dict[Fault, abc.Callable[[], object]] = {
            Fault.HANG: lambda: self.scheduler.wait(
                lambda: False, _HEALS_IN[fault]),
            Fault.KILL_COMPUTE: self._kill_compute,
            Fault.KILL_GUARD: self._kill_guard,
            Fault.KILL_LIBVIRTD: self._kill_libvirtd,
            Fault.RESET_GUEST: self.guest.reset,
            Fault.DESTROY_GUEST: self.guest.destroy,
            Fault.HANG_AGENT: lambda: self.guest.hang_agent(_HEALS_IN[fault]),
            Fault.KILL_AGENT: self.guest.kill_agent,
        }
        if fault is Fault.ERROR:
            raise _error_of(name)
        if fault is Fault.KILL_BOTH:
            self._kill_guard()
            self._kill_compute()
        else:
            faults[fault]()

    def _kill_compute(self) -> None:
        self._kill(self.compute, self.on_compute_death)

    def _kill_guard(self) -> None:
        self._kill(self.guard, self.on_guard_death)

    def _heals_in(self, seconds: float) -> None:
        self.healed_at = max(self.healed_at, self.scheduler.now + seconds)

    def _kill(self, process: scheduling.Process,
              then: list[abc.Callable[[], None]]) -> None:
        # None of its tasks does anything any more.
        if process.is_dead:
            return
        for call in list(then):
            call()
        process.is_dead = True

    def _kill_libvirtd(self) -> None:
        self.is_libvirtd_up = False

        def come_back() -> None:
            self.scheduler.wait(lambda: False, COMES_BACK)
            self.is_libvirtd_up = True
            self.libvirtd_start += 1
            self.tell('libvirtd is there again')

        self.scheduler.start(self.operator, 'libvirtd', come_back)


@dataclasses.dataclass
class Span:
    """The time from a freeze to its thaw; no end where there is none."""

    begin: float
    end: float | None = None


class Guest:
    """A guest with an agent, and with hooks.

    :ivar is_frozen: whether its filesystems are frozen
    :ivar hooks: each call of its hooks, by what it was for
    :ivar frozen_spans: when it was frozen, and until when
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.number = 1
        self.is_running = True
        self.is_frozen = False
        self.is_agent_up = True
        self.busy_until = 0.0
        self.hooks: list[str] = []
        self.frozen_spans: list[Span] = []
        self.job: str | None = None

    def freeze(self) -> int:
        """Freeze all filesystems."""
        self.hooks.append('freeze')
        if not self.is_frozen:
            self.is_frozen = True
            self.frozen_spans.append(Span(self._world.scheduler.now))
            self._world.tell('the guest is frozen')
        return FILESYSTEMS

    def thaw(self) -> int:
        """Thaw all filesystems."""
        self.hooks.append('thaw')
        count = FILESYSTEMS if self.is_frozen else 0
        self._thawed('the guest is thawed (%d)' % count)
        return count

    def _thawed(self, text: str) -> None:
        if self.is_frozen:
            self.is_frozen = False
            self.frozen_spans[-1].end = self._world.scheduler.now
        self._world.tell(text)

    def reset(self) -> None:
        """Begin anew, with nothing frozen, as at a hard reboot."""
        if self.is_running:
            self.number += 1
            self.job = None
            self._thawed('the guest is reset')
            # It takes its time to boot.
            self.kill_agent()

    def destroy(self) -> None:
        """End, as by the operator's hand."""
        self.is_running = False
        self.job = None
        self._thawed('the guest is gone')

    def hang_agent(self, seconds: float) -> None:
        """Have the agent do nothing for so long."""
        self.busy_until = self._world.scheduler.now + seconds

    def kill_agent(self) -> None:
        """End the agent; it is started again, and frozen guests stay so."""
        self.is_agent_up = False

        def come_back() -> None:
            self._world.scheduler.wait(lambda: False, COMES_BACK)
            self.is_agent_up = True
            self._world.tell('the agent is there again')

        self._world.scheduler.start(
            self._world.operator, 'agent', come_back)


class Connection:
    """A connection to libvirtd, which does not survive it.

    :param world: the world
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._start = world.libvirtd_start
        world.point('connect: before')
        self.check()

    def check(self) -> None:
        """See that it is good.

        :raises libvirtError: it is not
        """
        if not self._world.is_libvirtd_up or (
                self._start != self._world.libvirtd_start):
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: client socket is closed')

    def isAlive(self) -> int:
        """Tell whether it can be used."""
        return int(self._world.is_libvirtd_up and
                   self._start == self._world.libvirtd_start)

    def lookupByUUIDString(self, uuidstr: str) -> 'Domain':
        """Find the guest's domain."""
        self._world.point('lookup: before')
        self.check()
        return Domain(self._world, self)

    def close(self) -> int:
        """Let go of it."""
        return 0


def connect(world: World) -> domains.Connection:
    """Open a connection; of its domain, no more is there than is called.

    :param world: the world
    :raises libvirtError: libvirtd is not there
    """
    return typing.cast(domains.Connection, Connection(world))


class Domain:
    """The guest's domain, as libvirt has it.

    :param world: the world
    :param connection: over which it was found
    """

    def __init__(self, world: World, connection: Connection) -> None:
        self._world = world
        self._guest = world.guest
        self._connection = connection
        self._timeout = -2

    def connect(self) -> Connection:
        """Return the connection that it was found over."""
        return self._connection

    def agentSetResponseTimeout(self, timeout: int, flags: int = 0) -> int:
        """Limit each later agent call."""
        self._call('agentSetResponseTimeout')
        self._timeout = timeout
        return 0

    def fsInfo(self, flags: int = 0) -> object:
        """List the filesystems."""
        return self._agent('guest-get-fsinfo', lambda: [
            ('/fs%d' % number, 'vda%d' % number, 'ext4', ['vda'])
            for number in range(FILESYSTEMS)])

    def getTime(self, flags: int = 0) -> object:
        """Tell the guest's time."""
        return self._agent('guest-get-time',
                           lambda: {'seconds': 0, 'nseconds': 0})

    def interfaceAddresses(self, source: int, flags: int = 0) -> object:
        """Tell the guest's addresses."""
        return self._agent('guest-network-get-interfaces', dict)

    def fsFreeze(self, mountpoints: list[str] | None = None) -> int:
        """Freeze the guest."""
        return int(typing.cast(int, self._agent(
            'guest-fsfreeze-freeze', self._guest.freeze)))

    def fsThaw(self) -> int:
        """Thaw the guest."""
        return int(typing.cast(int, self._agent(
            'guest-fsfreeze-thaw', self._guest.thaw, is_harmless=True)))

    def isActive(self) -> int:
        """Tell whether it runs."""
        self._call('isActive')
        return int(self._guest.is_running)

    def ID(self) -> int:
        """Tell which start of the domain this is."""
        self._call('ID')
        return self._guest.number if self._guest.is_running else -1

    def state(self, flags: int = 0) -> list[int]:
        """Tell what it does, and why."""
        self._call('state')
        if not self._guest.is_running:
            return [libvirt.VIR_DOMAIN_SHUTOFF,
                    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED]
        return [libvirt.VIR_DOMAIN_RUNNING,
                libvirt.VIR_DOMAIN_RUNNING_BOOTED]

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        """0: it is not suspended to disk."""
        self._call('hasManagedSaveImage')
        return 0

    def begin_backup(self) -> None:
        """Begin a backup job: a cut."""
        self._call('backupBegin', is_followed=False)
        self._need_running()
        self._guest.job = 'backup'
        self._world.tell('the cut')
        self._world.point('backupBegin: after')
        self._connection.check()

    def _call(self, name: str, is_followed: bool = True) -> None:
        self._world.point('%s: before' % name)
        self._connection.check()
        if is_followed:
            self._world.point('%s: after' % name)
            self._connection.check()

    def _need_running(self) -> None:
        if not self._guest.is_running:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_OPERATION_INVALID,
                'Requested operation is not valid: domain is not running')

    def _agent(self, command: str, effect: abc.Callable[[], object],
               is_harmless: bool = False) -> object:
        self._world.point('%s: before' % command)
        self._connection.check()
        self._need_running()
        number = self._guest.number
        if not self._guest.is_agent_up:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
                'Guest agent is not responding: QEMU guest agent is not '
                'connected')
        answer: list[object] = []
        is_done = [False]

        def carry_out() -> None:
            # The agent has the command. It does it in its turn, whatever
            # becomes of who asked for it.
            self._world.scheduler.wait(
                lambda: self._world.scheduler.now >= self._guest.busy_until,
                max(0, self._guest.busy_until - self._world.scheduler.now))
            if self._guest.number == number and self._guest.is_running and (
                    self._guest.is_agent_up):
                if self._guest.is_frozen and not is_harmless:
                    answer.append(fixture.agent_refusal(
                        command, 'Command %s has been disabled: the agent is '
                        'in frozen state' % command))
                else:
                    answer.append(effect())
            is_done[0] = True

        self._world.scheduler.start(
            self._world.operator, 'agent', carry_out)
        limit = SYNCHRONIZATION if self._timeout < 0 else self._timeout
        # An agent that is killed, or ends with its guest, is noticed.
        self._world.scheduler.wait(
            lambda: is_done[0] or not self._guest.is_agent_up
            or not self._world.is_libvirtd_up
            or self._guest.number != number or not self._guest.is_running,
            limit)
        self._world.point('%s: after' % command)
        self._connection.check()
        if answer and isinstance(answer[0], Exception):
            raise answer[0]
        if answer:
            return answer[0]
        raise fixture.libvirt_error(
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
            'Guest agent is not responding: Guest agent disappeared while '
            'executing command' if not self._guest.is_agent_up
            or self._guest.number != number or not self._guest.is_running
            else 'Guest agent is not responding: Guest agent not available '
            'for now')


class Disk:
    """The system calls of :mod:`nova_quiesce.freeze.files`, as points.

    The files are real ones, on a real filesystem. Locks are not: a task that
    waits for one in the kernel would keep all others waiting.

    :param world: the world
    """

    #: The calls that change what is on the disk.
    _CHANGING = ('link', 'rename', 'unlink', 'fsync')

    def __init__(self, world: World) -> None:
        self._world = world
        self._locks: dict[tuple[int, int], tuple[int, object]] = {}
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
            return holder is None or typing.cast(
                scheduling.Process, holder[1]).is_dead

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
