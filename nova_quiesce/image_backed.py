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
"""Snapshots of image-backed instances: the seams of Nova's driver.

Nova's ``snapshot()`` chooses a path and calls, on its way, what is
overridden here. Its choice is overruled in one thing: it suspends an instance
whose disk is a block device, or in Ceph and cannot be snapshotted there; here
it goes on running.
"""

from collections import abc
import contextlib
import dataclasses
import functools
import pathlib
import typing

from nova.compute import power_state
from nova.compute import vm_states
from nova import conf as nova_conf
from nova.virt.libvirt import host as libvirt_host
from oslo_log import log as logging

from nova_quiesce import compute_host
from nova_quiesce.copy import disk_copy
from nova_quiesce.cuts import back_ends
from nova_quiesce.cuts import mirror
from nova_quiesce.cuts import suspension
from nova_quiesce.freeze import finder
from nova_quiesce import instances
from nova_quiesce.nova import api_errors
from nova_quiesce.nova import seams
from nova_quiesce.record import image_api
from nova_quiesce.record import inheritance
from nova_quiesce import snapshots

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF


@dataclasses.dataclass
class InProgress:
    """One snapshot that Nova's driver is at.

    :ivar context: the request's
    :ivar image_id: what it becomes
    :ivar snapshot: what is decided, tried and proven for it
    :ivar is_running: whether the instance runs while it is copied
    :ivar is_shut_off: whether it is off, and not suspended, while it is
    :ivar pause: while it does not, because it was suspended for that
    :ivar upload: its disk's image, where Glance gets it without a file
    """

    context: seams.RequestContext
    image_id: str
    snapshot: snapshots.Snapshot
    is_running: bool = False
    is_shut_off: bool = False
    pause: suspension.Suspension | None = None
    upload: disk_copy.Upload | None = None

    def end_upload(self) -> None:
        """End what is left of the upload. Does nothing the second time."""
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.close()


class ImageBackedMixin(compute_host.CoreMixin):
    """Image-backed snapshots inside verified freezes."""

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self._snapshots: dict[str, InProgress] = {}
        self._image_api = image_api.RecordingImageAPI(
            self._image_api, self._find_in_progress, CONF.quiesce.record)
        self.image_backend = back_ends.Backend(
            self.image_backend, self._wrap_root_disk)

    def is_copying(self, instance: seams.Instance) -> bool:
        """Whether an image-backed snapshot of an instance is in progress."""
        return instance.uuid in self._snapshots

    def snapshot(self, context: seams.RequestContext,
                 instance: seams.Instance, image_id: str,
                 update_task_state: abc.Callable[..., None]) -> None:
        """Snapshot an image-backed instance, and record how it was cut."""
        inheritance.forget_parents_record(instance)
        self._duties.lend(context)
        in_progress = self._begin(context, instance, image_id)
        self._snapshots[instance.uuid] = in_progress
        try:
            with api_errors.as_novas(instance), image_api.tell_tenant(
                    context, instance.uuid, CONF.host):
                super().snapshot(
                    context, instance, image_id, update_task_state)
        finally:
            with contextlib.ExitStack() as ending:
                ending.callback(self._snapshots.pop, instance.uuid)
                ending.callback(in_progress.end_upload)
                # Nova forgets it after some errors.
                ending.callback(self._end_suspension, in_progress)
        record = in_progress.snapshot.record
        LOG.info('Snapshot %(image)s has consistency level %(level)s: '
                 '%(reason)s', {'image': image_id, 'level': record.level.value,
                                'reason': record.reason}, instance=instance)

    def _begin(self, context: seams.RequestContext,
               instance: seams.Instance, image_id: str) -> InProgress:
        decision = self._decide(context, instance)
        agent = self._agent_of(instance, decision)
        return InProgress(
            context, image_id,
            snapshots.Snapshot(
                decision, agent,
                lambda is_saved: self._window_of(
                    agent, instance, decision, context.request_id,
                    'snapshot', is_saved),
                instances.remark_on_volumes(context, instance)))

    def _suspend_guest_for_snapshot(
            self, context: seams.RequestContext, live_snapshot: bool,
            current_power_state: int, instance: seams.Instance) -> None:
        # Nova chose the path by now, and has not touched the guest yet. It
        # comes here again where a direct snapshot failed.
        in_progress = self._snapshots[instance.uuid]
        snapshot = in_progress.snapshot
        if instance.vm_state == vm_states.SUSPENDED:
            snapshot.find_unfreezable(
                'the instance is suspended, and what its memory holds is not '
                'part of the snapshot; resume it first')
        elif current_power_state == power_state.SHUTDOWN:
            in_progress.is_shut_off = True
            self._find_shut_off(instance, snapshot)
        else:
            snapshot.prepare()
            in_progress.is_running = True
            if not live_snapshot and self._is_cold_forced():
                self._suspend(instance, in_progress)

    def _is_cold_forced(self) -> bool:
        return bool(
            CONF.workarounds.disable_libvirt_livesnapshot or
            CONF.ephemeral_storage_encryption.enabled or
            not self._host.has_min_version(
                hv_type=libvirt_host.HV_DRIVER_QEMU))

    def _suspend(self, instance: seams.Instance,
                 in_progress: InProgress) -> None:
        guest = self._host.get_guest(instance)
        disk_copy.jobs_of(guest._domain).check_suspend()
        state = guest.get_power_state(self._host)
        suspended = suspension.Suspension(
            in_progress.snapshot,
            functools.partial(super()._resume_guest_after_snapshot,
                              in_progress.context, False, state, instance,
                              guest))
        suspended.begin(functools.partial(
            super()._suspend_guest_for_snapshot, in_progress.context, False,
            state, instance))
        in_progress.is_running = False
        in_progress.pause = suspended

    def _resume_guest_after_snapshot(
            self, context: seams.RequestContext, live_snapshot: bool,
            original_power_state: int, instance: seams.Instance,
            guest: typing.Any) -> None:
        in_progress = self._snapshots[instance.uuid]
        self._end_suspension(in_progress)
        if in_progress.is_shut_off:
            # It has to have stayed so.
            self._find_shut_off(instance, in_progress.snapshot)

    def _end_suspension(self, in_progress: InProgress) -> None:
        pause, in_progress.pause = in_progress.pause, None
        if pause is not None:
            pause.end()

    def _live_snapshot(self, context: seams.RequestContext,
                       instance: seams.Instance, guest: typing.Any,
                       disk_path: str, out_path: str, source_format: str,
                       image_format: str, image_meta: object) -> None:
        in_progress = self._snapshots[instance.uuid]
        try:
            self._copy(guest, instance, disk_path, out_path, image_format)
        except disk_copy.UNAVAILABLE as error:
            jobs = disk_copy.jobs_of(guest._domain)
            jobs.check_mirror(disk_path)
            LOG.warning('The disk is mirrored, because the hypervisor '
                        'refused a backup job: %s', error, instance=instance)
            mirrored = mirror.MirroredGuest(
                guest, in_progress.snapshot.cut, jobs.has_foreign)
            with mirror.kept_defined(guest, self._host.write_instance_config):
                super()._live_snapshot(
                    context, instance, mirrored, disk_path, out_path,
                    source_format, image_format, image_meta)
            in_progress.snapshot.check()

    def _extract(self, instance: seams.Instance, disk_path: str,
                 extract: back_ends.Extract, target: str,
                 image_format: str) -> None:
        in_progress = self._snapshots[instance.uuid]
        if not in_progress.is_running:
            extract(target, image_format)
            return
        try:
            self._copy(self._host.get_guest(instance), instance, disk_path,
                       target, image_format)
        except disk_copy.UNAVAILABLE as error:
            LOG.warning('The instance is suspended for its snapshot, because '
                        'the hypervisor refused a backup job: %s', error,
                        instance=instance)
            self._suspend(instance, in_progress)
            extract(target, image_format)

    def _copy(self, guest: typing.Any, instance: seams.Instance,
              disk_path: str, target: str, image_format: str) -> None:
        in_progress = self._snapshots[instance.uuid]
        source = disk_copy.Source(
            guest._domain, disk_path, instance, functools.partial(
                self._image_api.get, in_progress.context,
                in_progress.image_id), self._freezer.jobs,
            finder.Finder(self._new_connection, instance.uuid))
        cutter = in_progress.snapshot.cut_or_refuse
        if not disk_copy.can_upload(image_format):
            disk_copy.copy(source, target, image_format, cutter)
            return
        in_progress.upload = disk_copy.upload(source, image_format, cutter)
        # Nova opens it, to have it uploaded.
        pathlib.Path(target).touch()

    def _wrap_root_disk(self, instance: seams.Instance, disk_path: str,
                        disk: typing.Any) -> object:
        in_progress = self._snapshots.get(instance.uuid)
        if in_progress is None:
            return disk
        snapshot = in_progress.snapshot
        return back_ends.RootDisk(
            disk,
            # A suspended guest is frozen already, if it can be.
            snapshot.cut_or_refuse if in_progress.pause is None
            else lambda make: make(),
            functools.partial(self._extract, instance, disk_path))

    def _find_in_progress(self, image_id: str) -> InProgress | None:
        for in_progress in list(self._snapshots.values()):
            if in_progress.image_id == image_id:
                return in_progress
        return None
