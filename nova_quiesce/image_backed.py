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

"""Snapshots of image-backed instances.

Nova's ``snapshot()`` chooses a path and calls, on its way, what the driver
hands over to here, in the order of the methods below. Its choice is overruled
in one thing: it suspends an instance whose disk is a block device, or in Ceph
and cannot be snapshotted there; here it goes on running.
"""

from collections import abc
import contextlib
import dataclasses
import functools
import pathlib
import typing

from nova.compute import power_state
from nova.compute import utils as compute_utils
from nova.compute import vm_states
from nova import conf as nova_conf
from nova.virt.libvirt import host as libvirt_host
from oslo_log import log as logging

from nova_quiesce import compute_host
from nova_quiesce.copy import disk_copy
from nova_quiesce.copy import disk_export
from nova_quiesce.copy import leftovers
from nova_quiesce.cuts import back_ends
from nova_quiesce.cuts import mirror
from nova_quiesce.cuts import suspension
from nova_quiesce import foreign_jobs
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import finder
from nova_quiesce import instances
from nova_quiesce.nova import api_errors
from nova_quiesce.nova import seams
from nova_quiesce.record import image_api
from nova_quiesce import snapshots

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

#: Does something in another way, given why the first was not possible.
Otherwise = abc.Callable[[Exception], None]


@dataclasses.dataclass
class InProgress:
    """One snapshot that Nova's driver is at.

    :ivar context: the request's
    :ivar image_id: the image that it becomes
    :ivar snapshot: its decision, its freeze and its proof
    :ivar is_running: whether the instance runs while it is copied
    :ivar is_shut_off: whether it is off, and not suspended, while it is
    :ivar suspended: its suspension, where it was suspended for the snapshot
    :ivar upload: its disk's image, where Glance gets it without a file
    """

    context: seams.RequestContext
    image_id: str
    snapshot: snapshots.Snapshot
    is_running: bool = False
    is_shut_off: bool = False
    suspended: suspension.Suspension | None = None
    upload: disk_copy.Upload | None = None

    def end_upload(self) -> None:
        """End the upload, unless that was done already."""
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.close()

    def end_suspension(self) -> None:
        """Resume and thaw the guest, unless that was done already."""
        suspended, self.suspended = self.suspended, None
        if suspended is not None:
            suspended.end()


class ImageBacked:
    """The image-backed snapshots of this host's instances.

    :param host: this compute host
    :param suspend: Nova's way to suspend an instance for its snapshot
    :param resume: Nova's way to let it run again
    """

    def __init__(self, host: compute_host.ComputeHost,
                 suspend: abc.Callable[..., None],
                 resume: abc.Callable[..., None]) -> None:
        self._host = host
        self._suspend_guest = suspend
        self._resume_guest = resume
        self._in_progress: dict[str, InProgress] = {}

    def is_at(self, instance: seams.Instance) -> bool:
        """Tell whether a snapshot of an instance is in progress.

        :param instance: which
        """
        return instance.uuid in self._in_progress

    def find(self, image_id: str) -> InProgress | None:
        """Find the snapshot in progress that becomes an image.

        :param image_id: which
        """
        for one in list(self._in_progress.values()):
            if one.image_id == image_id:
                return one
        return None

    def snapshot(self, context: seams.RequestContext,
                 instance: seams.Instance, image_id: str,
                 take: abc.Callable[[], None]) -> None:
        """Snapshot an instance, and record how it was cut.

        :param context: the request's
        :param instance: which
        :param image_id: the image that its disk becomes
        :param take: Nova's ``snapshot()``, which calls the methods below
        """
        self._host.meet(context, instance)
        one = InProgress(
            context, image_id, self._host.begin(
                context, instance, 'snapshot',
                instances.remark_on_volumes(context, instance)))
        self._in_progress[instance.uuid] = one
        try:
            with api_errors.as_novas(instance), image_api.tell_tenant(
                    context, instance.uuid, CONF.host):
                take()
        finally:
            with contextlib.ExitStack() as ending:
                ending.callback(self._in_progress.pop, instance.uuid)
                ending.callback(one.end_upload)
                # Nova forgets it after some errors.
                ending.callback(one.end_suspension)
        record = one.snapshot.record
        LOG.info('Snapshot %(image)s has consistency level %(level)s: '
                 '%(reason)s', {'image': image_id, 'level': record.level.value,
                                'reason': record.reason}, instance=instance)

    def begin(self, instance: seams.Instance, is_live: bool,
              current_power_state: int) -> None:
        """See what the instance does, and whether its guest can be frozen.

        Nova chose the path by now, and has not touched the guest yet. It
        comes here again where a direct snapshot failed.

        :param instance: which
        :param is_live: whether Nova lets it run
        :param current_power_state: what it does, by Nova's ``power_state``
        :raises QuiesceError: quiesce is required, and cannot be had
        """
        one = self._in_progress[instance.uuid]
        if instance.vm_state == vm_states.SUSPENDED:
            one.snapshot.find_unfreezable(
                'the instance is suspended, and what its memory holds is not '
                'part of the snapshot; resume it first')
        elif current_power_state == power_state.SHUTDOWN:
            one.is_shut_off = True
            self._host.judge_shut_off(instance, one.snapshot)
        else:
            one.snapshot.prepare()
            one.is_running = True
            if not is_live and self._is_cold_forced():
                self._suspend(instance, one)

    def wrap_root_disk(self, instance: seams.Instance, disk_path: str,
                       disk: typing.Any) -> object:
        """Have the cuts of a root disk made inside freezes.

        :param instance: whose
        :param disk_path: how Nova calls it
        :param disk: Nova's
        :returns: the same disk, where no snapshot of it is in progress
        """
        one = self._in_progress.get(instance.uuid)
        if one is None:
            return disk
        return back_ends.RootDisk(
            disk,
            # A suspended guest is frozen already, if it can be.
            one.snapshot.cut_and_check if one.suspended is None
            else lambda make: make(),
            functools.partial(self._extract, instance, disk_path))

    def copy_running(self, instance: seams.Instance, guest: typing.Any,
                     disk_path: str, target: str, image_format: str,
                     otherwise: Otherwise) -> None:
        """Copy the disk of a running instance, as it is at one moment.

        :param instance: which
        :param guest: Nova's handle of its guest
        :param disk_path: how Nova calls the disk
        :param target: the file that it is copied to, or that stands for what
            is uploaded as it is read
        :param image_format: Glance's name of the image's format
        :param otherwise: called where the hypervisor refuses a backup job
        :raises QuiesceError: quiesce is required and not proven, or the disk
            cannot be copied
        """
        one = self._in_progress[instance.uuid]
        show_image = functools.partial(
            self._host.image_api.get, one.context, one.image_id)
        disk = disk_export.Disk(
            guest._domain, disk_path, instance,
            finder.Finder(self._host.connect, instance.uuid))
        export = disk_export.DiskExport(disk, self._host.freezer.jobs)
        is_uploaded = disk_copy.can_upload(image_format)
        try:
            # That may take long, and holds nothing that others need.
            leftovers.make_way(disk.domain)
            # The cut comes when the copy can begin: what the guest overwrites
            # while it waits would be kept for nothing.
            with (contextlib.nullcontext() if is_uploaded
                  else compute_utils.disk_ops_semaphore):
                self._jobs_of(guest).check_backup(disk_path)
                export.prepare()
                try:
                    one.snapshot.freeze()
                    export.begin()
                finally:
                    one.snapshot.thaw()
                one.snapshot.check()
                export.open()
                if is_uploaded:
                    one.upload = disk_copy.Upload(
                        export, image_format, show_image)
                    # Nova opens it, to have it uploaded.
                    pathlib.Path(target).touch()
                else:
                    disk_copy.to_file(
                        export, target, image_format, show_image)
        except disk_export.UNAVAILABLE as error:
            export.close()
            otherwise(error)
        finally:
            if one.upload is None:
                export.close()

    def mirror(self, instance: seams.Instance, guest: typing.Any,
               disk_path: str, mirror_disk: abc.Callable[[object], None],
               error: Exception) -> None:
        """Copy the disk of a running instance as Nova does, by a mirror.

        :param instance: which
        :param guest: Nova's handle of its guest
        :param disk_path: how Nova calls the disk
        :param mirror_disk: Nova's way, given a guest to work with
        :param error: why it is not copied by a backup job
        :raises QuiesceError: quiesce is required, and not proven
        """
        snapshot = self._in_progress[instance.uuid].snapshot
        jobs = self._jobs_of(guest)
        jobs.check_mirror(disk_path)
        LOG.warning('The disk is mirrored, because the hypervisor '
                    'refused a backup job: %s', error, instance=instance)
        with mirror.kept_defined(
                guest, self._host.hypervisor.write_instance_config):
            mirror_disk(mirror.MirroredGuest(
                guest, snapshot.cut_anyway, jobs.has_foreign))
        snapshot.check()

    def end(self, instance: seams.Instance) -> None:
        """Let the instance run again, as soon as its disk is copied.

        :param instance: which
        """
        one = self._in_progress[instance.uuid]
        one.end_suspension()
        if one.is_shut_off:
            # It has to have stayed so.
            self._host.judge_shut_off(instance, one.snapshot)

    def _is_cold_forced(self) -> bool:
        return bool(
            CONF.workarounds.disable_libvirt_livesnapshot or
            CONF.ephemeral_storage_encryption.enabled or
            not self._host.hypervisor.has_min_version(
                hv_type=libvirt_host.HV_DRIVER_QEMU))

    def _suspend(self, instance: seams.Instance, one: InProgress) -> None:
        guest = self._host.hypervisor.get_guest(instance)
        self._jobs_of(guest).check_suspend()
        state = guest.get_power_state(self._host.hypervisor)
        suspended = suspension.Suspension(
            one.snapshot, functools.partial(
                self._resume_guest, one.context, False, state, instance,
                guest), functools.partial(self._is_suspended, instance))
        suspended.begin(functools.partial(
            self._suspend_guest, one.context, False, state, instance))
        one.is_running = False
        one.suspended = suspended

    def _is_suspended(self, instance: seams.Instance) -> bool:
        return domains.presence_of(functools.partial(
            self._host.find_domain, instance.uuid)).is_saved

    def _extract(self, instance: seams.Instance, disk_path: str,
                 extract: back_ends.Extract, target: str,
                 image_format: str) -> None:
        one = self._in_progress[instance.uuid]
        if not one.is_running:
            extract(target, image_format)
            return

        def suspend_and_extract(error: Exception) -> None:
            LOG.warning('The instance is suspended for its snapshot, because '
                        'the hypervisor refused a backup job: %s', error,
                        instance=instance)
            self._suspend(instance, one)
            extract(target, image_format)

        self.copy_running(
            instance, self._host.hypervisor.get_guest(instance), disk_path,
            target, image_format, suspend_and_extract)

    def _jobs_of(self, guest: typing.Any) -> foreign_jobs.Jobs:
        return foreign_jobs.Jobs(
            guest._domain, CONF.libvirt.snapshots_directory)
