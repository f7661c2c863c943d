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

"""One run of the real code in a simulated world, and its judgement."""

from collections import abc
import contextlib
import pathlib
import tempfile
import types
import typing
from unittest import mock

import libvirt
from nova.image import glance as nova_glance

from nova_quiesce import consistency
from nova_quiesce.copy import leftovers
from nova_quiesce.copy import workplace
from nova_quiesce.cuts import cinder as volume_cuts
from nova_quiesce.cuts import rbd
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import files
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze import leases
from nova_quiesce import instances
from nova_quiesce.record import action_events
from nova_quiesce.record import volume_snapshots
from tests.simulation import backends
from tests.simulation import clouds
from tests.simulation import disks
from tests.simulation import guests
from tests.simulation import hosts
from tests.simulation import judgement
from tests.simulation import operations
from tests.simulation import scheduler as scheduling
from tests.simulation import world as worlds

#: When the project makes its other requests, in seconds; the last one comes
#: after all that is waited for.
_VISITS = (150, 1000, 25 * 3600, 26 * 3600)
_VISIT_AGAIN = 10
#: Seconds that a nova-compute gets that removes what is left.
_AT_LAST = 300
_OPERATIONS = {
    worlds.Fault.PAUSE: operations.pause,
    worlds.Fault.SUSPEND: operations.suspend,
    worlds.Fault.REBOOT: operations.reboot,
    worlds.Fault.DELETE: operations.destroy,
    worlds.Fault.MIGRATE: operations.migrate}


class Path(typing.NamedTuple):
    """A path of a snapshot.

    :ivar begin: has the request begin, once nova-compute runs
    :ivar serve: what a nova-compute that was started again does
    :ivar has_guard: whether there is a guard
    :ivar is_of_api: whether nova-api makes the image
    :ivar is_suspended: whether the guest is suspended for it, and its limit
        counts anew as it runs again
    :ivar is_assisted: whether nova-compute makes Cinder's snapshots
    :ivar lasts: seconds that a run goes on for
    """

    begin: abc.Callable[['Run', hosts.Compute], None]
    serve: abc.Callable[['Run', hosts.Compute], None]
    has_guard: bool = True
    is_of_api: bool = False
    lasts: float = 300
    is_assisted: bool = False
    is_suspended: bool = False


class Run:
    """One run.

    :param path: what nova-compute does in it
    :param is_required: whether quiesce is required
    :param seed: of the order in which tasks run
    :param faults: what goes wrong, by the number of the point
    :ivar problems: what is not as it is promised
    :ivar record: of the image, where nova-compute makes it
    :ivar was_killed: whether nova-compute had to be started again
    :ivar cut_point: the number of the point at which the job had begun
    """

    def __init__(self, path: Path, is_required: bool = True, seed: int = 0,
                 faults: abc.Mapping[int, worlds.Fault] | None = None
                 ) -> None:
        self.path = path
        self.is_required = is_required
        self.world = worlds.World(seed, faults or {}, path.has_guard)
        self.guest = guests.Guest(self.world)
        self.queue = clouds.Queue(self.world)
        self.cinder = clouds.Cinder(
            self.world, self.queue if path.is_assisted else None)
        self.glance = clouds.Glance(self.world)
        self.conductor = clouds.Conductor(self.world)
        self.api = clouds.NovaApi(
            self.world, self.queue, self.cinder, self.glance, self.conductor,
            is_required)
        self.world.handlers = self
        self.problems: list[str] = []
        self.record: consistency.Record | None = None
        self.was_killed = False
        self._is_operated = False
        self.cut_point = 0
        self.pool = backends.Pool(self)
        self._cut: float | None = None
        self.compute: hosts.Compute | None = None
        self.scratch = pathlib.Path()
        self._ending = contextlib.ExitStack()

    def go(self) -> typing.Self:
        """Do it, and judge."""
        with self._ending:
            self.scratch = pathlib.Path(self._ending.enter_context(
                tempfile.TemporaryDirectory(dir='/dev/shm')))
            (self.scratch / 'snapshots' / 'quiesce-host-other-a1b2c3d4'
             ).mkdir(parents=True)
            self._stand_in()
            self._ending.callback(self.world.scheduler.close)
            self._start_compute(self.path.begin)
            self.world.on_compute_death.append(self._restart_compute)
            self.world.scheduler.start(
                self.world.operator, 'product', self._back_up)
            if self.path.is_of_api:
                self.world.scheduler.start(
                    self.world.operator, 'tenant', self._visit)
            try:
                self.world.scheduler.run(
                    self.world.scheduler.now + self.path.lasts)
                if self.may_leave_files and (
                        judgement.left_for_restart(self)):
                    self.problems += judgement.left_by_refusal(self)
                    self._restart_at_last()
            except scheduling.Endless as error:
                self.problems.append('it has no end: %s' % error)
            self.problems += judgement.problems_of(self)
        return self

    def _restart_at_last(self) -> None:
        # What a nova-compute could not remove, the next one does.
        scheduler = self.world.scheduler

        def restart() -> None:
            self.world.kill_compute()
            scheduler.wait(lambda: False, _AT_LAST / 2)
            self._lend('req-at-last')

        scheduler.start(self.world.operator, 'operator', restart)
        scheduler.run(scheduler.now + _AT_LAST)

    def story(self) -> str:
        """Tell what happened, for whoever has to find out why."""
        return '\n'.join(['', *self.world.story])

    def reset_guest(self) -> None:
        """Reset the guest."""
        self.guest.reset()

    def destroy_guest(self) -> None:
        """Destroy the guest."""
        self.guest.destroy()

    def hang_agent(self, seconds: float) -> None:
        """Have the agent do nothing for so long."""
        self.guest.hang_agent(seconds)

    def kill_agent(self) -> None:
        """End the agent, which is started again."""
        self.guest.kill_agent()

    def pause_guest(self, seconds: float) -> None:
        """Have the guest stand still for so long."""
        self.guest.pause(seconds)

    def lose_host(self) -> None:
        """Lose what was in the host's memory."""
        self.guest.lose_host()

    def delay_snapshots(self) -> None:
        """Have the volume snapshots that are made now not end."""
        self.cinder.delay()

    def fail_snapshots(self) -> None:
        """Have the volume snapshots that are made now fail."""
        self.cinder.fail()

    def delete_image(self) -> None:
        """Delete the request's image, if it is there."""
        self.glance.delete_made()

    def operate(self, operation: worlds.Fault) -> None:
        """Have nova-compute do something else to the instance.

        While it does, nova-api refuses all else.
        """
        if self._is_operated:
            return
        self._is_operated = True

        def do(compute: hosts.Compute) -> None:
            try:
                _OPERATIONS[operation](self, compute)
            finally:
                self._is_operated = False

        def wait_and_do() -> None:
            self.world.scheduler.wait(lambda: self.compute is not None)
            compute = self.compute
            assert compute is not None
            compute.machine.start('operation', do, compute)

        self.world.scheduler.start(
            self.world.operator, 'tenant', wait_and_do)

    def stop_compute(self) -> None:
        """Stop nova-compute as an operator does."""
        compute = self.compute
        if compute is None:
            self.world.kill_compute()
            return

        def stop() -> None:
            try:
                compute.stop()
            finally:
                self.world.kill_compute()

        compute.machine.start('stop', stop)

    def _stand_in(self) -> None:
        # For all that the real code finds in its modules.
        disk = disks.Disk(self.world)
        workshop = disks.Workshop(self.world, self.guest)
        places = workplace.Places(str(self.scratch / 'snapshots'), 'host')
        volume_client = types.SimpleNamespace(volume_snapshots=self.cinder)
        poll = volume_cuts.SnapshotPoll
        for module, name, other in (
                (files, 'os', disk), (files, 'fcntl', disk),
                *((workplace, one, workshop) for one in disks.WORKSHOP_NAMES),
                (workplace, 'of_this_host', lambda: places),
                (leftovers, 'machines', _Machines(self)),
                (guard_client, 'GuardClient',
                 lambda settings, socket, machine=None: hosts.GuardLink(
                     self.world, self.guest, self.directory)),
                (rbd, 'rbd_utils', backends),
                (instances, 'set_volume_file',
                 lambda *_args: self.world.point('conductor file: before')),
                (volume_cuts, 'SnapshotPoll', lambda state: poll(
                    state, hosts.machine_of(self.world, self.world.compute))),
                (nova_glance, 'GlanceClientWrapper', lambda: self.glance),
                (volume_snapshots, 'cinder', types.SimpleNamespace(
                    cinderclient=lambda context: volume_client)),
                (action_events, 'has_failed', self.conductor.has_failed),
                (action_events, 'tell_once', self.conductor.tell_once)):
            self._ending.enter_context(mock.patch.object(module, name, other))

    @property
    def cut(self) -> float | None:
        """The time of the cut, where nova-compute made it."""
        cuts = [job.began for job in self.guest.jobs if job.is_ours]
        return cuts[0] if cuts else self._cut

    def note_cut(self) -> None:
        """Note that the disk is cut now, where no backup job does it."""
        self._cut, self.cut_point = (
            self.world.scheduler.now, len(self.world.points))
        self.world.tell('the disk is cut')

    @property
    def level(self) -> object:
        """The consistency level that is claimed; None where there is none."""
        if self.record is not None:
            return self.record.level.value
        image = self.glance.images.get(self.glance.made or '', {})
        return image.get(consistency.PREFIX + 'consistency')

    @property
    def may_leave_files(self) -> bool:
        """True if the disk has failed, or what removes files was not alone."""
        return len(self.faults_seen) > 1 or any(
            ', disk' in line and worlds.Fault.ERROR.value in line
            for line in self.faults_seen)

    @property
    def faults_seen(self) -> list[str]:
        """The faults that there were, as the story tells them."""
        return [line for line in self.world.story if 'FAULT' in line]

    @property
    def directory(self) -> str:
        """The path of the leases."""
        return str(self.scratch / 'leases')

    def _start_compute(self, then: abc.Callable[
            ['Run', hosts.Compute], None]) -> None:
        def serve() -> None:
            made = hosts.Compute(hosts.Surroundings(
                self.world, self.guest, self.directory, self.path.has_guard,
                self.is_required, self.cinder, self.queue))
            try:
                made.start()
            except (leases.LeaseError, duties.DutyError, OSError,
                    libvirt.libvirtError) as error:
                self.world.tell('nova-compute does not start: %s' % error)
                self.world.kill_compute()
                return
            self.compute = made
            then(self, made)

        self.world.scheduler.start(self.world.compute, 'main', serve)

    def _restart_compute(self) -> None:
        self.was_killed = True
        self.compute = None
        if self.path.is_suspended:
            self.world.scheduler.start(
                self.world.operator, 'owner', self._start_server)

        def restart() -> None:
            self.world.scheduler.wait(
                lambda: False, worlds.COMPUTE_COMES_BACK)
            self.world.compute = scheduling.Process('nova-compute')
            self.world.tell('nova-compute is started again')
            self._start_compute(self.path.serve)

        self.world.scheduler.start(
            self.world.operator, 'supervisor', restart)

    def _start_server(self) -> None:
        # What was left suspended, its owner starts at some time.
        self.world.scheduler.wait(lambda: False, worlds.STARTED)
        self.guest.restore()

    def _back_up(self) -> None:
        # A backup product, which begins its own job as soon as it can.
        scheduler, guest = self.world.scheduler, self.guest
        job = guests.Job(
            '<domainbackup><server socket="/backup/socket"/><disks><disk>'
            '<scratch file="/backup/scratch"/></disk></disks></domainbackup>',
            is_ours=False)
        def is_busy() -> bool:
            return guest.job is not None

        scheduler.wait(is_busy, _PRODUCT_WAITS)
        while is_busy():
            # libvirt ends the job that there is, and is not told which is
            # meant. So it may not be another one the next moment.
            scheduler.wait(lambda: False, _PRODUCT_LOOKS)
        if guest.is_running:
            guest.begin_job(job)
            scheduler.wait(lambda: False, _PRODUCT_COPIES)
            if guest.job is job:
                guest.end_job()

    def _visit(self) -> None:
        # The project makes other requests, which lend their authority.
        scheduler = self.world.scheduler
        for moment in _VISITS:
            scheduler.wait(lambda: False, 1000 + moment - scheduler.now)
            self._lend('req-%d' % moment)

    def _lend(self, request_id: str) -> None:
        while self.compute is None:
            self.world.scheduler.wait(lambda: False, _VISIT_AGAIN)
        self.compute.requests.lend(typing.cast(
            typing.Any, clouds.Context(request_id)))


class _Machines:
    """What stands for the module of machines, where only one is known.

    :param run: the run
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def REAL(self) -> object:
        """The machine of nova-compute."""
        return hosts.machine_of(self._run.world, self._run.world.compute)


#: Seconds that another product waits for our job to begin, between two looks
#: whether it has ended, and takes to copy.
_PRODUCT_WAITS, _PRODUCT_LOOKS, _PRODUCT_COPIES = 60, 5, 100
