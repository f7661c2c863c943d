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

"""Snapshots of volumes that need Nova's assistance: the seam of its driver.

Cinder asks for each of them, either for nova-api, which has the guest frozen
while it makes an image, or for somebody who wants nothing but the volume.
"""

import functools
import typing

from nova.compute import power_state
from nova.compute import vm_states
from oslo_log import log as logging

from nova_quiesce import compute_host
from nova_quiesce.copy import disk_copy
from nova_quiesce.cuts import external_snapshot
from nova_quiesce.freeze import errors
from nova_quiesce import instances
from nova_quiesce.nova import api_errors
from nova_quiesce.nova import seams
from nova_quiesce import snapshots

LOG = logging.getLogger(__name__)


class AssistedMixin(compute_host.CoreMixin):
    """Assisted volume snapshots inside verified freezes."""

    def _volume_snapshot_create(
            self, context: seams.RequestContext, instance: seams.Instance,
            guest: typing.Any, volume_id: str, new_file: str) -> None:
        create = functools.partial(
            super()._volume_snapshot_create, context, instance,
            volume_id=volume_id, new_file=new_file)
        with api_errors.as_novas(instance):
            # Before a freeze, or in one that others have asked for: libvirt
            # would let it wait for 30 s.
            disk_copy.jobs_of(guest._domain).check_snapshot(volume_id)
            if self._freezer.spanning.is_open(instance.uuid):
                create(guest=external_snapshot.AssistedGuest(
                    guest, lambda make: make()))
                instances.set_volume_file(
                    context, instance, volume_id, new_file)
                self._tell_lapse(instance, volume_id)
                return
            snapshot = self._prepare_own(context, instance, guest)
            with self._shutdowns.kept(instance.uuid):
                create(guest=external_snapshot.AssistedGuest(
                    guest, snapshot.cut_unless_refused))
            instances.set_volume_file(context, instance, volume_id, new_file)
            self._tell(instance, volume_id, snapshot)

    def volume_snapshot_delete(
            self, context: seams.RequestContext, instance: seams.Instance,
            volume_id: str, snapshot_id: str, delete_info: object) -> None:
        """Delete a volume snapshot, which rewrites a disk that is off."""
        with self._shutdowns.kept(instance.uuid):
            super().volume_snapshot_delete(
                context, instance, volume_id, snapshot_id, delete_info)

    def _prepare_own(self, context: seams.RequestContext,
                     instance: seams.Instance,
                     guest: typing.Any) -> snapshots.Snapshot:
        decision = self._decide(context, instance)
        agent = self._agent_of(instance, decision)
        snapshot = snapshots.Snapshot(
            decision, agent, lambda is_saved: self._window_of(
                agent, instance, decision, context.request_id,
                'a volume snapshot', is_saved))
        # What is suspended to disk is shut off for libvirt.
        if (instance.vm_state != vm_states.SUSPENDED and
                guest.get_power_state(self._host) == power_state.SHUTDOWN):
            self._find_shut_off(instance, snapshot)
        else:
            snapshot.prepare()
        return snapshot

    def _tell_lapse(self, instance: seams.Instance, volume_id: str) -> None:
        if self._freezer.spanning.is_open(instance.uuid):
            LOG.info('The snapshot of volume %s is part of one for which the '
                     'guest is frozen', volume_id, instance=instance)
        else:
            LOG.error('The snapshot of volume %s is not consistent: the '
                      'guest was thawed while it was made', volume_id,
                      instance=instance)

    def _tell(self, instance: seams.Instance, volume_id: str,
              snapshot: snapshots.Snapshot) -> None:
        record = snapshot.record
        LOG.info('The snapshot of volume %(volume)s has consistency level '
                 '%(level)s: %(reason)s',
                 {'volume': volume_id, 'level': record.level.value,
                  'reason': record.reason}, instance=instance)
        try:
            snapshot.check()
        except errors.QuiesceError as error:
            LOG.error('The snapshot of volume %(volume)s is kept although '
                      'quiesce is required, because the guest writes to its '
                      'new file already: %(error)s',
                      {'volume': volume_id, 'error': error},
                      instance=instance)
