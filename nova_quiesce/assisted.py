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

"""Snapshots of volumes that need Nova's assistance (NFS and the like).

Cinder asks for each of them, either for nova-api, which has the guest frozen
while it makes an image, or for somebody who wants nothing but the volume.
"""

from collections import abc
import contextlib
import typing

from nova.compute import power_state
from nova.compute import vm_states
from nova import conf as nova_conf
from oslo_log import log as logging

from nova_quiesce import compute_host
from nova_quiesce.cuts import external_snapshot
from nova_quiesce import foreign_jobs
from nova_quiesce.freeze import errors
from nova_quiesce import instances
from nova_quiesce.nova import api_errors
from nova_quiesce.nova import seams
from nova_quiesce import snapshots

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF


class Assisted:
    """The assisted volume snapshots of this host's instances.

    :param host: this compute host
    :param note_cut: called with the request that holds a guest frozen, and
        the id of a volume snapshot that was cut meanwhile
    """

    def __init__(self, host: compute_host.ComputeHost,
                 note_cut: abc.Callable[[str, str], None]) -> None:
        self._host = host
        self._note_cut = note_cut
        #: Cinder's, by instance and volume; it makes one of a volume at a
        #: time.
        self._snapshot_ids: dict[tuple[str, str], str | None] = {}

    @contextlib.contextmanager
    def requested(self, instance: seams.Instance, volume_id: str,
                  snapshot_id: str | None) -> abc.Iterator[None]:
        """Remember what Cinder asks for, for the length of the block.

        :param instance: whose disk the volume is
        :param volume_id: which volume
        :param snapshot_id: Cinder's name of the snapshot
        """
        key = (instance.uuid, volume_id)
        self._snapshot_ids[key] = snapshot_id
        try:
            yield
        finally:
            self._snapshot_ids.pop(key, None)

    def create(self, context: seams.RequestContext, instance: seams.Instance,
               guest: typing.Any, volume_id: str, new_file: str,
               make: abc.Callable[[object], None]) -> None:
        """Snapshot a volume inside a freeze.

        :param context: the request's
        :param instance: whose disk the volume is
        :param guest: Nova's handle of its guest
        :param volume_id: which volume
        :param new_file: the file that the guest goes on in
        :param make: Nova's way, given a guest to work with
        :raises InstanceQuiesceFailed: quiesce is required and cannot be had,
            or another job of the disk is in the way
        """
        with api_errors.as_novas(instance):
            # Before a freeze, or in one that others have asked for: libvirt
            # would let it wait for 30 s.
            foreign_jobs.Jobs(
                guest._domain, CONF.libvirt.snapshots_directory
            ).check_snapshot(volume_id)
            holder = self._host.freezer.spanning.holder(instance.uuid)
            if holder is not None:
                make(external_snapshot.SnapshottedGuest(
                    guest, lambda cut: cut()))
                self._end_cut(instance, volume_id, holder)
                instances.set_volume_file(
                    context, instance, volume_id, new_file)
                return
            snapshot = self._begin(context, instance, guest)
            with self._host.shutdowns.kept(instance.uuid):
                make(external_snapshot.SnapshottedGuest(guest, snapshot.cut))
            instances.set_volume_file(context, instance, volume_id, new_file)
            self._tell(instance, volume_id, snapshot)

    def delete(self, instance: seams.Instance,
               delete: abc.Callable[[], None]) -> None:
        """Delete a volume snapshot, which rewrites a disk that is off.

        :param instance: whose disk the volume is
        :param delete: Nova's way
        """
        with self._host.shutdowns.kept(instance.uuid):
            delete()

    def _begin(self, context: seams.RequestContext, instance: seams.Instance,
               guest: typing.Any) -> snapshots.Snapshot:
        snapshot = self._host.begin(context, instance, 'a volume snapshot')
        # What is suspended to disk is shut off for libvirt.
        if (instance.vm_state != vm_states.SUSPENDED and
                guest.get_power_state(
                    self._host.hypervisor) == power_state.SHUTDOWN):
            self._host.judge_shut_off(instance, snapshot)
        else:
            snapshot.prepare()
        return snapshot

    def _end_cut(self, instance: seams.Instance, volume_id: str,
                 holder: str) -> None:
        if self._host.freezer.spanning.holder(instance.uuid) == holder:
            # The guest may be thawed with the last one.
            snapshot_id = self._snapshot_ids.get((instance.uuid, volume_id))
            if snapshot_id is not None:
                self._note_cut(holder, snapshot_id)
            LOG.info('The snapshot of volume %s is part of one for which the '
                     'guest is frozen', volume_id, instance=instance)
        else:
            LOG.error('The snapshot of volume %s is not consistent: the '
                      'guest was thawed while it was made', volume_id,
                      instance=instance)

    @staticmethod
    def _tell(instance: seams.Instance, volume_id: str,
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
