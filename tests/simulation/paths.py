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

import contextlib

import libvirt

from nova_quiesce.copy import disk_export
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import leases
from nova_quiesce import snapshots
from tests.simulation import guests
from tests.simulation import hosts
from tests.simulation import runs

#: Reads of the disk, and the seconds that each takes.
_READS, _READ = 3, 0.5
_FAILURES = (errors.QuiesceError, libvirt.libvirtError, leases.LeaseError,
             OSError, *disk_export.UNAVAILABLE)


def _begin_image_backed(run: runs.Run, compute: hosts.Compute) -> None:
    try:
        record = _make_image(run, compute)
    except _FAILURES as error:
        run.world.tell('the snapshot failed: %s' % error)
        return
    run.record = record.record
    run.world.tell('the record says %s: %s' % (
        run.record.level.value, run.record.reason))


def _make_image(run: runs.Run, compute: hosts.Compute) -> snapshots.Snapshot:
    decision = compute.decide()
    agent = compute.agent(None, decision)
    snapshot = snapshots.Snapshot(
        decision, agent, lambda is_saved: compute.window(
            agent, None, decision, 'req-1', 'snapshot', is_saved))
    snapshot.prepare()
    export = disk_export.DiskExport(
        disk_export.Disk(compute.find_domain(), guests.DISK,
                         compute.instance, compute.find_domain),
        compute.freezer.jobs)

    def cut() -> None:
        export.begin()
        run.cut_point = len(run.world.points)

    with contextlib.closing(export):
        export.prepare()
        snapshot.cut_and_check(cut)
        export.open()
        for _ in range(_READS):
            run.world.point('read: before')
            compute.machine.sleep(_READ)
    return snapshot


def _begin_volume_backed(run: runs.Run, compute: hosts.Compute) -> None:
    run.world.scheduler.start(
        run.world.api, 'request', run.api.create_image)
    compute.serve()


PATHS = {
    'image-backed': runs.Path(
        _begin_image_backed, lambda run, compute: None),
    'image-backed without a guard': runs.Path(
        _begin_image_backed, lambda run, compute: None, has_guard=False),
    'volume-backed': runs.Path(
        _begin_volume_backed, lambda run, compute: compute.serve(),
        is_of_api=True, lasts=27 * 3600)}
