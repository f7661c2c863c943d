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

"""libvirt's view of a guest, its agent and its backup job.

What the parts do, and how long it takes, was measured on real ones (libvirt
9.0, QEMU 7.2): see :mod:`nova_quiesce.fixture`, whose words for errors are
used, and :mod:`tests.measured`.
"""

from collections import abc
import dataclasses
import typing

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import domains
from tests.simulation import guests
from tests.simulation import world as worlds

#: Seconds that libvirt waits for another job to end, and a job's end takes.
_JOB_LOCK, _JOB_END = 30, 0.2
#: Seconds that an agent may be waited for at most.
LONGEST = 10
#: How Nova calls the guest's disk.
DISK = '/instances/disk'
#: How Cinder calls it, where it is a volume.
VOLUME = 'volume'

_DOMAIN = ("<domain type='kvm'><os><type arch='x86_64' machine='q35'>hvm"
           "</type></os><devices><emulator>/usr/bin/qemu</emulator>"
           "<disk type='file' device='disk'><source file='%s'/>"
           "<target dev='vda'/><serial>%s</serial></disk></devices></domain>"
           % (DISK, VOLUME))
_DOMAIN_CAPABILITIES = ("<domainCapabilities><features><backup "
                        "supported='yes'/></features></domainCapabilities>")
_CAPABILITIES = '<capabilities><host/></capabilities>'
#: What an agent of a tenant's may answer to anything.
_NONSENSE: tuple[object, ...] = (
    'text', None, -1, {'a': 1}, [('', '', '', [])], 10 ** 12, [7])


class Connection:
    """A connection to libvirtd, which does not survive it.

    :param world: the world
    :param guest: the only one that there is
    :param host: the number of the host that it is of
    """

    def __init__(self, world: worlds.World, guest: guests.Guest,
                 host: int = 1) -> None:
        self._world = world
        self._guest = guest
        self._host = host
        self._start = world.libvirtd_start
        world.point('connect: before')
        self.check()

    def check(self) -> None:
        """See that it is good.

        :raises libvirtError: it is not
        """
        if not self.isAlive():
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: client socket is closed')

    def check_domain(self) -> None:
        """See that it is good, and that the guest is on its host.

        :raises libvirtError: one of both is not so
        """
        self.check()
        if self._guest.host != self._host:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN, 'Domain not found: no domain with '
                'matching uuid')

    def isAlive(self) -> int:
        """Tell whether it can be used."""
        return int(self._world.is_libvirtd_up and
                   self._start == self._world.libvirtd_start)

    def lookupByUUIDString(self, uuidstr: str) -> 'Domain':
        """Find the guest's domain."""
        self._world.point('lookup: before')
        self.check_domain()
        return Domain(self._world, self._guest, self)

    def getDomainCapabilities(self, *_kind: object) -> str:
        """Describe what domains can do."""
        self._world.point('getDomainCapabilities: before')
        self.check()
        return _DOMAIN_CAPABILITIES

    def getCapabilities(self) -> str:
        """Describe the host."""
        self._world.point('getCapabilities: before')
        self.check()
        return _CAPABILITIES

    def close(self) -> int:
        """Let go of it."""
        return 0


def connect(world: worlds.World, guest: guests.Guest,
            host: int = 1) -> domains.Connection:
    """Open a connection.

    :param world: the world
    :param guest: the only one that there is
    :param host: the number of the host whose libvirtd it is
    :raises libvirtError: libvirtd is not there
    """
    return typing.cast(domains.Connection, Connection(world, guest, host))


class _AgentCall:
    """A call of a guest's agent, as a worker of libvirtd's makes it.

    One at a time: each waits for its turn. An agent that does not even take
    the greeting in time is sent no command; one that took a command does it,
    whatever becomes of the call.

    :ivar answer: what the agent returned, or an error
    :ivar is_over: whether there is an answer
    """

    def __init__(self, world: worlds.World, guest: guests.Guest, command: str,
                 carry_out: abc.Callable[[], object],
                 is_sent_at_once: bool) -> None:
        self._world = world
        self._guest = guest
        self._command = command
        self._carry_out = carry_out
        self._is_sent_at_once = is_sent_at_once
        self.answer: object = None
        self.is_over = False

    def run(self) -> None:
        """Make it."""
        start, guest = self._world.libvirtd_start, self._guest
        if not self._wait(lambda: guest.caller is None, _JOB_LOCK):
            self.answer = fixture.libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                'Timed out during operation: cannot acquire state change lock')
        elif not guest.is_running:
            self.answer = _not_running()
        elif self._is_up(start):
            guest.caller = self
            self.answer = self._ask()
            if guest.caller is self:
                guest.caller = None
        self.is_over = True

    def _is_up(self, start: int) -> bool:
        return (self._world.is_libvirtd_up
                and start == self._world.libvirtd_start)

    def _wait(self, is_ready: abc.Callable[[], bool],
              seconds: float | None = None) -> bool:
        self._world.scheduler.wait(
            lambda: is_ready() or not self._world.is_libvirtd_up, seconds)
        return is_ready()

    def _ask(self) -> object:
        guest = self._guest
        limit = guest.response_timeout
        if not 0 <= limit <= LONGEST:
            self._world.break_promise('an agent may take %d s' % limit)
        if not guest.is_agent_up:
            return _unresponsive('QEMU guest agent is not connected')
        agent, until = guest.agent, self._world.scheduler.now + limit
        if not self._wait(lambda: agent.is_gone or self._can_be_sent(), limit):
            return _unresponsive('Guest agent not available for now')
        answers: list[object] = []
        if not agent.is_gone:
            agent.take(lambda: answers.append(self._carry_out()))
        self._wait(lambda: bool(answers) or agent.is_gone,
                   until - self._world.scheduler.now)
        if answers:
            return answers[0]
        return _unresponsive(
            'Guest agent disappeared while executing command' if agent.is_gone
            else 'Guest agent not available for now')

    def _can_be_sent(self) -> bool:
        agent = self._guest.agent
        return agent.is_idle and (self._is_sent_at_once or not agent.is_hung)


def _not_running() -> Exception:
    error: Exception = fixture.libvirt_error(
        libvirt.VIR_ERR_OPERATION_INVALID,
        'Requested operation is not valid: domain is not running')
    return error


def _unresponsive(text: str) -> Exception:
    error: Exception = fixture.libvirt_error(
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        'Guest agent is not responding: %s' % text)
    return error


class Domain:
    """The guest's domain, as libvirt has it.

    :param world: the world
    :param guest: the guest
    :param connection: over which it was found
    """

    def __init__(self, world: worlds.World, guest: guests.Guest,
                 connection: Connection) -> None:
        self._world = world
        self._guest = guest
        self._connection = connection

    def connect(self) -> Connection:
        """Return the connection that it was found over."""
        return self._connection

    def name(self) -> str:
        """Return libvirt's name of the domain."""
        return 'instance-00000001'

    def XMLDesc(self, flags: int = 0) -> str:
        """Describe the domain."""
        self._call('XMLDesc')
        return _DOMAIN

    def agentSetResponseTimeout(self, timeout: int, flags: int = 0) -> int:
        """Limit each later agent call."""
        self._call('agentSetResponseTimeout')
        self._guest.response_timeout = timeout
        return 0

    def fsInfo(self, flags: int = 0) -> object:
        """List the filesystems."""
        return self._agent('guest-get-fsinfo', lambda: [
            ('/fs%d' % number, 'vda%d' % number, 'ext4', ['vda'])
            for number in range(guests.FILESYSTEMS)])

    def getTime(self, flags: int = 0) -> object:
        """Tell the guest's time."""
        return self._agent('guest-get-time',
                           lambda: {'seconds': 0, 'nseconds': 0})

    def interfaceAddresses(self, source: int, flags: int = 0) -> object:
        """Tell the guest's addresses."""
        return self._agent('guest-network-get-interfaces', dict)

    def fsFreeze(self, mountpoints: list[str] | None = None) -> object:
        """Freeze the guest."""
        return self._agent('guest-fsfreeze-freeze', self._guest.freeze)

    def fsThaw(self) -> object:
        """Thaw the guest."""
        return self._agent('guest-fsfreeze-thaw', self._guest.thaw,
                           is_harmless=True)

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
        if self._guest.stands_still:
            return [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER]
        return [libvirt.VIR_DOMAIN_RUNNING, self._guest.running_reason]

    def blockInfo(self, path: str, flags: int = 0) -> list[int]:
        """Tell the sizes of a disk."""
        self._call('blockInfo')
        return [1 << 30, 1 << 20, 1 << 20]

    def jobStats(self, flags: int = 0) -> dict[str, int]:
        """Tell of the job that is active."""
        self._call('jobStats')
        return {} if self._guest.job is None else {
            'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
            'operation': libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP}

    def blockJobInfo(self, disk: str, flags: int = 0) -> dict[str, int]:
        """Tell of the job of a disk, of which there is none."""
        self._call('blockJobInfo')
        return {}

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        """Tell whether it is suspended to disk."""
        self._call('hasManagedSaveImage')
        return int(self._guest.is_saved)

    def managedSave(self, flags: int = 0) -> int:
        """Suspend it to disk."""
        self._world.point('managedSave: before')
        self._connection.check_domain()
        self._need_running()
        self._guest.save()
        self._world.point('managedSave: after')
        self._connection.check_domain()
        return 0

    def change_files(self, note: abc.Callable[[], None]) -> None:
        """Go on in other files, as with an external snapshot: a cut.

        :param note: told of the cut
        """
        self._connection.check_domain()
        self._need_running()
        note()

    def create(self) -> int:
        """Start it, from where it was suspended."""
        self._world.point('create: before')
        self._connection.check_domain()
        self._guest.restore()
        self._world.point('create: after')
        self._connection.check_domain()
        return 0

    def backupBegin(self, backupXML: str, checkpointXML: str | None,
                    flags: int = 0) -> int:
        """Begin a backup job: a cut."""
        self._world.point('backupBegin: before')
        self._connection.check_domain()
        self._need_running()
        if not self._world.scheduler.wait(
                lambda: self._guest.job is None, _JOB_LOCK):
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                'Timed out during operation: cannot acquire state change lock')
        self._need_running()
        try:
            self._guest.begin_job(guests.Job(backupXML))
        except OSError as error:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: unable to execute QEMU command: '
                'Failed to bind socket') from error
        self._world.point('backupBegin: after')
        self._connection.check_domain()
        return 0

    def backupGetXMLDesc(self, flags: int = 0) -> str:
        """Describe the backup job that is active."""
        self._call('backupGetXMLDesc')
        if self._guest.job is None:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
                'Domain backup job id not found: no domain backup job present')
        return self._guest.job.description

    def abortJob(self) -> int:
        """End the backup job, in its own time."""
        self._world.point('abortJob: before')
        self._connection.check_domain()
        job = self._guest.job
        if job is None:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_OPERATION_INVALID,
                'Requested operation is not valid: no job is active on the '
                'domain')
        if not job.is_ours:
            self._world.break_promise('the job of somebody else is ended')

        def end() -> None:
            self._world.scheduler.wait(lambda: False, _JOB_END)
            if self._guest.job is job:
                self._guest.end_job()

        self._world.scheduler.start(self._world.operator, 'end-job', end)
        self._world.point('abortJob: after')
        self._connection.check_domain()
        return 0

    def _call(self, name: str) -> None:
        self._world.point('%s: before' % name)
        self._connection.check_domain()
        self._world.point('%s: after' % name)
        self._connection.check_domain()

    def _need_running(self) -> None:
        if not self._guest.is_running:
            raise _not_running()


    def _agent(self, command: str, effect: abc.Callable[[], object],
               is_harmless: bool = False) -> object:
        self._world.point('%s: before' % command)
        self._connection.check_domain()
        self._need_running()
        if self._guest.stands_still:
            raise _not_running()
        call = _AgentCall(
            self._world, self._guest, command,
            lambda: self._refusal(command) if (
                self._guest.is_frozen and not is_harmless) else effect(),
            # The worst of each: a freeze is sent to one that hangs.
            is_sent_at_once=not is_harmless)
        # A worker of libvirtd's, which goes on without who asked.
        self._world.scheduler.start(self._world.operator, 'worker', call.run)
        self._world.scheduler.wait(
            lambda: call.is_over or not self._world.is_libvirtd_up)
        fault = self._world.point('%s: after' % command)
        self._connection.check_domain()
        if isinstance(call.answer, Exception):
            raise call.answer
        if fault is worlds.Fault.NONSENSE:
            return _NONSENSE[len(self._world.points) % len(_NONSENSE)]
        return call.answer

    @staticmethod
    def _refusal(command: str) -> Exception:
        refusal: Exception = fixture.agent_refusal(
            command, 'Command %s has been disabled: the agent is in frozen '
            'state' % command)
        return refusal


class Host:
    """Nova's handle of the hypervisor, as far as it is used.

    :param world: the world
    :param guest: the only one that there is
    """

    def __init__(self, world: worlds.World, guest: guests.Guest) -> None:
        self._world = world
        self._guest = guest

    def get_connection(self) -> Connection:
        """Return Nova's connection to libvirtd."""
        return Connection(self._world, self._guest)

    def list_guests(self, only_running: bool = True) -> list['Handle']:
        """List the guests that run."""
        connection = self.get_connection()
        domain = Domain(self._world, self._guest, connection)
        is_here = self._guest.is_running and self._guest.host == 1
        return [Handle(domain)] if is_here else []


@dataclasses.dataclass
class Handle:
    """Nova's handle of a guest."""

    _domain: Domain
