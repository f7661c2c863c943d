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

"""The world of one run: its points, and what goes wrong at them.

Each call into the world passes two points, one before it takes effect and one
after. One of all the points of a run, or a few, is where a fault is.
"""

from collections import abc
import enum
import typing

import libvirt
from nova import exception as nova_exception

from nova_quiesce import fixture
from tests.simulation import scheduler as scheduling

#: Seconds after which what died is there again, and nova-compute, which the
#: guard has to do without.
COMES_BACK, COMPUTE_COMES_BACK = 5, 30
#: Seconds after nova-compute's death after which a server is started that it
#: left suspended.
STARTED = 60


class Fault(enum.Enum):
    """The things that can go wrong at a point."""

    ERROR = 'the call fails'
    HANG = 'the call takes 20 s'
    NONSENSE = 'the answer is nonsense'
    KILL_COMPUTE = 'nova-compute is killed'
    STOP_COMPUTE = 'nova-compute is stopped, and started again'
    STALL_COMPUTE = 'nova-compute gets no processor for 20 s'
    KILL_GUARD = 'the guard is killed'
    KILL_BOTH = 'nova-compute and the guard are killed'
    KILL_LIBVIRTD = 'libvirtd is killed'
    REBOOT_HOST = 'the host is reset'
    RESET_GUEST = 'the guest is reset'
    DESTROY_GUEST = 'the guest is destroyed'
    PAUSE_GUEST = 'the guest is paused for 30 s'
    HANG_AGENT = 'the agent hangs for 30 s'
    KILL_AGENT = 'the agent is killed'
    KILL_API = 'nova-api is killed'
    LOSE_MESSAGE = 'the message is lost'
    GLANCE_AWAY = 'Glance is away for 60 s'
    CINDER_AWAY = 'Cinder is away for 60 s'
    SNAPSHOT_STAYS = 'a volume snapshot does not end for 300 s'
    SNAPSHOT_FAILS = 'a volume snapshot fails'
    DELETE_IMAGE = 'the tenant deletes the image'
    PAUSE = 'the tenant pauses the instance'
    SUSPEND = 'the tenant suspends the instance'
    REBOOT = 'the tenant reboots the instance'
    DELETE = 'the tenant deletes the instance'
    MIGRATE = 'the instance is migrated to a second host'


#: Those that Nova is asked for; nova-compute does them while it is there.
OPERATIONS = frozenset({Fault.PAUSE, Fault.SUSPEND, Fault.REBOOT, Fault.DELETE,
                        Fault.MIGRATE})
#: Those that only nova-api's own paths can have.
OF_CLOUD = frozenset({
    Fault.KILL_API, Fault.LOSE_MESSAGE, Fault.GLANCE_AWAY, Fault.CINDER_AWAY,
    Fault.SNAPSHOT_STAYS, Fault.SNAPSHOT_FAILS, Fault.DELETE_IMAGE}
) | OPERATIONS

#: Seconds until nothing is wrong any more, as far as a thaw needs it.
_HEALS_IN = {
    Fault.HANG: 20, Fault.STALL_COMPUTE: 20, Fault.HANG_AGENT: 30,
    Fault.PAUSE_GUEST: 30,
    Fault.KILL_COMPUTE: COMPUTE_COMES_BACK,
    Fault.STOP_COMPUTE: COMPUTE_COMES_BACK,
    Fault.KILL_BOTH: COMPUTE_COMES_BACK,
    Fault.REBOOT_HOST: COMPUTE_COMES_BACK, Fault.KILL_LIBVIRTD: COMES_BACK,
    Fault.RESET_GUEST: COMES_BACK, Fault.KILL_AGENT: COMES_BACK}
#: Those that a guard heals at once, if nothing else is wrong.
_GUARDED = frozenset({
    Fault.HANG, Fault.STALL_COMPUTE, Fault.KILL_COMPUTE, Fault.STOP_COMPUTE})
_AWAY = 60
#: The calls that a thaw is made of; no other one keeps a guest frozen.
_OF_THAW = ('guest-', 'agentSet', 'connect', 'lookup', 'ID', 'state')


def can_be_at(fault: Fault, point: 'Point') -> bool:
    """Tell whether a fault makes sense at a point.

    :param fault: the fault
    :param point: the point
    """
    if fault is Fault.NONSENSE:
        return point.name.startswith('guest-') and 'after' in point.name
    if fault is Fault.LOSE_MESSAGE:
        return point.name.startswith('rpc cast')
    if fault is Fault.DELETE_IMAGE:
        return point.name.startswith('glance')
    return True


def _error_of(name: str) -> Exception:
    if name.startswith(('disk', 'rbd')):
        return OSError(5, 'Input/output error')
    if name.startswith('glance'):
        away: Exception = nova_exception.GlanceConnectionFailed(
            server='glance', reason='connection refused')
        return away
    if name.startswith(('cinder', 'rpc', 'conductor')):
        return ConnectionError('%s was not answered' % name)
    error: Exception = fixture.libvirt_error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        'Cannot recv data: Connection reset by peer')
    return error


class Point(typing.NamedTuple):
    """A point of a run.

    :ivar number: its place in the run
    :ivar name: the call's, and whether it is before or after its effect
    :ivar process: the name of the process that makes the call
    :ivar time: when, by the virtual clock
    """

    number: int
    name: str
    process: str
    time: float


class Handlers(typing.Protocol):
    """The parts of the world to which the faults happen."""

    def reset_guest(self) -> None:
        """Reset the guest."""

    def destroy_guest(self) -> None:
        """Destroy the guest."""

    def hang_agent(self, seconds: float) -> None:
        """Have the agent do nothing for so long."""

    def pause_guest(self, seconds: float) -> None:
        """Have the guest stand still for so long."""

    def kill_agent(self) -> None:
        """End the agent, which is started again."""

    def lose_host(self) -> None:
        """Lose what was in the host's memory."""

    def stop_compute(self) -> None:
        """Stop nova-compute as an operator does."""

    def delay_snapshots(self) -> None:
        """Have the volume snapshots that are made now not end."""

    def fail_snapshots(self) -> None:
        """Have the volume snapshots that are made now fail."""

    def delete_image(self) -> None:
        """Delete the request's image, if it is there."""

    def operate(self, operation: Fault) -> None:
        """Have nova-compute do something else to the instance."""


class World:
    """The processes, the points and the faults of one run.

    :param seed: of the order in which tasks run
    :param faults: what goes wrong, by the number of the point
    :param has_guard: whether a guard heals what it is there for
    :ivar broken: the promises that were broken, as that was seen
    :ivar healed_at: when nothing was wrong any more, or will be
    :ivar is_list_known: whether nova-compute noted the volume snapshots
    :ivar killed_at: when nova-compute ended first
    """

    def __init__(self, seed: int, faults: abc.Mapping[int, Fault],
                 has_guard: bool) -> None:
        self.scheduler = scheduling.Scheduler(seed)
        self.story: list[str] = []
        self.broken: list[str] = []
        self.points: list[Point] = []
        self.healed_at = 0.0
        self.boot = 1
        self.compute = scheduling.Process('nova-compute')
        self.guard = scheduling.Process('guard')
        self.api = scheduling.Process('nova-api')
        self.second = scheduling.Process('the second nova-compute')
        self.operator = scheduling.Process('operator')
        self.is_libvirtd_up = True
        self.libvirtd_start = 1
        self.glance_away_until = self.cinder_away_until = 0.0
        self.on_compute_death: list[abc.Callable[[], None]] = []
        self.on_guard_death: list[abc.Callable[[], None]] = []
        self.handlers: Handlers | None = None
        self.is_list_known = False
        self.killed_at: float | None = None
        self._faults = dict(faults)
        self._healing = {
            fault: 0 if has_guard and len(faults) < 2 and fault in _GUARDED
            else seconds for fault, seconds in _HEALS_IN.items()}

    def boot_id(self) -> str:
        """Tell which boot of the host this is."""
        return '6d0b2c48-f1a9-4e53-8f00-%012d' % self.boot

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append('%9.3f %s' % (self.scheduler.now - 1000, text))

    def break_promise(self, what: str) -> None:
        """Note that a promise is being broken, and who does it."""
        self.tell('BROKEN: %s' % what)
        self.broken.append(what)

    def point(self, name: str) -> Fault | None:
        """Pass a point of the run, at which something may go wrong.

        :returns: what goes wrong, where that is for the caller to do
        :raises Exception: that the call fails is what went wrong
        """
        self.scheduler.check()
        task = self.scheduler.current
        process = task.process if task is not None else self.operator
        point = Point(
            len(self.points), name, process.name, self.scheduler.now)
        self.points.append(point)
        fault = self._fault_at(point)
        if fault is not None:
            self.tell('FAULT at %d, %s in %s: %s' % (
                point.number, name, process, fault.value))
            self._go_wrong(fault, name)
        self._be_away(name)
        self.scheduler.switch()
        return fault

    def _fault_at(self, point: Point) -> Fault | None:
        for number, fault in sorted(self._faults.items()):
            # It waits for a point that it makes sense at.
            if number <= point.number and can_be_at(fault, point):
                return self._faults.pop(number)
        return None

    def _be_away(self, name: str) -> None:
        now = self.scheduler.now
        if (name.startswith('glance') and now < self.glance_away_until) or (
                name.startswith('cinder') and now < self.cinder_away_until):
            raise _error_of(name)

    def _go_wrong(self, fault: Fault, name: str) -> None:
        if fault is Fault.ERROR:
            raise _error_of(name)
        if fault is not Fault.HANG or name.startswith(_OF_THAW):
            self._heals_in(self._healing.get(fault, 0))
        handlers = self.handlers
        assert handlers is not None
        faults: dict[Fault, abc.Callable[[], object]] = {
            Fault.HANG: lambda: self.scheduler.wait(
                lambda: False, _HEALS_IN[fault]),
            Fault.KILL_COMPUTE: self.kill_compute,
            Fault.STOP_COMPUTE: handlers.stop_compute,
            Fault.STALL_COMPUTE: self._stall_compute,
            Fault.KILL_GUARD: self._kill_guard,
            Fault.KILL_BOTH: self._kill_both,
            Fault.KILL_LIBVIRTD: self._kill_libvirtd,
            Fault.REBOOT_HOST: self._reboot_host,
            Fault.RESET_GUEST: handlers.reset_guest,
            Fault.DESTROY_GUEST: handlers.destroy_guest,
            Fault.PAUSE_GUEST: lambda: handlers.pause_guest(_HEALS_IN[fault]),
            Fault.HANG_AGENT: lambda: handlers.hang_agent(_HEALS_IN[fault]),
            Fault.KILL_AGENT: handlers.kill_agent,
            Fault.KILL_API: lambda: self._kill(self.api, []),
            Fault.GLANCE_AWAY: self._lose_glance,
            Fault.CINDER_AWAY: self._lose_cinder,
            Fault.SNAPSHOT_STAYS: handlers.delay_snapshots,
            Fault.SNAPSHOT_FAILS: handlers.fail_snapshots,
            Fault.DELETE_IMAGE: handlers.delete_image}
        if fault in faults:
            faults[fault]()
        elif fault in OPERATIONS:
            handlers.operate(fault)

    def kill_compute(self) -> None:
        """Kill nova-compute, as with ``kill -9``."""
        self._heals_in(self._healing[Fault.KILL_COMPUTE])
        if self.killed_at is None:
            self.killed_at = self.scheduler.now
        self._kill(self.compute, self.on_compute_death)

    def _kill_guard(self) -> None:
        self._kill(self.guard, self.on_guard_death)

    def _kill_both(self) -> None:
        # Who is killed does nothing more, and it may be the guard.
        self.kill_compute()
        self._kill_guard()

    def _stall_compute(self) -> None:
        self.compute.stopped_until = (
            self.scheduler.now + _HEALS_IN[Fault.STALL_COMPUTE])

    def _reboot_host(self) -> None:
        self.boot += 1
        assert self.handlers is not None
        self.handlers.lose_host()
        self._kill_libvirtd()
        self._kill_both()

    def _lose_glance(self) -> None:
        self.glance_away_until = self.scheduler.now + _AWAY

    def _lose_cinder(self) -> None:
        self.cinder_away_until = self.scheduler.now + _AWAY

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
