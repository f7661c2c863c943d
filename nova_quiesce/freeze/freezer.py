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

"""The freezer of one nova-compute: it freezes guests, and sees them thawed.

It owns the directory of leases, the guard, and the windows that span two
calls; it follows up at the start what the last nova-compute left behind; and
it is asked before a guest is taken away.
"""

from collections import abc
import contextlib
import dataclasses
import logging
import os

from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import finder
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import recovery
from nova_quiesce.freeze import response_limits
from nova_quiesce.freeze import spanning_windows
from nova_quiesce.freeze import watched_lease
from nova_quiesce.freeze import windows

LOG = logging.getLogger(__name__)

#: Seconds that libvirt waits at most for the agent to take a command.
_SYNC = 5
#: How often a guest that came here is asked, until it answers.
_ARRIVAL_TRIES = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """The operator's settings for freezes.

    :ivar uri: of the hypervisor, for the guard
    :ivar leases: the directory of leases
    :ivar ask: seconds that an agent may take to answer a harmless question
    :ivar thaw: seconds that it may take to thaw
    :ivar retry: seconds of the first pause between two tries to thaw
    :ivar has_guard: whether there is a guard at all
    :ivar is_guard_required: whether a freeze without it is refused
    :ivar guard_socket: where it listens, if it is a service of its own
    """

    uri: str
    leases: str
    ask: int
    thaw: int
    retry: float
    has_guard: bool = True
    is_guard_required: bool = False
    guard_socket: str | None = None


@dataclasses.dataclass(frozen=True)
class Purpose:
    """The purpose of one freeze: whose guest, for whom, and how long.

    :ivar instance_uuid: whose guest
    :ivar name: what to call it in the log
    :ivar owner: id of the request that asks for it
    :ivar text: what for, in a few words
    :ivar freeze_timeout: seconds that its agent may take to freeze
    :ivar max_freeze_time: seconds that it may stay frozen
    :ivar is_saved: whether it is suspended to disk meanwhile
    """

    instance_uuid: str
    name: str
    owner: str
    text: str
    freeze_timeout: int
    max_freeze_time: float
    is_saved: bool = False


class Freezer:
    """The leases, the guard and the open windows of this service.

    :param settings: the operator's
    :param connect: opens a connection to the hypervisor
    :param machine: whose clocks and threads are used
    :ivar spanning: the windows that span two calls
    :ivar duties: what requests owe, whatever becomes of this process
    :ivar jobs: the backup jobs that may exist
    """

    def __init__(self, settings: Settings, connect: finder.Connect,
                 machine: machines.Machine = machines.REAL) -> None:
        self._settings = settings
        self._connect = connect
        self._machine = machine
        self._directory = lease_directory.LeaseDirectory(settings.leases)
        self._guard = guard_client.GuardClient(
            wire.GuardSettings(
                uri=settings.uri, leases=self._directory.path,
                ask_timeout=settings.ask, thaw_timeout=settings.thaw,
                retry_interval=settings.retry),
            settings.guard_socket,
            machine=machine) if settings.has_guard else None
        self._lock = machine.lock()
        self._barred: dict[str, str] = {}
        self._limits = response_limits.ResponseLimits(machine)
        self.spanning = spanning_windows.SpanningWindows(machine)
        self.duties = duties.DutyDirectory(os.path.join(
            self._directory.path, lease_directory.DUTIES))
        self.jobs = leased_jobs.LeasedJobs(
            self.duties, self._guard, connect, machine)

    def start(self) -> None:
        """Thaw what was left frozen, and have the guard at hand.

        :raises LeaseError: the directory of leases cannot be used
        """
        os.makedirs(os.path.dirname(self._directory.path), exist_ok=True)
        self._directory.prepare()
        self.duties.prepare()
        recovery.Recovery(
            self._directory, self._new_agent, self._settings.retry,
            self._machine).run(self._settings.thaw)
        self._start_guard()

    def stop(self) -> None:
        """Thaw all guests, because this service stops."""
        self.spanning.close_all('nova-compute was stopped during the snapshot')
        if self._guard is not None:
            self._guard.stop()

    def is_guarded(self) -> bool:
        """Tell whether a guard would thaw what this service freezes."""
        return self._guard is not None and self._guard.is_usable()

    def agent(self, instance_uuid: str, freeze_timeout: int,
              mountpoints: tuple[str, ...] = (),
              is_strict: bool = False) -> guest_agent.Agent:
        """Make the agent of a guest, over a connection of its own.

        :param instance_uuid: whose
        :param freeze_timeout: seconds that it may take to freeze
        :param mountpoints: of the filesystems to freeze; empty for all
        :param is_strict: whether a freeze that is known to leave out a
            filesystem counts as failed
        """
        return guest_agent.Agent(
            finder.Finder(self._connect, instance_uuid),
            guest_agent.Timeouts(ask=self._settings.ask, freeze=freeze_timeout,
                                 thaw=self._settings.thaw),
            mountpoints, is_strict, self._limits.of(instance_uuid))

    def window(self, agent: guest_agent.Agent,
               purpose: Purpose) -> windows.Window:
        """Make a freeze window, which is not open yet.

        :param agent: the guest's agent
        :param purpose: whose guest it is, for whom and how long
        """
        def new_lease() -> leases.Lease:
            presence = agent.presence()
            if presence.domain_id is None:
                raise errors.GuestGone()
            return leases.Lease.new(
                self._machine, purpose.instance_uuid, purpose.owner,
                purpose.text, answer + purpose.max_freeze_time +
                watched_lease.GRACE, presence.domain_id, purpose.is_saved)

        answer = _SYNC + purpose.freeze_timeout
        watched = watched_lease.WatchedLease(
            self._directory, self._guard, self._settings.is_guard_required,
            new_lease, answer, self._machine,
            lambda: self._admit(purpose.instance_uuid))
        agent.limit.share(watched)
        return windows.Window(
            agent, watched, purpose.name,
            windows.WindowLimits(purpose.max_freeze_time, self._settings.thaw,
                          self._settings.retry),
            self._machine, purpose.is_saved)

    def may_be_frozen(self, instance_uuid: str) -> bool:
        """Tell whether a guest is frozen, may become so, or may still be.

        :param instance_uuid: whose guest
        """
        try:
            return self._directory.read(instance_uuid) is not None
        except leases.InvalidLease:
            # There is something in its place.
            return True
        except leases.LeaseError as error:
            # Nor can anything be frozen then.
            LOG.error('It is not known whether instance %(uuid)s may be '
                      'frozen: %(error)s',
                      {'uuid': instance_uuid, 'error': error})
            return False

    @contextlib.contextmanager
    def barred(self, instance_uuid: str, operation: str) -> abc.Iterator[None]:
        """Let no freeze of a guest begin for the length of the block.

        One that has begun is seen by :meth:`may_be_frozen` inside the block.

        :param instance_uuid: whose guest
        :param operation: what the instance does, for the tenant
        """
        with self._lock:
            self._barred[instance_uuid] = operation
        try:
            yield
        finally:
            with self._lock:
                self._barred.pop(instance_uuid, None)

    def receive(self, instance_uuid: str, name: str) -> None:
        """Thaw a guest that has come here frozen, in the background.

        Never raises.

        :param instance_uuid: whose guest
        :param name: what to call it in the log
        """
        try:
            self._machine.start('receive-%s' % name, self._receive,
                                instance_uuid, name)
        except RuntimeError as error:
            LOG.error('It is not known whether guest %(name)s came here '
                      'frozen: %(error)s', {'name': name, 'error': error})

    def _receive(self, instance_uuid: str, name: str) -> None:
        agent = self.agent(instance_uuid, self._settings.thaw)
        if not self._is_frozen(agent, name):
            return
        LOG.warning('Guest %s has come here frozen, and is thawed', name)
        try:
            self.window(agent, Purpose(
                instance_uuid, name, 'none', 'its arrival',
                self._settings.thaw, self._settings.thaw)).thaw()
        except errors.QuiesceError as error:
            LOG.error('Guest %(name)s stays frozen: %(error)s',
                      {'name': name, 'error': error})

    def _is_frozen(self, agent: guest_agent.Agent, name: str) -> bool:
        # Its channel is connected again a moment after it has come.
        for _ in range(_ARRIVAL_TRIES):
            try:
                # Where it refuses all and does not say why, it may be.
                return agent.is_frozen() is not False
            except errors.GuestGone:
                return False
            except errors.ThawFailed as error:
                LOG.debug('Guest %(name)s does not tell whether it came here '
                          'frozen: %(error)s', {'name': name, 'error': error})
            self._machine.sleep(self._settings.retry)
        LOG.warning('Guest %s did not tell whether it came here frozen', name)
        return False

    def _admit(self, instance_uuid: str) -> None:
        with self._lock:
            operation = self._barred.get(instance_uuid)
        if operation is not None:
            raise errors.Barred(operation)

    def _new_agent(self, instance_uuid: str) -> guest_agent.Agent:
        return self.agent(instance_uuid, self._settings.thaw)

    def _start_guard(self) -> None:
        if self._guard is None:
            LOG.warning('[quiesce] guard is off: a guest that is frozen '
                        'while nova-compute dies stays frozen until '
                        'nova-compute is started again')
            return
        try:
            self._guard.start()
        except guard_client.GuardUnavailable as error:
            LOG.error('%s. [quiesce] guard decides what that means for '
                      'snapshots; it is tried again at each', error)
