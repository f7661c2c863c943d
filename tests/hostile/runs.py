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

"""One run of the real freeze code against a hostile agent."""

from collections import abc
import contextlib
import logging
import pathlib
import random
import tempfile
import time
import tracemalloc
import typing
from unittest import mock

from nova_quiesce import consistency
from nova_quiesce import fixture
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import finder
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
from tests.hostile import answers
from tests.hostile import guests
from tests.hostile import judgement
from tests.simulation import scheduler as scheduling

HOSTILE = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'
NEIGHBOUR = '5b1c0f9d-70a2-4f0e-9d0a-6c0a8f1f2b3c'
MAX_FREEZE, FREEZE_TIMEOUT, THAW_TIMEOUT, ASK_TIMEOUT = 10, 5, 5, 5
_BOOT = '6d0b2c48-f1a9-4e53-8f00-000000000001'
#: How long a run lasts, in seconds of virtual time.
LENGTH = 800.0
#: How long cuts take; the last one is longer than the guest may be frozen.
_CUTS = (0.05, 0.05, 0.05, 2.0, 12.0)
_LOGGER = logging.getLogger('nova_quiesce')


class Guard:
    """The guard with the real watchers, as nova-compute sees it.

    :param connect: opens a connection to the hypervisor
    :param directory: the path of the leases
    :param machine: the guard's
    :ivar let_go_at: None: it is never let go
    """

    def __init__(self, connect: finder.Connect, directory: str,
                 machine: machines.Machine) -> None:
        self._connect = connect
        self._directory = directory
        self._machine = machine
        self._watchers: dict[str, lease_watcher.LeaseWatcher] = {}
        self.let_go_at: float | None = None

    def start(self) -> None:
        """Do nothing: it runs."""

    def is_usable(self) -> bool:
        """Tell that it works."""
        return True

    def defer(self, call: abc.Callable[..., None],
              *arguments: object) -> None:
        """Tell it something."""
        call(*arguments)

    def watch(self, lease: leases.Lease) -> None:
        """Have a guest watched over."""
        watcher = lease_watcher.LeaseWatcher(
            lease, lease_directory.LeaseDirectory(self._directory),
            self._connect, wire.GuardSettings(
                'test:///', self._directory, ASK_TIMEOUT, THAW_TIMEOUT, 0.5),
            self._machine)
        watcher.start()
        self.release(lease.id)
        self._watchers[lease.id] = watcher

    def release(self, lease_id: str) -> None:
        """End a watch."""
        watcher = self._watchers.pop(lease_id, None)
        if watcher is not None:
            watcher.release()

    def watch_job(self, lease: duties.Duty) -> None:
        """Have a job watched over; there are none in these runs."""


class Run:
    """One run: a hostile guest, and another beside it.

    :param seed: of all that is chosen in it
    :param is_hostile: whether the agent is; without, it is a control
    :param is_traced: whether its memory is measured, which takes time
    :ivar problems: what is not as it is promised
    :ivar outcomes: how its snapshots ended, in a word each
    :ivar peak: the most memory that it took at once, besides the largest
        answer, in bytes
    :ivar neighbour_seconds: how long each snapshot of the other guest took
    """

    def __init__(self, seed: int, is_hostile: bool = True,
                 is_traced: bool = False) -> None:
        self.seed = seed
        self.problems: list[str] = []
        self.outcomes: list[str] = []
        self.story: list[str] = []
        self.neighbour_seconds: list[float] = []
        self.peak = 0
        self._is_traced = is_traced
        self._chosen = random.Random(seed)
        self.scheduler = scheduling.Scheduler(seed)
        self.hostility = (
            answers.Hostility(self._chosen) if is_hostile else None)
        self.guest = guests.Guest(
            self.scheduler, self._tell, self.hostility,
            self._chosen.choice((fixture.OLDER, fixture.NEWER)))
        if is_hostile and self._chosen.random() < 0.2:
            self.guest.undone_after = (
                self._chosen.uniform(0, 15), self._chosen.random() < 0.5)
        self._neighbour = guests.Guest(
            self.scheduler, lambda text: None, None, fixture.OLDER)
        self._connection = guests.Connection({
            HOSTILE: self.guest, NEIGHBOUR: self._neighbour})
        self._directory = ''

    @property
    def count(self) -> int:
        """The number of answers that the agent gave."""
        return len(self.guest.commands)

    def go(self) -> typing.Self:
        """Do it, and judge."""
        # Other processes' time is not this one's.
        began = time.process_time()
        listener = judgement.Listener(self.problems.append)
        with contextlib.ExitStack() as ending:
            scratch = ending.enter_context(tempfile.TemporaryDirectory(
                dir='/dev/shm'))
            self._directory = str(pathlib.Path(scratch) / 'leases')
            ending.enter_context(listener.listening(_LOGGER))
            ending.enter_context(mock.patch.object(
                guard_client, 'GuardClient',
                lambda settings, socket, machine=None: Guard(
                    self.connect, self._directory, self._machine('guard'))))
            ending.callback(self.scheduler.close)
            ending.enter_context(self._traced())
            self._start()
            self.scheduler.run(self.scheduler.now + LENGTH)
            self.problems += [
                *judgement.judge_guest(self.guest, self._directory),
                *judgement.judge_tasks(self.scheduler, self.guest),
                *judgement.judge_neighbour(
                    self._neighbour, self.neighbour_seconds)]
        self.problems += judgement.judge_time(time.process_time() - began)
        return self

    def connect(self) -> domains.Connection:
        """Open a connection, with no more of it than is called."""
        return typing.cast(domains.Connection, self._connection)

    def _machine(self, process: str) -> machines.Machine:
        return typing.cast(machines.Machine, scheduling.SimulatedMachine(
            self.scheduler, scheduling.Process(process), lambda: _BOOT))

    @contextlib.contextmanager
    def _traced(self) -> abc.Iterator[None]:
        if not self._is_traced:
            yield
            return
        tracemalloc.start()
        try:
            yield
        finally:
            # What libvirt hands over has to be somewhere, once.
            self.peak = (
                tracemalloc.get_traced_memory()[1] - self.guest.largest)
            tracemalloc.stop()
            self.problems += judgement.judge_memory(self.peak)

    def _tell(self, text: str) -> None:
        self.story.append('%9.3f %s' % (self.scheduler.now - 1000, text))

    def _start(self) -> None:
        made = freezer.Freezer(
            freezer.Settings('test:///', self._directory, ASK_TIMEOUT,
                             THAW_TIMEOUT, 0.5,
                             has_guard=self._chosen.random() < 0.8),
            self.connect, self._machine('nova-compute'))
        self._start_task('hostile', lambda: self._serve(made))
        self._start_task('neighbour', lambda: self._serve_neighbour(made))

    def _start_task(self, name: str, serve: abc.Callable[[], None]) -> None:
        self.scheduler.start(scheduling.Process(name), name, serve)

    def _serve(self, made: freezer.Freezer) -> None:
        if self._chosen.random() < 0.2:
            self._leave_behind()
        made.start()
        for _ in range(self._chosen.choice((1, 2, 4))):
            self.guest.is_vouched = False
            began = self.scheduler.now
            self._chosen.choice((
                self._snapshot, self._snapshot, self._snapshot, self._span,
                self._arrive))(made)
            seconds = self.scheduler.now - began
            self._tell('%s after %.3f s' % (self.outcomes[-1], seconds))
            self.problems += judgement.judge_duration(seconds)
            self.scheduler.wait(
                lambda: False, self._chosen.choice((0.1, 5, 20)))

    def _new_decision(self) -> policy.Decision:
        return policy.Decision(
            self._chosen.choice((policy.Policy.REQUIRE, policy.Policy.PREFER)),
            policy.Limits(FREEZE_TIMEOUT, MAX_FREEZE),
            mountpoints=self._chosen.choice(((), (), ('/data',), ('/nope',))))

    def _snapshot(self, made: freezer.Freezer) -> None:
        """Take an image-backed snapshot of the hostile guest."""
        decision = self._new_decision()
        try:
            record, was_frozen = self._take(
                made, HOSTILE, decision, self._chosen.choice(_CUTS))
        except errors.QuiesceError as error:
            self.outcomes.append('refused')
            self.problems += judgement.judge_error(error)
        else:
            self.outcomes.append(record.level.value)
            self.problems += judgement.judge_record(
                record, was_frozen or self.guest.is_vouched,
                decision.policy is policy.Policy.REQUIRE)

    def _take(self, made: freezer.Freezer, uuid: str,
              decision: policy.Decision, seconds: float
              ) -> tuple[consistency.Record, bool]:
        agent = made.agent(uuid, FREEZE_TIMEOUT, decision.mountpoints,
                           decision.policy is policy.Policy.REQUIRE)
        was_frozen = False
        snapshot = snapshots.Snapshot(
            decision, agent, lambda is_saved: made.window(
                agent, self._purpose(uuid)))
        snapshot.prepare()
        try:
            snapshot.freeze()
            was_frozen = self._cut(seconds)
        finally:
            snapshot.thaw()
        snapshot.check()
        return snapshot.record, was_frozen

    def _span(self, made: freezer.Freezer) -> None:
        """Have the hostile guest frozen by one call, thawed by another."""
        decision = self._new_decision()
        agent = made.agent(HOSTILE, FREEZE_TIMEOUT, decision.mountpoints, True)
        shown: list[proof.Evidence] = []
        try:
            with made.spanning.asking(HOSTILE):
                agent.preflight()
            made.spanning.open(HOSTILE, 'req-1', made.window(
                agent, self._purpose(HOSTILE)), shown.append)
            was_frozen = self._cut(self._chosen.choice(_CUTS))
            made.spanning.close(HOSTILE, 'req-1')
            self.scheduler.wait(lambda: bool(shown), MAX_FREEZE)
        except errors.QuiesceError as error:
            self.outcomes.append('refused')
            self.problems += judgement.judge_error(error)
        else:
            record = consistency.judge(shown[0])
            self.outcomes.append(record.level.value)
            self.problems += judgement.judge_record(
                record, was_frozen or self.guest.is_vouched, False)

    def _arrive(self, made: freezer.Freezer) -> None:
        """Have the guest come from another host, maybe frozen."""
        if self._chosen.random() < 0.5:
            self.guest.freeze(())
            # Nobody here owes it anything before its agent tells.
            self.guest.is_denied = True
        made.receive(HOSTILE, 'guest')
        self.outcomes.append('arrived')

    def _leave_behind(self) -> None:
        """Leave the lease of a guest that an earlier one froze."""
        if self._chosen.random() < 0.7:
            self.guest.freeze(())
        directory = lease_directory.LeaseDirectory(self._directory)
        directory.prepare()
        directory.acquire(leases.Lease.new(
            self._machine('earlier'), HOSTILE, 'req-0', 'snapshot', 10, 1))

    def _cut(self, seconds: float) -> bool:
        began = self.scheduler.now
        self._tell('the cut')
        self.scheduler.wait(lambda: False, seconds)
        return self.guest.was_frozen(began)

    def _serve_neighbour(self, made: freezer.Freezer) -> None:
        """Take snapshots of the other guest, whatever becomes of the first."""
        decision = policy.Decision(
            policy.Policy.REQUIRE, policy.Limits(FREEZE_TIMEOUT, MAX_FREEZE))
        for pause in (self._chosen.uniform(0.5, 15), 20):
            self.scheduler.wait(lambda: False, pause)
            began = self.scheduler.now
            self._take(made, NEIGHBOUR, decision, _CUTS[0])
            self.neighbour_seconds.append(self.scheduler.now - began)

    @staticmethod
    def _purpose(uuid: str) -> freezer.Purpose:
        return freezer.Purpose(
            uuid, 'guest', 'req-1', 'snapshot', FREEZE_TIMEOUT, MAX_FREEZE)
