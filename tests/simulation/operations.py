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

"""What a tenant, or an operator, does to the instance amid its snapshot.

nova-api lets it begin, because no task state says that a snapshot is made of
its volumes. The real code comes first, and then what Nova does.
"""

from collections import abc
import typing

from nova import exception as nova_exception

from nova_quiesce.freeze import freezer
from nova_quiesce import operations
from tests.simulation import hosts
from tests.simulation import hypervisors

if typing.TYPE_CHECKING:
    from tests.simulation import runs

#: Seconds for which the tenant leaves it paused, or suspended.
AWAY = 30
#: Seconds that a guest moves.
_MOVES = 3


def pause(run: 'runs.Run', compute: hosts.Compute) -> None:
    """Pause it for a while."""
    _thaw_first(run, compute, 'paused')
    run.guest.pause(AWAY)


def suspend(run: 'runs.Run', compute: hosts.Compute) -> None:
    """Suspend it to disk for a while."""
    _thaw_first(run, compute, 'suspended')
    if run.guest.is_running:
        run.guest.save()
        _later(run, AWAY, run.guest.restore)


def reboot(run: 'runs.Run', compute: hosts.Compute) -> None:
    """Reboot it, as its own system does if it is asked to."""
    _thaw_first(run, compute, 'rebooted')
    run.guest.reset()
    operations.Operations(compute.freezer).lapse(compute.instance, 'rebooted')


def _thaw_first(run: 'runs.Run', compute: hosts.Compute,
                operation: str) -> None:
    operations.Operations(compute.freezer).lapse(compute.instance, operation)
    if run.guest.is_frozen and len(run.faults_seen) == 1:
        run.world.break_promise('it is %s while it is frozen' % operation)


def destroy(run: 'runs.Run', compute: hosts.Compute) -> None:
    """Delete it."""
    run.guest.destroy()
    operations.Operations(compute.freezer).lapse(
        compute.instance, 'shut off hard')


def migrate(run: 'runs.Run', compute: hosts.Compute) -> None:
    """Have it go on, alive, on a second host."""
    ours = operations.Operations(compute.freezer)
    try:
        ours.check_may_leave(compute.instance)
    except nova_exception.MigrationPreCheckError as error:
        run.world.tell('the instance is not migrated: %s' % error)
        return
    # The other host prepares for it, and anything may begin here.
    compute.machine.sleep(0)

    def go() -> None:
        spans = len(run.guest.frozen_spans)
        compute.machine.sleep(_MOVES)
        if len(run.guest.frozen_spans) != spans:
            run.world.break_promise('it was frozen while it moved')
        # QEMU moves no guest that has a backup job.
        if run.guest.is_running and run.guest.job is None:
            run.guest.move()
            _arrive(run, compute)

    ours.migrate(compute.instance, go,
                 lambda: run.world.tell('the instance is not migrated'))


def _arrive(run: 'runs.Run', compute: hosts.Compute) -> None:
    there = hosts.machine_of(run.world, run.world.second)
    settings = hosts.settings_of(str(run.scratch / 'second'), has_guard=False)
    theirs = freezer.Freezer(settings, lambda: hypervisors.connect(
        run.world, run.guest, run.guest.host), there)

    def receive() -> None:
        theirs.start()
        operations.Operations(theirs).receive(compute.instance)

    there.start('arrival', receive)


def _later(run: 'runs.Run', seconds: float,
           do: abc.Callable[[], None]) -> None:
    def wait_and_do() -> None:
        run.world.scheduler.wait(lambda: False, seconds)
        do()

    run.world.scheduler.start(run.world.operator, 'tenant', wait_and_do)
