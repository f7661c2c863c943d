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

"""A user's volumes and their snapshots, in any cloud."""

from collections.abc import Mapping
import contextlib
import json
from typing import Any

from quiescelab import api
from quiescelab import errors
from quiescelab import waiting

SNAPSHOT_SECONDS = 180


class Owner:
    """A user who has volumes.

    :param client: the user's client
    :cvar snapshot_seconds: that a snapshot may take
    """

    snapshot_seconds = SNAPSHOT_SECONDS

    def __init__(self, client: api.Client) -> None:
        self.api = client

    def root_volume(self, server: api.Json) -> str:
        """Return the id of the only volume of a server."""
        path = f'/v2.1/servers/{server["id"]}/os-volume_attachments'
        attachment, = self.api.get('nova', path)['volumeAttachments']
        return str(attachment['volumeId'])

    def volume(self, volume_id: str) -> api.Json:
        """Return a volume as it is now."""
        found: api.Json = self.api.get('cinder', self._volume(volume_id))[
            'volume']
        return found

    def make_volume(self, name: str) -> str:
        """Make an empty volume.

        :returns: its id
        """
        made: api.Json = self.api.post(
            'cinder', f'/v3/{self.api.project}/volumes',
            {'volume': {'name': name, 'size': 1}})['volume']
        self._wait_for_volume(made['id'], 'available')
        return str(made['id'])

    def attach_volume(self, server: api.Json, volume_id: str) -> None:
        """Give a server one more volume."""
        self.api.post(
            'nova', f'/v2.1/servers/{server["id"]}/os-volume_attachments',
            {'volumeAttachment': {'volumeId': volume_id}})
        self._wait_for_volume(volume_id, 'in-use')

    def remove_volume(self, volume_id: str) -> None:
        """Delete a volume that no server has any more."""
        self._wait_for_volume(volume_id, 'available')
        self.api.call('DELETE', 'cinder', self._volume(volume_id))

    def set_volume_status(self, volume_id: str, status: str) -> None:
        """Have Cinder say that a volume has a status; administrators may."""
        self.api.post('cinder', f'{self._volume(volume_id)}/action',
                      {'os-reset_status': {'status': status}})

    def _wait_for_volume(self, volume_id: str, status: str) -> None:
        waiting.wait(lambda: self.volume(volume_id)['status'] == status,
                     self.snapshot_seconds,
                     f'volume {volume_id} to be {status}')

    def all_volume_snapshots(self) -> list[api.Json]:
        """Return the user's volume snapshots, unless they are going."""
        return self._snapshots_that_are('creating', 'available', 'error')

    def snapshot_volume(self, volume_id: str,
                        poll: float = waiting.POLL_SECONDS) -> api.Json:
        """Have Cinder snapshot a volume in use, and wait until it has.

        :param poll: seconds between two looks
        :returns: the snapshot, available or in error
        """
        snapshot_id = self.api.post(
            'cinder', f'/v3/{self.api.project}/snapshots', {'snapshot': {
                'volume_id': volume_id, 'force': True}})['snapshot']['id']
        return self.complete(snapshot_id, poll)

    def complete(self, snapshot_id: str,
                 poll: float = waiting.POLL_SECONDS) -> api.Json:
        """Wait until Cinder is done with a snapshot.

        :param poll: seconds between two looks
        :returns: the snapshot, available or in error
        """
        waiting.wait(lambda: self.volume_snapshot(snapshot_id)['status'] !=
                     'creating', self.snapshot_seconds,
                     f'volume snapshot {snapshot_id} to be complete', poll)
        return self.volume_snapshot(snapshot_id)

    def volume_snapshot(self, snapshot_id: str) -> api.Json:
        """Return a volume snapshot as it is now."""
        answer = self.api.get('cinder', self._snapshot(snapshot_id))
        found: api.Json = answer['snapshot']
        return found

    def volume_snapshots(self, volume_id: str) -> list[api.Json]:
        """Return the snapshots of a volume."""
        path = f'/v3/{self.api.project}/snapshots?volume_id={volume_id}'
        found: list[api.Json] = self.api.get('cinder', path)['snapshots']
        return found

    def remove_volume_snapshots(self) -> None:
        """Delete the user's volume snapshots, also those of no image."""
        waiting.wait(self._remove_complete_ones, self.snapshot_seconds,
                     'the volume snapshots to go')

    def _remove_complete_ones(self) -> bool:
        # One at a time, and to its end: Ceph's library ends cinder-volume now
        # and then where several are at work.
        if self._snapshots_that_are('deleting'):
            return False
        for one in self._snapshots_that_are('available', 'error')[:1]:
            # It may be on its way already.
            with contextlib.suppress(errors.LabError):
                self.remove_volume_snapshot(one['id'])
        return not self._snapshots_that_are(
            'creating', 'available', 'error', 'deleting')

    def remove_volume_snapshot(self, snapshot_id: str) -> None:
        """Ask for the end of a volume snapshot."""
        self.api.call('DELETE', 'cinder', self._snapshot(snapshot_id))

    def _snapshots_that_are(self, *states: str) -> list[api.Json]:
        path = f'/v3/{self.api.project}/snapshots'
        found: list[api.Json] = self.api.get('cinder', path)['snapshots']
        return [one for one in found if one['status'] in states]

    def _volume(self, volume_id: str) -> str:
        return f'/v3/{self.api.project}/volumes/{volume_id}'

    def _snapshot(self, snapshot_id: str) -> str:
        return f'/v3/{self.api.project}/snapshots/{snapshot_id}'


def of_image(image: Mapping[str, Any]) -> list[str]:
    """Return the ids of the volume snapshots that an image stands for.

    :returns: the root disk's first; nova-api lists them in any order
    """
    mapping = json.loads(image.get('block_device_mapping') or '[]')
    return [entry['snapshot_id'] for entry in sorted(
        mapping, key=lambda entry: entry.get('boot_index') != 0)
        if entry.get('snapshot_id')]
