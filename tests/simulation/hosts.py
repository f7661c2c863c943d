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

"""A compute host: nova-compute, made of the real code, and its guard."""

from collections import abc
import contextlib
import dataclasses
import functools
import types
import typing

import libvirt
from nova.compute import vm_states
from nova import exception as nova_exception

from nova_quiesce import assisted
from nova_quiesce.copy import leftovers
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import freezer
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import job_watcher
from nova_quiesce.freeze.guard import lease_watcher
from nova_quiesce.freeze.guard import watcher
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import windows
from nova_quiesce.nova import thaw_casts
from nova_quiesce import policy
from nova_quiesce.record import open_requests
from nova_quiesce.record import recorder
from nova_quiesce import snapshots
from nova_quiesce import volume_backed
from tests.simulation import backends
from tests.simulation import clouds
from tests.simulation import guests
from tests.simulation import hypervisors
from tests.simulation import scheduler as scheduling
from tests.simulation import world as worlds

UUID = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'
MAX_FREEZE, FREEZE_TIMEOUT, THAW_TIMEOUT, ASK_TIMEOUT = 10, 5, 5, 5
_RETRY = 0.5
#: Seconds after which a late record is told.
_RECORD_TIMEOUT = 30
#: Seconds between two looks of Nova's manager whether a volume snapshot is
#: made.
_LOOK = 0.5


class GuardLink:
    """The guard, with the real watchers, behind a link that can break.

    It stands where nova-compute's end of the real guard is. As that one does,
    it starts another guard where one is gone, and tells it of all leases.

    :param world: the world
    :param guest: the guest
    :param directory: the path of the leases
    """

    def __init__(self, world: worlds.World, guest: guests.Guest,
                 directory: str) -> None:
        self._world = world
        self._guest = guest
        self._directory = directory
        self._watched: dict[str, abc.Callable[[], watcher.Watcher]] = {}
        self._watchers: dict[str, watcher.Watcher] = {}
        self.let_go_at: float | None = None
        world.on_compute_death.append(self._end)
        world.on_guard_death.append(self._watchers.clear)

    def start(self) -> None:
        """Have a guard."""
        if self._world.guard.is_dead:
            self._world.guard = scheduling.Process('guard')
            self._world.tell('another guard is started')
            for identity in self._watched:
                self._start(identity)

    def stop(self) -> None:
        """End it; it ends the jobs once nova-compute has ended."""
        self.let_go_at = self._world.scheduler.now
        for one in self._watchers.values():
            if isinstance(one, lease_watcher.LeaseWatcher):
                one.end('nova-compute is stopped')

    def is_usable(self) -> bool:
        """Tell whether there is one."""
        return True

    def defer(self, call: abc.Callable[..., None],
              *arguments: object) -> None:
        """Tell it something soon."""
        def tell() -> None:
            with contextlib.suppress(guard_client.GuardUnavailable):
                call(*arguments)

        self._world.scheduler.start(self._world.compute, 'tell-guard', tell)

    def watch(self, lease: leases.Lease) -> None:
        """Have a guest watched over."""
        self._watch(lease.id, functools.partial(
            lease_watcher.LeaseWatcher, lease,
            lease_directory.LeaseDirectory(self._directory), self._connect,
            wire.GuardSettings('test:///', self._directory, ASK_TIMEOUT,
                               THAW_TIMEOUT, _RETRY)))

    def watch_job(self, lease: duties.Duty) -> None:
        """Have a job watched over."""
        self._watch(lease.id, functools.partial(
            job_watcher.JobWatcher, lease,
            jobs.Files.from_dict(lease.content), self._connect, _RETRY))

    def release(self, lease_id: str) -> None:
        """End a watch."""
        with contextlib.suppress(guard_client.GuardUnavailable):
            self._pass('guard release: before')
        self._watched.pop(lease_id, None)
        one = self._watchers.pop(lease_id, None)
        if one is not None:
            one.release()

    def _watch(self, identity: str,
               new: abc.Callable[..., watcher.Watcher]) -> None:
        self._pass('guard watch: before')
        self.start()
        self._watched[identity] = lambda: new(machine=machine_of(
            self._world, self._world.guard))
        self._start(identity)
        self._pass('guard watch: after')

    def _pass(self, name: str) -> None:
        try:
            self._world.point(name)
        except libvirt.libvirtError as error:
            raise guard_client.GuardUnavailable() from error

    def _connect(self) -> typing.Any:
        return hypervisors.connect(self._world, self._guest)

    def _start(self, identity: str) -> None:
        one = self._watched[identity]()
        one.start()
        former = self._watchers.get(identity)
        self._watchers[identity] = one
        if former is not None:
            former.release()

    def _end(self) -> None:
        for one in self._watchers.values():
            one.end('nova-compute is gone')


def machine_of(world: worlds.World,
               process: scheduling.Process) -> machines.Machine:
    """Make the machine that a process runs on.

    :param world: the world
    :param process: the process
    """
    return typing.cast(machines.Machine, scheduling.SimulatedMachine(
        world.scheduler, process, world.boot_id))


def settings_of(directory: str, has_guard: bool) -> freezer.Settings:
    """Make the settings of a host's freezer.

    :param directory: the path of its leases
    :param has_guard: whether it has a guard
    """
    return freezer.Settings('test:///', directory, ASK_TIMEOUT, THAW_TIMEOUT,
                            _RETRY, has_guard=has_guard)


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """The things around a nova-compute, which outlive it.

    :ivar world: the world
    :ivar guest: the guest
    :ivar directory: the path of the leases
    :ivar has_guard: whether there is a guard
    :ivar is_required: whether quiesce is required
    :ivar cinder: the volumes
    :ivar queue: where nova-api's messages come from
    """

    world: worlds.World
    guest: guests.Guest
    directory: str
    has_guard: bool
    is_required: bool
    cinder: clouds.Cinder
    queue: clouds.Queue


class Compute:
    """A nova-compute, with the real freezer, requests and paths.

    It is what the paths take for this compute host.

    :param around: what is around it
    :ivar begun: the snapshots that are cut here
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._process = around.world.compute
        self.machine = machine_of(around.world, self._process)
        self.hypervisor = hypervisors.Host(around.world, around.guest)
        self.volume_api = around.cinder
        self.freezer = freezer.Freezer(
            settings_of(around.directory, around.has_guard), self.connect,
            self.machine)
        self.requests = open_requests.OpenRequests(
            self.freezer.duties, recorder.Recorder(
                'host', types.SimpleNamespace(record=True),
                typing.cast(typing.Any, around.cinder), self.machine),
            types.SimpleNamespace(record_timeout=_RECORD_TIMEOUT),
            self.machine)
        self.has_started = False
        self.volume_backed = volume_backed.VolumeBacked(
            typing.cast(typing.Any, self))
        self._assisted = assisted.Assisted(
            typing.cast(typing.Any, self), self.volume_backed.note_cut)
        self.shutdowns = types.SimpleNamespace(
            kept=lambda uuid: contextlib.nullcontext())
        self.begun: list[snapshots.Snapshot] = []
        self.instance: typing.Any = types.SimpleNamespace(
            uuid=UUID, name='instance-00000001',
            vm_state=vm_states.ACTIVE, system_metadata={
                'image_os_require_quiesce':
                    'yes' if around.is_required else 'no'})
        self.unquiesce_instance = self._unquiesce
        thaw_casts.observe_thaws(
            types.SimpleNamespace(_compute=self),
            self._thaw_asked)

    def _thaw_asked(self, context: typing.Any, instance: typing.Any,
                    mapping: object) -> None:
        self.volume_backed.thaw_asked(context, instance, mapping)
        if mapping:
            self._around.world.is_list_known = True

    def start(self) -> None:
        """Do as nova-compute does as it starts."""
        self.freezer.start()
        self.requests.start()
        leftovers.clear(self.hypervisor)
        leftovers.go_on(self.hypervisor, self.freezer.jobs)
        self.has_started = True

    def stop(self) -> None:
        """Do as nova-compute does as it is stopped."""
        self.freezer.stop()
        self.requests.stop()
        leftovers.end(self.hypervisor)

    def begin(self, _context: object, instance: object,
              purpose: str) -> snapshots.Snapshot:
        """Begin a snapshot that is cut on this host."""
        decision = self.decide()
        agent = self.agent(instance, decision)
        made = snapshots.Snapshot(
            decision, agent, lambda is_saved: self.window(
                agent, instance, decision, clouds.REQUEST, purpose, is_saved))
        self.begun.append(made)
        return made

    def judge_shut_off(self, _instance: object,
                       snapshot: snapshots.Snapshot) -> None:
        """See whether a guest that is off had shut itself down."""
        snapshot.find_unfreezable('the guest has ended')

    def snapshot_volume(self, cut: abc.Callable[[], None],
                        snapshot_id: str = 'alone') -> None:
        """Have the guest go on in another file of a volume, for Cinder.

        :param cut: notes when
        :param snapshot_id: Cinder's name of the snapshot
        """
        # Each of its volumes is called as its snapshot.
        with self._assisted.requested(self.instance, snapshot_id, snapshot_id):
            self._snapshot_volume(cut, snapshot_id)

    def _snapshot_volume(self, cut: abc.Callable[[], None],
                         volume_id: str) -> None:
        self._assisted.create(
            typing.cast(typing.Any, clouds.Context()), self.instance,
            backends.VolumeGuest(
                self._around.world, self.find_domain(), cut),
            volume_id, 'new-file',
            lambda guest: typing.cast(backends.VolumeGuest, guest).snapshot(
                quiesce=True))

    def serve(self) -> None:
        """Answer nova-api's messages."""
        def handle(message: clouds.Message) -> None:
            self.machine.start('rpc', self._answer, message)

        self._around.queue.serve(self._around.world.scheduler, handle)

    def connect(self) -> typing.Any:
        """Open a connection to the hypervisor."""
        return hypervisors.connect(self._around.world, self._around.guest)

    def find_domain(self) -> typing.Any:
        """Find the guest's domain, over a connection of its own."""
        return self.connect().lookupByUUIDString(UUID)

    def meet(self, context: clouds.Context, _instance: object) -> None:
        """Take notice of a request."""
        self.requests.lend(typing.cast(typing.Any, context))

    def decide(self, *_request: object) -> policy.Decision:
        """Make the decision that is in force."""
        return policy.Decision(
            policy.Policy.REQUIRE if self._around.is_required
            else policy.Policy.PREFER,
            policy.Limits(FREEZE_TIMEOUT, MAX_FREEZE))

    def agent(self, _instance: object,
              decision: policy.Decision) -> guest_agent.Agent:
        """Make the handle of the guest's agent."""
        return self.freezer.agent(
            UUID, FREEZE_TIMEOUT,
            is_strict=decision.policy is policy.Policy.REQUIRE)

    def window(self, agent: guest_agent.Agent, _instance: object,
               decision: policy.Decision, request_id: str, purpose: str,
               is_saved: bool = False) -> windows.Window:
        """Make a freeze window, which is not open yet."""
        return self.freezer.window(agent, freezer.Purpose(
            UUID, 'guest', request_id, purpose,
            decision.limits.freeze_timeout, decision.limits.max_freeze_time,
            is_saved))

    def _answer(self, message: clouds.Message) -> None:
        context: typing.Any = clouds.Context()
        try:
            if message.call == 'quiesce':
                self.volume_backed.quiesce(context, self.instance)
            elif message.call == 'snapshot_volume':
                self.snapshot_volume(message.note, str(message.mapping))
            else:
                self.unquiesce_instance(
                    context, self.instance, mapping=message.mapping)
        except Exception as error:
            self._around.world.tell('nova-compute answers %s: %s' % (
                message.call, error))
            message.answers.append(error)
        else:
            message.answers.append(None)

    def _unquiesce(self, context: typing.Any, instance: typing.Any,
                   mapping: object = None) -> None:
        # As Nova's manager does.
        for one in typing.cast(list[dict[str, str]], mapping or []):
            with contextlib.suppress(ConnectionError,
                                     nova_exception.NovaException):
                while self.volume_api.get_snapshot(context, one[
                        'snapshot_id'])['status'] == 'creating':
                    self.machine.sleep(_LOOK)
        self.volume_backed.unquiesce(context, instance)
