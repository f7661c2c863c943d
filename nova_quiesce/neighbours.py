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
first; the snapshot in progress loses its consistency, and says so.
"""

import typing

from nova_quiesce import core
from nova_quiesce import seams

_SOFT = 'SOFT'
_VOLUME = 'a volume of the instance'


class ThawFirstMixin(core.CoreMixin):
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

    def live_migration(self, context: seams.RequestContext,
                       instance: seams.Instance, *args: object,
                       **kwargs: object) -> None:
        """Migrate a running instance away from this host."""
        self.lapse(instance, 'migrated')
        super().live_migration(context, instance, *args, **kwargs)

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
