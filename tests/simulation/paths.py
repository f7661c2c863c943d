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

"""The paths of snapshots, as the real driver takes them."""

from collections import abc
import contextlib
import functools
import typing

import libvirt
from nova import exception as nova_exception

from nova_quiesce.copy import disk_export
from nova_quiesce.cuts import mirror
from nova_quiesce.cuts import rbd
from nova_quiesce.cuts import suspension
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import leases
from nova_quiesce import snapshots
from tests.simulation import backends
from tests.simulation import hosts
from tests.simulation import hypervisors
from tests.simulation import runs

#: Reads of the disk, and the seconds that each takes.
_READS, _READ = 3, 0.5
_FAILURES = (errors.QuiesceError, libvirt.libvirtError, leases.LeaseError,
             nova_exception.InstanceQuiesceFailed, OSError,
             *disk_export.UNAVAILABLE)


#: Makes a snapshot, and tells what came of it.
_Make = abc.Callable[[runs.Run, hosts.Compute], snapshots.Snapshot]


def _begin(make: _Make, run: runs.Run, compute: hosts.Compute) -> None:
    try:
        record = make(run, compute)
    except _FAILURES as error:
        run.world.tell('the snapshot failed: %s' % error)
        return
    run.record = record.record
    run.world.tell('the record says %s: %s' % (
        run.record.level.value, run.record.reason))


def _new_snapshot(compute: hosts.Compute) -> snapshots.Snapshot:
    decision = compute.decide()
    agent = compute.agent(None, decision)
    snapshot = snapshots.Snapshot(
        decision, agent, lambda is_saved: compute.window(
            agent, None, decision, 'req-1', 'snapshot', is_saved))
    snapshot.prepare()
    return snapshot


def _make_image(run: runs.Run, compute: hosts.Compute) -> snapshots.Snapshot:
    snapshot = _new_snapshot(compute)
    export = disk_export.DiskExport(
        disk_export.Disk(compute.find_domain(), hypervisors.DISK,
                         compute.instance, compute.find_domain),
        compute.freezer.jobs)

    def cut() -> None:
        export.begin()
        run.cut_point = len(run.world.points)

    with contextlib.closing(export):
        export.prepare()
        snapshot.cut_and_check(cut)
        export.open()
        _read(run, compute)
    return snapshot


def _read(run: runs.Run, compute: hosts.Compute) -> None:
    for _ in range(_READS):
        run.world.point('read: before')
        compute.machine.sleep(_READ)


def _make_mirrored(run: runs.Run,
                   compute: hosts.Compute) -> snapshots.Snapshot:
    snapshot = _new_snapshot(compute)
    guest = mirror.MirroredGuest(
        backends.MirroredGuest(
            run.world, compute.find_domain(), run.note_cut),
        snapshot.cut_anyway, lambda disk: False)
    device: typing.Any = guest.get_block_device(hypervisors.DISK)
    # As Nova does: one that was left over is ended first.
    device.abort_job()
    device.rebase()
    compute.machine.sleep(_READ)
    device.abort_job()
    _read(run, compute)
    snapshot.check()
    return snapshot


def _make_on_rbd(run: runs.Run, compute: hosts.Compute) -> snapshots.Snapshot:
    snapshot = _new_snapshot(compute)
    # As Nova does: it removes what it was told of.
    rbd.Driver(run.pool, backends.IMAGE, snapshot.cut_and_check).create_snap(
        backends.IMAGE, 'snapshot', protect=True)
    try:
        _read(run, compute)
    finally:
        run.pool.remove_snap(backends.IMAGE, 'snapshot')
    return snapshot


def _make_assisted(run: runs.Run,
                   compute: hosts.Compute) -> snapshots.Snapshot:
    compute.snapshot_volume(run.note_cut)
    snapshot, = compute.begun
    # It is kept, for the guest writes to its new file; its log says so.
    snapshot.check()
    return snapshot


def _make_suspended(run: runs.Run,
                    compute: hosts.Compute) -> snapshots.Snapshot:
    snapshot = _new_snapshot(compute)
    domain = compute.find_domain()
    suspended = suspension.Suspension(
        snapshot, lambda: compute.find_domain().create(),
        lambda: domains.presence_of(compute.find_domain).is_saved,
        compute.machine)

    def suspend() -> None:
        domain.managedSave()
        run.note_cut()

    suspended.begin(suspend)
    try:
        _read(run, compute)
    finally:
        suspended.end()
    snapshot.check()
    return snapshot


def _begin_volume_backed(run: runs.Run, compute: hosts.Compute) -> None:
    run.world.scheduler.start(
        run.world.api, 'request', run.api.create_image)
    compute.serve()


def _of_compute(make: _Make, has_guard: bool = True,
                is_suspended: bool = False) -> runs.Path:
    return runs.Path(functools.partial(_begin, make),
                     lambda run, compute: None, has_guard,
                     is_suspended=is_suspended)


PATHS = {
    'image-backed': _of_compute(_make_image),
    'image-backed without a guard': _of_compute(_make_image, has_guard=False),
    'image-backed and mirrored': _of_compute(_make_mirrored),
    'image-backed on rbd': _of_compute(_make_on_rbd),
    'image-backed and suspended': _of_compute(
        _make_suspended, is_suspended=True),
    'assisted': _of_compute(_make_assisted),
    'volume-backed': runs.Path(
        _begin_volume_backed, lambda run, compute: compute.serve(),
        is_of_api=True, lasts=27 * 3600),
    'volume-backed and assisted': runs.Path(
        _begin_volume_backed, lambda run, compute: compute.serve(),
        is_of_api=True, is_assisted=True, lasts=27 * 3600)}
