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

"""Everything that this package touches of Nova, in one place.

Nova promises nothing to out-of-tree drivers. These are the methods that are
overridden or called, with the signatures that are relied on. They are the same
in all releases that :mod:`nova_quiesce.nova.releases` names, which compares
them with the Nova that is installed as nova-compute starts.
"""

from collections import abc
import typing

#: What is called of Nova, beside its driver: where it is, and how its
#: arguments begin; None for what is not called.
CALLED: dict[str, tuple[str, ...] | None] = {
    'nova.compute.manager:ComputeManager.unquiesce_instance': (
        'self', 'context', 'instance', 'mapping'),
    'nova.compute.manager:ComputeVirtAPI.__init__': ('self', 'compute'),
    'nova.compute.utils:disk_ops_semaphore': None,
    'nova.context:get_admin_context': (),
    'nova.exception:ConvertedException.__init__': (
        'self', 'code', 'title', 'explanation'),
    'nova.exception:InstanceQuiesceFailed': None,
    'nova.image.glance:GlanceClientWrapper.call': (
        'self', 'context', 'version', 'method', 'controller', 'args',
        'kwargs'),
    'nova.image.glance:API.get': ('self', 'context', 'id_or_uri'),
    'nova.image.glance:API.update': ('self', 'context', 'id_or_uri',
                                     'image_info'),
    'nova.objects.block_device:'
    'BlockDeviceMapping.get_by_volume_and_instance': None,
    'nova.objects.instance:InstanceList.get_by_host': (
        'context', 'host', 'expected_attrs'),
    'nova.objects.instance_action:InstanceAction.get_by_request_id': None,
    'nova.objects.instance_action:InstanceActionEvent.event_start': None,
    'nova.objects.instance_action:'
    'InstanceActionEvent.event_finish_with_failure': None,
    'nova.objects.instance_action:InstanceActionEventList.get_by_action':
        None,
    'nova.privsep.path:chown': ('path', 'uid', 'gid'),
    'nova.privsep.utils:supports_direct_io': ('dirpath',),
    'nova.storage.rbd_utils:RBDDriver.create_snap': (
        'self', 'volume', 'name', 'pool', 'protect'),
    'nova.storage.rbd_utils:RBDDriver.remove_snap': (
        'self', 'volume', 'name', 'ignore_errors'),
    'nova.storage.rbd_utils:RBDDriver.__init__': ('self', 'pool'),
    'nova.storage.rbd_utils:RBDVolumeProxy.__init__': (
        'self', 'driver', 'name', 'pool', 'snapshot', 'read_only'),
    'nova.utils:SM_IMAGE_PROP_PREFIX': None,
    'nova.utils:get_image_from_system_metadata': ('system_meta',),
    'nova.virt.libvirt.guest:BlockDevice.abort_job': ('self',),
    'nova.virt.libvirt.guest:BlockDevice.rebase': ('self', 'base'),
    'nova.virt.libvirt.guest:Guest.get_block_device': ('self', 'disk'),
    'nova.virt.libvirt.guest:Guest.get_power_state': ('self', 'host'),
    'nova.virt.libvirt.guest:Guest.get_xml_desc': (
        'self', 'dump_inactive', 'dump_sensitive'),
    'nova.virt.libvirt.guest:Guest.has_persistent_configuration': ('self',),
    'nova.virt.libvirt.guest:Guest.snapshot': (
        'self', 'conf', 'no_metadata', 'disk_only', 'reuse_ext', 'quiesce'),
    'nova.virt.libvirt.guest:Guest.__init__': ('self', 'domain'),
    'nova.virt.libvirt.host:HV_DRIVER_QEMU': None,
    'nova.virt.libvirt.host:Host._connect': ('self', 'uri', 'read_only'),
    'nova.virt.libvirt.host:Host._event_lifecycle_callback': (
        'conn', 'dom', 'event', 'detail', 'opaque'),
    'nova.virt.libvirt.host:Host.get_connection': ('self',),
    'nova.virt.libvirt.host:Host.get_guest': ('self', 'instance'),
    'nova.virt.libvirt.host:Host.has_min_version': (
        'self', 'lv_ver', 'hv_ver', 'hv_type'),
    'nova.virt.libvirt.host:Host.list_guests': ('self', 'only_running'),
    'nova.virt.libvirt.host:Host.write_instance_config': ('self', 'xml'),
    'nova.virt.libvirt.imagebackend:Backend.by_libvirt_path': (
        'self', 'instance', 'path'),
    'nova.virt.libvirt.imagebackend:Image.snapshot_extract': (
        'self', 'target', 'out_format'),
    'nova.virt.libvirt.imagebackend:Rbd': None,
    'nova.virt.libvirt.utils:find_disk': ('guest',),
    # Called by position: a decorator of Nova's renames some.
    'nova.volume.cinder:API.get': None,
    'nova.volume.cinder:API.get_snapshot': None,
    'nova.volume.cinder:cinderclient': ('context',),
}


class RequestContext(typing.Protocol):
    """``nova.context.RequestContext``."""

    request_id: str
    project_id: str


class Instance(typing.Protocol):
    """``nova.objects.Instance``."""

    uuid: str
    name: str
    image_ref: str | None
    power_state: int
    vm_state: str
    system_metadata: dict[str, str]

    def save(self) -> None:
        """Write changes to the database."""


class ImageAPI(typing.Protocol):
    """``nova.image.glance.API``."""

    def get(self, context: object, id_or_uri: str) -> dict[str, object]:
        """Show an image."""

    def update(self, context: object, id_or_uri: str,
               image_info: dict[str, object], data: object = None,
               **kwargs: object) -> dict[str, object]:
        """Update an image, and upload its data if there is any."""


class VolumeAPI(typing.Protocol):
    """``nova.volume.cinder.API``."""

    def get(self, context: object, volume_id: str) -> dict[str, object]:
        """Show a volume."""

    def get_snapshot(self, context: object,
                     snapshot_id: str) -> dict[str, object]:
        """Show a volume snapshot."""


class LibvirtDriver:
    """``nova.virt.libvirt.driver.LibvirtDriver``, as the driver sees it."""

    virtapi: object
    _host: typing.Any
    image_backend: typing.Any
    _image_api: typing.Any
    _volume_api: typing.Any

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        """Start the driver."""

    @staticmethod
    def _uri() -> str:
        """The hypervisor's, for libvirt."""
        raise NotImplementedError

    def init_host(self, host: str) -> None:
        """Start the service, before it takes requests."""

    def cleanup_host(self, host: str) -> None:
        """Stop the driver."""

    def spawn(self, context: RequestContext, instance: Instance,
              image_meta: object, *args: object, **kwargs: object) -> None:
        """Build an instance."""

    def snapshot(self, context: RequestContext, instance: Instance,
                 image_id: str,
                 update_task_state: abc.Callable[..., None]) -> None:
        """Snapshot an image-backed instance."""

    def _suspend_guest_for_snapshot(
            self, context: RequestContext, live_snapshot: bool,
            current_power_state: int, instance: Instance) -> None:
        """Called by snapshot() as soon as the path is chosen."""

    def _resume_guest_after_snapshot(
            self, context: RequestContext, live_snapshot: bool,
            original_power_state: int, instance: Instance,
            guest: typing.Any) -> None:
        """Called by snapshot() as soon as the disk is copied."""

    def _live_snapshot(self, context: RequestContext, instance: Instance,
                       guest: typing.Any, disk_path: str, out_path: str,
                       source_format: str, image_format: str,
                       image_meta: object) -> None:
        """Called by snapshot() to copy the disk of a running instance."""

    def pause(self, instance: Instance) -> None:
        """Pause an instance."""

    def suspend(self, context: RequestContext, instance: Instance) -> None:
        """Suspend an instance."""

    def reboot(self, context: RequestContext, instance: Instance,
               network_info: object, reboot_type: str, *args: object,
               **kwargs: object) -> None:
        """Reboot an instance."""

    def power_on(self, context: RequestContext, instance: Instance,
                 network_info: object, *args: object,
                 **kwargs: object) -> None:
        """Start an instance."""

    def resume(self, context: RequestContext, instance: Instance,
               network_info: object, *args: object,
               **kwargs: object) -> None:
        """Resume an instance that was suspended."""

    def power_off(self, instance: Instance, timeout: int = 0,
                  retry_interval: int = 0) -> None:
        """Stop an instance."""

    def destroy(self, context: RequestContext, instance: Instance,
                *args: object, **kwargs: object) -> None:
        """Destroy an instance."""

    def rescue(self, context: RequestContext, instance: Instance,
               *args: object, **kwargs: object) -> None:
        """Rescue an instance."""

    def check_can_live_migrate_source(
            self, context: RequestContext, instance: Instance,
            *args: object, **kwargs: object) -> object:
        """See whether a running instance can be migrated away."""

    def live_migration(
            self, context: RequestContext, instance: Instance, dest: str,
            post_method: abc.Callable[..., object],
            recover_method: abc.Callable[..., object],
            block_migration: bool = False,
            migrate_data: object = None) -> None:
        """Migrate a running instance away from this host."""

    def migrate_disk_and_power_off(
            self, context: RequestContext, instance: Instance,
            *args: object, **kwargs: object) -> typing.Any:
        """Move an instance away from this host."""

    def post_live_migration_at_destination(
            self, context: RequestContext, instance: Instance,
            network_info: object, *args: object, **kwargs: object) -> None:
        """Take over an instance that was migrated to this host."""

    def finish_migration(
            self, context: RequestContext, migration: object,
            instance: Instance, *args: object, **kwargs: object) -> None:
        """Start an instance that was moved to this host, or resized."""

    def finish_revert_migration(
            self, context: RequestContext, instance: Instance,
            network_info: object, *args: object, **kwargs: object) -> None:
        """Start an instance that is back on this host."""

    def detach_volume(self, context: RequestContext, connection_info: object,
                      instance: Instance, *args: object,
                      **kwargs: object) -> None:
        """Take a volume from an instance."""

    def swap_volume(self, context: RequestContext,
                    old_connection_info: object, new_connection_info: object,
                    instance: Instance, *args: object,
                    **kwargs: object) -> None:
        """Put one volume in the place of another."""

    def extend_volume(self, context: RequestContext, connection_info: object,
                      instance: Instance, *args: object,
                      **kwargs: object) -> None:
        """Let an instance see that a volume has grown."""

    def volume_snapshot_create(
            self, context: RequestContext, instance: Instance,
            volume_id: str, create_info: dict[str, str]) -> None:
        """Snapshot an attached volume, for Cinder."""

    def _volume_snapshot_create(
            self, context: RequestContext, instance: Instance,
            guest: typing.Any, volume_id: str, new_file: str) -> None:
        """Called by volume_snapshot_create() for an attached volume."""

    def volume_snapshot_delete(
            self, context: RequestContext, instance: Instance, volume_id: str,
            snapshot_id: str, delete_info: object) -> None:
        """Delete a snapshot of a volume that is attached."""

    def quiesce(self, context: RequestContext, instance: Instance,
                image_meta: object) -> None:
        """Freeze a guest."""

    def unquiesce(self, context: RequestContext, instance: Instance,
                  image_meta: object) -> None:
        """Thaw a guest."""
