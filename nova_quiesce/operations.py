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

"""The operations that must not meet a frozen guest.

While volumes are snapshotted, Nova sets no task state, so any other operation
can begin. A guest that is paused, migrated or asked to shut down while its
filesystems are frozen stays frozen, or is cut off hard. So it is thawed
first; the snapshot in progress loses its consistency, and says so. Where that
cannot be confirmed, or a freeze may still land, the guest does not leave this
host: nobody would own it there.
"""

from collections import abc
import typing

from nova import exception as nova_exception
from oslo_log import log as logging

from nova_quiesce import compute_host
from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)

_SOFT = 'SOFT'
_VOLUME = 'a volume of the instance'
_MAY_BE_FROZEN = (
    "the guest's filesystems may be frozen for a snapshot, and their thaw is "
    'not confirmed; try again in a minute, or restart qemu-guest-agent inside '
    'the instance')


class ThawFirstMixin(compute_host.CoreMixin):
    """Ends a freeze before, or with, what would meet it."""

    def pause(self, instance: seams.Instance) -> None:
        """Pause an instance."""
        self.lapse(instance, 'paused')
        super().pause(instance)

    def suspend(self, context: seams.RequestContext,
                instance: seams.Instance) -> None:
        """Suspend an instance."""
        self.lapse(instance, 'suspended')
        super().suspend(context, instance)

    def reboot(self, context: seams.RequestContext, instance: seams.Instance,
               network_info: object, reboot_type: str, *args: object,
               **kwargs: object) -> None:
        """Reboot an instance."""
        if reboot_type == _SOFT:
            self.lapse(instance, 'rebooted')
        super().reboot(context, instance, network_info, reboot_type, *args,
                       **kwargs)
        # A hard reboot ends the freeze by itself; what is left is to say so.
        self.lapse(instance, 'rebooted')

    def power_off(self, instance: seams.Instance, timeout: int = 0,
                  retry_interval: int = 0) -> None:
        """Stop an instance, softly if it is given time."""
        if timeout:
            self.lapse(instance, 'stopped')
        super().power_off(instance, timeout, retry_interval)
        self.lapse(instance, 'stopped')

    def destroy(self, context: seams.RequestContext, instance: seams.Instance,
                *args: object, **kwargs: object) -> None:
        """Destroy an instance."""
        super().destroy(context, instance, *args, **kwargs)
        # Nova also does so to reboot hard, or to rebuild.
        self.lapse(instance, 'shut off hard')

    def rescue(self, context: seams.RequestContext, instance: seams.Instance,
               *args: object, **kwargs: object) -> None:
        """Rescue an instance."""
        self.lapse(instance, 'rescued')
        super().rescue(context, instance, *args, **kwargs)

    def check_can_live_migrate_source(
            self, context: seams.RequestContext, instance: seams.Instance,
            *args: object, **kwargs: object) -> object:
        """See whether a running instance can be migrated away."""
        answer = super().check_can_live_migrate_source(
            context, instance, *args, **kwargs)
        self.lapse(instance, 'migrated')
        if self._freezer.may_be_frozen(instance.uuid):
            raise nova_exception.MigrationPreCheckError(reason=_MAY_BE_FROZEN)
        return answer

    def live_migration(
            self, context: seams.RequestContext, instance: seams.Instance,
            dest: str, post_method: abc.Callable[..., object],
            recover_method: abc.Callable[..., object],
            block_migration: bool = False,
            migrate_data: object = None) -> None:
        """Migrate a running instance away from this host."""
        with self._freezer.barred(instance.uuid, 'is being live-migrated'):
            self.lapse(instance, 'migrated')
            if self._freezer.may_be_frozen(instance.uuid):
                # It was frozen after the check. An error would put it into
                # an error state; this puts all back as it was.
                LOG.error('The instance is not migrated: %s', _MAY_BE_FROZEN,
                          instance=instance)
                recover_method(context, instance, dest, migrate_data)
                return
            super().live_migration(
                context, instance, dest, post_method, recover_method,
                block_migration, migrate_data)

    def post_live_migration_at_destination(
            self, context: seams.RequestContext, instance: seams.Instance,
            network_info: object, *args: object, **kwargs: object) -> None:
        """Take over an instance that was migrated to this host."""
        try:
            super().post_live_migration_at_destination(
                context, instance, network_info, *args, **kwargs)
        finally:
            self._freezer.receive(instance.uuid, instance.name)

    def migrate_disk_and_power_off(
            self, context: seams.RequestContext, instance: seams.Instance,
            *args: object, **kwargs: object) -> typing.Any:
        """Move an instance away from this host."""
        self.lapse(instance, 'migrated')
        return super().migrate_disk_and_power_off(
            context, instance, *args, **kwargs)

    def detach_volume(self, context: seams.RequestContext,
                      connection_info: object, instance: seams.Instance,
                      *args: object, **kwargs: object) -> None:
        """Take a volume from an instance."""
        self.lapse(instance, 'detached', _VOLUME)
        super().detach_volume(
            context, connection_info, instance, *args, **kwargs)

    def swap_volume(self, context: seams.RequestContext,
                    old_connection_info: object, new_connection_info: object,
                    instance: seams.Instance, *args: object,
                    **kwargs: object) -> None:
        """Put one volume in the place of another."""
        self.lapse(instance, 'migrated', _VOLUME)
        super().swap_volume(context, old_connection_info, new_connection_info,
                            instance, *args, **kwargs)

    def extend_volume(self, context: seams.RequestContext,
                      connection_info: object, instance: seams.Instance,
                      *args: object, **kwargs: object) -> None:
        """Let an instance see that a volume has grown."""
        self.lapse(instance, 'extended', _VOLUME)
        super().extend_volume(
            context, connection_info, instance, *args, **kwargs)
