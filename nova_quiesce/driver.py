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

"""The driver: Nova's libvirt driver with its seams handed over.

Every override stands here, and none is more than a few lines: what is done
stands in the modules that it hands over to.
"""

from collections import abc
import functools
import typing

from nova import conf as nova_conf
from nova.virt.libvirt import driver as libvirt_driver

from nova_quiesce import assisted
from nova_quiesce import compute_host
from nova_quiesce import conf
from nova_quiesce.cuts import back_ends
from nova_quiesce import image_backed
from nova_quiesce.nova import connections
from nova_quiesce.nova import seams
from nova_quiesce.nova import signatures
from nova_quiesce.nova import thaw_casts
from nova_quiesce import operations
from nova_quiesce.record import image_api
from nova_quiesce.record import inheritance
from nova_quiesce import volume_backed

CONF = nova_conf.CONF

if typing.TYPE_CHECKING:
    _Nova = seams.LibvirtDriver
else:
    _Nova = libvirt_driver.LibvirtDriver

_SOFT = 'SOFT'


@signatures.as_in_base
class QuiesceLibvirtDriver(_Nova):
    """Verified freezes around the snapshots of Nova's libvirt driver.

    This is the class that ``compute_driver`` names.
    """

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        conf.register_opts(CONF)
        conf.validate(CONF)
        super().__init__(virtapi, read_only)
        connections.keep_from_waiting_for_itself(self._host)
        self._compute_host = compute_host.ComputeHost(
            self._host, self._uri(), self._image_api, self._volume_api)
        self._image_backed = image_backed.ImageBacked(
            self._compute_host, super()._suspend_guest_for_snapshot,
            super()._resume_guest_after_snapshot)
        self._volume_backed = volume_backed.VolumeBacked(self._compute_host)
        self._assisted = assisted.Assisted(
            self._compute_host, self._volume_backed.note_cut)
        self._operations = operations.Operations(self._compute_host.freezer)
        self._image_api = image_api.RecordingImageAPI(
            self._image_api, self._image_backed.find, CONF.quiesce.record)
        self.image_backend = back_ends.Backend(
            self.image_backend, self._image_backed.wrap_root_disk)

    # The service.

    def init_host(self, host: str) -> None:
        """Start the service, before it takes requests."""
        super().init_host(host)
        self._compute_host.start()
        thaw_casts.observe_thaws(self.virtapi, self._volume_backed.thaw_asked)
        inheritance.forget_on_host(host)

    def cleanup_host(self, host: str) -> None:
        """Stop the driver."""
        # Nova closes its connection to the hypervisor in it.
        self._compute_host.stop()
        super().cleanup_host(host)

    # Snapshots of image-backed instances.

    def snapshot(self, context: seams.RequestContext,
                 instance: seams.Instance, image_id: str,
                 update_task_state: abc.Callable[..., None]) -> None:
        """Snapshot an image-backed instance, and record how it was cut."""
        self._image_backed.snapshot(
            context, instance, image_id, functools.partial(
                super().snapshot, context, instance, image_id,
                update_task_state))

    def _suspend_guest_for_snapshot(
            self, context: seams.RequestContext, live_snapshot: bool,
            current_power_state: int, instance: seams.Instance) -> None:
        self._image_backed.begin(instance, live_snapshot, current_power_state)

    def _live_snapshot(self, context: seams.RequestContext,
                       instance: seams.Instance, guest: typing.Any,
                       disk_path: str, out_path: str, source_format: str,
                       image_format: str, image_meta: object) -> None:
        def mirror(guest: object) -> None:
            nova(context, instance, guest, disk_path, out_path, source_format,
                 image_format, image_meta)

        nova = super()._live_snapshot
        self._image_backed.copy_running(
            instance, guest, disk_path, out_path, image_format,
            functools.partial(self._image_backed.mirror, instance, guest,
                              disk_path, mirror))

    def _resume_guest_after_snapshot(
            self, context: seams.RequestContext, live_snapshot: bool,
            original_power_state: int, instance: seams.Instance,
            guest: typing.Any) -> None:
        self._image_backed.end(instance)

    # Snapshots of volumes.

    def quiesce(self, context: seams.RequestContext,
                instance: seams.Instance, image_meta: object) -> None:
        """Freeze a guest for the snapshots of its volumes."""
        # Nova's live snapshot asks for a freeze around more than the cut; the
        # window is opened by the cut itself.
        if not self._image_backed.is_at(instance):
            self._volume_backed.quiesce(context, instance)

    def unquiesce(self, context: seams.RequestContext,
                  instance: seams.Instance, image_meta: object) -> None:
        """Thaw a guest after the snapshots of its volumes."""
        if not self._image_backed.is_at(instance):
            self._volume_backed.unquiesce(context, instance)

    def volume_snapshot_create(
            self, context: seams.RequestContext, instance: seams.Instance,
            volume_id: str, create_info: dict[str, str]) -> None:
        """Snapshot a volume that is attached, for Cinder."""
        with self._assisted.requested(
                instance, volume_id, create_info.get('snapshot_id')):
            super().volume_snapshot_create(
                context, instance, volume_id, create_info)

    def _volume_snapshot_create(
            self, context: seams.RequestContext, instance: seams.Instance,
            guest: typing.Any, volume_id: str, new_file: str) -> None:
        nova = super()._volume_snapshot_create
        self._assisted.create(
            context, instance, guest, volume_id, new_file,
            lambda guest: nova(context, instance, guest, volume_id, new_file))

    def volume_snapshot_delete(
            self, context: seams.RequestContext, instance: seams.Instance,
            volume_id: str, snapshot_id: str, delete_info: object) -> None:
        """Delete a snapshot of a volume that is attached."""
        self._assisted.delete(instance, functools.partial(
            super().volume_snapshot_delete, context, instance, volume_id,
            snapshot_id, delete_info))

    # An instance that begins to run here, or comes here, is met.

    def spawn(self, context: seams.RequestContext, instance: seams.Instance,
              image_meta: object, *args: object, **kwargs: object) -> None:
        """Build an instance."""
        self._compute_host.meet(context, instance)
        super().spawn(context, instance, image_meta, *args, **kwargs)

    def power_on(self, context: seams.RequestContext,
                 instance: seams.Instance, network_info: object,
                 *args: object, **kwargs: object) -> None:
        """Start an instance."""
        self._compute_host.meet(context, instance)
        super().power_on(context, instance, network_info, *args, **kwargs)

    def resume(self, context: seams.RequestContext, instance: seams.Instance,
               network_info: object, *args: object,
               **kwargs: object) -> None:
        """Resume an instance that was suspended."""
        self._compute_host.meet(context, instance)
        super().resume(context, instance, network_info, *args, **kwargs)

    def finish_migration(
            self, context: seams.RequestContext, migration: object,
            instance: seams.Instance, *args: object,
            **kwargs: object) -> None:
        """Start an instance that was moved to this host, or resized."""
        self._compute_host.meet(context, instance)
        super().finish_migration(
            context, migration, instance, *args, **kwargs)

    def finish_revert_migration(
            self, context: seams.RequestContext, instance: seams.Instance,
            network_info: object, *args: object, **kwargs: object) -> None:
        """Start an instance that is back on this host."""
        self._compute_host.meet(context, instance)
        super().finish_revert_migration(
            context, instance, network_info, *args, **kwargs)

    def post_live_migration_at_destination(
            self, context: seams.RequestContext, instance: seams.Instance,
            network_info: object, *args: object, **kwargs: object) -> None:
        """Take over an instance that was migrated to this host."""
        self._compute_host.meet(context, instance)
        try:
            super().post_live_migration_at_destination(
                context, instance, network_info, *args, **kwargs)
        finally:
            self._operations.receive(instance)

    # Operations that would meet a frozen guest: it is thawed first.

    def pause(self, instance: seams.Instance) -> None:
        """Pause an instance."""
        self._operations.lapse(instance, 'paused')
        super().pause(instance)

    def suspend(self, context: seams.RequestContext,
                instance: seams.Instance) -> None:
        """Suspend an instance."""
        self._operations.lapse(instance, 'suspended')
        super().suspend(context, instance)

    def reboot(self, context: seams.RequestContext, instance: seams.Instance,
               network_info: object, reboot_type: str, *args: object,
               **kwargs: object) -> None:
        """Reboot an instance."""
        self._compute_host.meet(context, instance)
        if reboot_type == _SOFT:
            self._operations.lapse(instance, 'rebooted')
        super().reboot(context, instance, network_info, reboot_type, *args,
                       **kwargs)
        # A hard reboot ends the freeze by itself; what is left is to say so.
        self._operations.lapse(instance, 'rebooted')

    def power_off(self, instance: seams.Instance, timeout: int = 0,
                  retry_interval: int = 0) -> None:
        """Stop an instance, softly if it is given time."""
        if timeout:
            self._operations.lapse(instance, 'stopped')
        super().power_off(instance, timeout, retry_interval)
        self._operations.lapse(instance, 'stopped')

    def destroy(self, context: seams.RequestContext, instance: seams.Instance,
                *args: object, **kwargs: object) -> None:
        """Destroy an instance."""
        super().destroy(context, instance, *args, **kwargs)
        # Nova also does so to reboot hard, or to rebuild.
        self._operations.lapse(instance, 'shut off hard')

    def rescue(self, context: seams.RequestContext, instance: seams.Instance,
               *args: object, **kwargs: object) -> None:
        """Rescue an instance."""
        self._operations.lapse(instance, 'rescued')
        super().rescue(context, instance, *args, **kwargs)

    def check_can_live_migrate_source(
            self, context: seams.RequestContext, instance: seams.Instance,
            *args: object, **kwargs: object) -> object:
        """See whether a running instance can be migrated away."""
        answer = super().check_can_live_migrate_source(
            context, instance, *args, **kwargs)
        self._operations.check_may_leave(instance)
        return answer

    def live_migration(
            self, context: seams.RequestContext, instance: seams.Instance,
            dest: str, post_method: abc.Callable[..., object],
            recover_method: abc.Callable[..., object],
            block_migration: bool = False,
            migrate_data: object = None) -> None:
        """Migrate a running instance away from this host."""
        self._operations.migrate(
            instance,
            functools.partial(
                super().live_migration, context, instance, dest, post_method,
                recover_method, block_migration, migrate_data),
            functools.partial(
                recover_method, context, instance, dest, migrate_data))

    def migrate_disk_and_power_off(
            self, context: seams.RequestContext, instance: seams.Instance,
            *args: object, **kwargs: object) -> typing.Any:
        """Move an instance away from this host."""
        self._operations.lapse(instance, 'migrated')
        return super().migrate_disk_and_power_off(
            context, instance, *args, **kwargs)

    def detach_volume(self, context: seams.RequestContext,
                      connection_info: object, instance: seams.Instance,
                      *args: object, **kwargs: object) -> None:
        """Take a volume from an instance."""
        self._operations.lapse(instance, 'detached', operations.VOLUME)
        super().detach_volume(
            context, connection_info, instance, *args, **kwargs)

    def swap_volume(self, context: seams.RequestContext,
                    old_connection_info: object, new_connection_info: object,
                    instance: seams.Instance, *args: object,
                    **kwargs: object) -> None:
        """Put one volume in the place of another."""
        self._operations.lapse(instance, 'migrated', operations.VOLUME)
        super().swap_volume(context, old_connection_info, new_connection_info,
                            instance, *args, **kwargs)

    def extend_volume(self, context: seams.RequestContext,
                      connection_info: object, instance: seams.Instance,
                      *args: object, **kwargs: object) -> None:
        """Let an instance see that a volume has grown."""
        self._operations.lapse(instance, 'extended', operations.VOLUME)
        super().extend_volume(
            context, connection_info, instance, *args, **kwargs)
