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

"""One run of the real freeze code in a simulated world, and its judgement."""

from collections import abc
import contextlib
import pathlib
import tempfile
import typing
from unittest import mock

import libvirt

from nova_quiesce import consistency
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import files
from nova_quiesce.freeze import freezer
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import lease_watcher
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import proof
from nova_quiesce import policy
from nova_quiesce import snapshots
from tests.simulation import scheduler as scheduling
from tests.simulation import world as worlds

UUID = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'
MAX_FREEZE, FREEZE_TIMEOUT, THAW_TIMEOUT, ASK_TIMEOUT = 10, 5, 5, 5
#: How long a run goes on after everything works again, in seconds.
AFTERMATH = 300
#: Seconds after its end, or after everything works again, within which a
#: freeze ends: a thaw takes its timeout, and pauses grow to 10 s.
BOUND = 60
MOST_THAWS = 6


class GuardLink:
    """The guard, with the real watchers, behind a link that can break.

    It stands where nova-compute's end of the real guard is. As that one does,
    it starts another guard where one is gone, and tells it of all leases.

    :param world: the world
    :param directory: the path of the leases
    """

    def __init__(self, world: worlds.World, directory: str) -> None:
        self._world = world
        self._directory = directory
        self._watched: dict[str, leases.Lease] = {}
        self._watchers: dict[str, lease_watcher.LeaseWatcher] = {}
        world.on_compute_death.append(self._end)
        world.on_guard_death.append(self._watchers.clear)

    def start(self) -> None:
        """Have a guard."""
        if self._world.guard.is_dead:
            self._world.guard = scheduling.Process('guard')
            self._world.tell('another guard is started')
            for lease in self._watched.values():
                self._start(lease)

    def stop(self) -> None:
        """End it."""
        self._end()

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
        self._pass('guard watch: before')
        self.start()
        self._watched[lease.id] = lease
        self._start(lease)
        self._pass('guard watch: after')

    def release(self, lease_id: str) -> None:
        """End a watch."""
        with contextlib.suppress(guard_client.GuardUnavailable):
            self._pass('guard release: before')
        self._watched.pop(lease_id, None)
        watcher = self._watchers.pop(lease_id, None)
        if watcher is not None:
            watcher.release()

    def watch_job(self, lease: duties.Duty) -> None:
        """Have a job watched over; there are none in these runs."""

    def _pass(self, name: str) -> None:
        try:
            self._world.point(name)
        except libvirt.libvirtError as error:
            raise guard_client.GuardUnavailable() from error

    def _start(self, lease: leases.Lease) -> None:
        watcher = lease_watcher.LeaseWatcher(
            lease, lease_directory.LeaseDirectory(self._directory),
            lambda: worlds.connect(self._world),
            wire.GuardSettings('test:///', self._directory, ASK_TIMEOUT,
                               THAW_TIMEOUT, 0.5),
            scheduling.SimulatedMachine(
                self._world.scheduler, self._world.guard,
                lambda: self._world.boot))
        watcher.start()
        former = self._watchers.get(lease.id)
        self._watchers[lease.id] = watcher
        if former is not None:
            former.release()

    def _end(self) -> None:
        for watcher in self._watchers.values():
            watcher.end('nova-compute is gone')


class Run:
    """One run.

    :param path: what nova-compute does in it
    :param is_required: whether quiesce is required
    :param seed: of the order in which tasks run
    :param faults: what goes wrong, by the number of the point
    :ivar problems: what is not as it is promised
    """

    def __init__(self, path: 'Path', is_required: bool = True, seed: int = 0,
                 faults: abc.Mapping[int, worlds.Fault] | None = None
                 ) -> None:
        self.world = worlds.World(seed, faults)
        self.problems: list[str] = []
        self.record: consistency.Record | None = None
        self.error: BaseException | None = None
        self.cut_at: float | None = None
        self.was_frozen_at_cut = False
        self.was_killed = False
        self._path = path
        self._is_required = is_required
        self._directory = ''

    def go(self) -> typing.Self:
        """Do it, and judge."""
        disk = worlds.Disk(self.world)
        with contextlib.ExitStack() as ending:
            scratch = ending.enter_context(tempfile.TemporaryDirectory(
                dir='/dev/shm'))
            self._directory = str(pathlib.Path(scratch) / 'leases')
            ending.enter_context(mock.patch.object(files, 'os', disk))
            ending.enter_context(mock.patch.object(files, 'fcntl', disk))
            ending.enter_context(mock.patch.object(
                guard_client, 'GuardClient',
                lambda settings, socket, machine=None: GuardLink(
                    self.world, self._directory)))
            ending.callback(self.world.scheduler.close)
            self._start_compute(self._path.steps)
            self.world.on_compute_death.append(self._restart_compute)
            self.world.scheduler.run(self.world.scheduler.now + AFTERMATH)
            self._judge()
        return self

    def story(self) -> str:
        """Tell what happened, for whoever has to find out why."""
        return '\n'.join(['', *self.world.story])

    def new_freezer(self) -> freezer.Freezer:
        """Make the freezer of a nova-compute, and start it."""
        made = freezer.Freezer(
            freezer.Settings(
                'test:///', self._directory, ASK_TIMEOUT, THAW_TIMEOUT, 0.5,
                has_guard=self._path.has_guard),
            lambda: worlds.connect(self.world),
            typing.cast(machines.Machine, scheduling.SimulatedMachine(
                self.world.scheduler, self.world.compute,
                lambda: self.world.boot)))
        made.start()
        return made

    def decision(self) -> policy.Decision:
        """Make the decision that is in force."""
        return policy.Decision(
            policy.Policy.REQUIRE if self._is_required
            else policy.Policy.PREFER,
            policy.Limits(FREEZE_TIMEOUT, MAX_FREEZE))

    def cut(self) -> None:
        """Make the cut, over a connection of nova-compute's own."""
        domain = worlds.Connection(self.world).lookupByUUIDString(UUID)
        domain.begin_backup()
        self.cut_at = self.world.scheduler.now
        self.was_frozen_at_cut = self.world.guest.is_frozen

    def _start_compute(self, steps: abc.Callable[
            ['Run', freezer.Freezer], consistency.Record]) -> None:
        def serve() -> None:
            try:
                self.record = steps(self, self.new_freezer())
                self.world.tell('the record says %s: %s' % (
                    self.record.level.value, self.record.reason))
            except (errors.QuiesceError, libvirt.libvirtError,
                    leases.LeaseError) as error:
                self.error = error
                self.world.tell('the snapshot failed: %s' % error)

        self.world.scheduler.start(self.world.compute, 'snapshot', serve)

    def _restart_compute(self) -> None:
        self.was_killed = True

        def restart() -> None:
            self.world.scheduler.wait(lambda: False, worlds.COMES_BACK)
            self.world.compute = scheduling.Process('nova-compute')
            self.world.tell('nova-compute is started again')
            self._start_compute(lambda run, freezer: consistency.crash(
                'nova-compute was started again'))

        self.world.scheduler.start(
            self.world.operator, 'supervisor', restart)

    def _judge(self) -> None:
        self.problems += [
            *self._judge_guest(), *self._judge_record(), *self._judge_disk(),
            *self._judge_tasks()]

    def _judge_guest(self) -> abc.Iterator[str]:
        guest = self.world.guest
        if guest.is_frozen:
            yield 'the guest stays frozen'
        for span in guest.frozen_spans:
            latest = max(span.begin + MAX_FREEZE, self.world.healed_at) + BOUND
            if span.end is not None and span.end > latest:
                yield 'it was frozen for %.1f s' % (span.end - span.begin)
        if guest.hooks.count('freeze') > 1:
            yield 'it was frozen more than once'
        if guest.hooks.count('thaw') > MOST_THAWS:
            yield 'it was thawed %d times' % guest.hooks.count('thaw')

    def _judge_record(self) -> abc.Iterator[str]:
        if self.record is None:
            return
        is_claimed = self.record.level is consistency.Level.FILESYSTEM
        if is_claimed and not self.was_frozen_at_cut:
            yield 'the record lies'
        if (not is_claimed and self._path.makes_image and self._is_required
                and not self.was_killed):
            yield 'quiesce is required, and not proven'

    def _judge_disk(self) -> abc.Iterator[str]:
        left = [one.name for one in
                pathlib.Path(self._directory).glob('*.lease')]
        if left:
            yield 'leases are left: %s' % left

    def _judge_tasks(self) -> abc.Iterator[str]:
        for task in self.world.scheduler.tasks:
            if not task.process.is_dead:
                yield 'task %s of %s is left' % (task.name, task.process)
        for task in self.world.scheduler.failed:
            yield 'task %s: %r' % (task.name, task.error)


class Path(typing.NamedTuple):
    """A path of a snapshot.

    :ivar steps: nova-compute's, up to the record
    :ivar makes_image: whether what it returns without an error is an image
    :ivar has_guard: whether there is a guard
    """

    steps: abc.Callable[[Run, freezer.Freezer], consistency.Record]
    makes_image: bool
    has_guard: bool = True


def image_backed(run: Run, made: freezer.Freezer) -> consistency.Record:
    """Freeze, begin a backup job, and thaw."""
    decision = run.decision()
    agent = made.agent(UUID, FREEZE_TIMEOUT,
                       is_strict=decision.policy is policy.Policy.REQUIRE)
    snapshot = snapshots.Snapshot(
        decision, agent, lambda is_saved: made.window(agent, freezer.Purpose(
            UUID, 'guest', 'req-1', 'snapshot', FREEZE_TIMEOUT, MAX_FREEZE,
            is_saved)))
    snapshot.prepare()
    try:
        snapshot.freeze()
        run.cut()
    finally:
        snapshot.thaw()
    snapshot.check()
    return snapshot.record


def spanning(run: Run, made: freezer.Freezer) -> consistency.Record:
    """Freeze in one call, and thaw in another, as nova-api drives it."""
    agent = made.agent(UUID, FREEZE_TIMEOUT, is_strict=True)
    shown: list[proof.Evidence] = []
    with made.spanning.asking(UUID):
        agent.preflight()
    made.spanning.open(UUID, 'req-1', made.window(agent, freezer.Purpose(
        UUID, 'guest', 'req-1', 'volume snapshots', FREEZE_TIMEOUT,
        MAX_FREEZE)), shown.append)
    try:
        run.cut()
    finally:
        made.spanning.close(UUID, 'req-1')
        run.world.scheduler.wait(lambda: bool(shown), AFTERMATH / 2)
    return consistency.judge(shown[0])


PATHS = {'image-backed': Path(image_backed, True),
         'spanning': Path(spanning, False),
         'image-backed without a guard': Path(image_backed, True, False)}
