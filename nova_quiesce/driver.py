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

"""The driver: Nova's libvirt driver with the seams handed over.

Each override is a few lines; what is done stands in the modules it hands
over to.
"""

from nova.virt.libvirt import driver as libvirt_driver

from nova_quiesce import assisted
from nova_quiesce import image_backed
from nova_quiesce.nova import seams
from nova_quiesce import operations
from nova_quiesce.record import inheritance
from nova_quiesce import volume_backed


class QuiesceMixin(image_backed.ImageBackedMixin,
                   volume_backed.VolumeBackedMixin,
                   assisted.AssistedMixin,
                   operations.ThawFirstMixin):
    """Verified freezes around the snapshots of a libvirt driver.

    An instance that begins to run here, or comes here, or is here as the
    service starts, loses the record of the image that it came from.
    """

    def init_host(self, host: str) -> None:
        """Start the service, before it takes requests."""
        super().init_host(host)
        inheritance.forget_on_host(host)

    def _meet(self, context: seams.RequestContext,
              instance: seams.Instance) -> None:
        inheritance.forget_parents_record(instance)
        self._duties.lend(context)

    def spawn(self, context: seams.RequestContext, instance: seams.Instance,
              image_meta: object, *args: object, **kwargs: object) -> None:
        """Build an instance."""
        self._meet(context, instance)
        super().spawn(context, instance, image_meta, *args, **kwargs)

    def power_on(self, context: seams.RequestContext,
                 instance: seams.Instance, network_info: object,
                 *args: object, **kwargs: object) -> None:
        """Start an instance."""
        self._meet(context, instance)
        super().power_on(context, instance, network_info, *args, **kwargs)

    def reboot(self, context: seams.RequestContext, instance: seams.Instance,
               network_info: object, reboot_type: str, *args: object,
               **kwargs: object) -> None:
        """Reboot an instance."""
        self._meet(context, instance)
        super().reboot(context, instance, network_info, reboot_type, *args,
                       **kwargs)

    def resume(self, context: seams.RequestContext, instance: seams.Instance,
               network_info: object, *args: object,
               **kwargs: object) -> None:
        """Resume an instance that was suspended."""
        self._meet(context, instance)
        super().resume(context, instance, network_info, *args, **kwargs)

    def post_live_migration_at_destination(
            self, context: seams.RequestContext, instance: seams.Instance,
            network_info: object, *args: object, **kwargs: object) -> None:
        """Take over an instance that was migrated to this host."""
        self._meet(context, instance)
        super().post_live_migration_at_destination(
            context, instance, network_info, *args, **kwargs)

    def finish_migration(
            self, context: seams.RequestContext, migration: object,
            instance: seams.Instance, *args: object,
            **kwargs: object) -> None:
        """Start an instance that was moved to this host, or resized."""
        self._meet(context, instance)
        super().finish_migration(
            context, migration, instance, *args, **kwargs)

    def finish_revert_migration(
            self, context: seams.RequestContext, instance: seams.Instance,
            network_info: object, *args: object, **kwargs: object) -> None:
        """Start an instance that is back on this host."""
        self._meet(context, instance)
        super().finish_revert_migration(
            context, instance, network_info, *args, **kwargs)


class QuiesceLibvirtDriver(
        QuiesceMixin,
        libvirt_driver.LibvirtDriver):  # type: ignore[misc]  # untyped
    """The class that ``compute_driver`` names."""
