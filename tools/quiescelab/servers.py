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

"""A user's servers, in any cloud."""

import pathlib
from typing import Any

from quiescelab import api
from quiescelab import errors
from quiescelab import imaging
from quiescelab import waiting

#: Seconds that a guest without KVM may take to boot on a busy machine.
BOOT_SECONDS = 180


class User(imaging.ImageOwner):
    """A user who has servers, and images of them.

    :cvar flavor: the name of the servers' flavor
    :cvar disk_gib: the size of a root disk that is a volume
    :cvar volume_type: of such a disk; None for the cloud's default
    :cvar boot_seconds: that a guest may take to boot
    :ivar log: tells why a server does not start, where that is known
    """

    flavor: str
    disk_gib = 1
    volume_type: str | None = None
    boot_seconds = BOOT_SECONDS
    log: pathlib.Path | None = None

    def boot(self, name: str, image: str, from_volume: bool = False,
             volume_type: str | None = None) -> api.Json:
        """Ask for a server.

        :param image: the name of its image
        :param from_volume: whether its root disk is a volume
        :param volume_type: of the volume; None for the usual one
        :returns: the server, which is not active yet
        """
        flavors = self.api.get('nova', '/v2.1/flavors')['flavors']
        request: api.Json = {
            'name': name, 'networks': 'none',
            'flavorRef': next(flavor['id'] for flavor in flavors
                              if flavor['name'] == self.flavor)}
        image_id = self.image_named(image)['id']
        if from_volume:
            request['block_device_mapping_v2'] = [
                self._root_disk(image_id, volume_type or self.volume_type)]
        else:
            request['imageRef'] = image_id
        server: api.Json = self.api.post(
            'nova', '/v2.1/servers', {'server': request})['server']
        return server

    def _root_disk(self, image_id: str, volume_type: str | None) -> api.Json:
        return {'boot_index': 0, 'uuid': image_id, 'source_type': 'image',
                'destination_type': 'volume', 'volume_size': self.disk_gib,
                'delete_on_termination': True,
                **({'volume_type': volume_type} if volume_type else {})}

    def wait_until_active(self, server: api.Json) -> None:
        """Wait until Nova has a server running.

        :raises LabError: it cannot, or does not in time
        """
        waiting.wait(lambda: self._is_active(server), self.boot_seconds,
                     f'server {server["id"]} to become active')

    def show(self, server: api.Json) -> api.Json:
        """Return a server as it is now."""
        answer = self.api.get('nova', _path(server))
        found: api.Json = answer['server']
        return found

    def act(self, server: api.Json, action: str,
            argument: object = None) -> Any:
        """Send an action to a server.

        :returns: Nova's answer
        """
        return self.api.post('nova', f'{_path(server)}/action',
                             {action: argument})

    def delete(self, server: api.Json) -> None:
        """Delete a server unless it is gone, and wait until it is."""
        if self._is_there(server):
            self.api.call('DELETE', 'nova', _path(server))
        waiting.wait(lambda: not self._is_there(server), self.boot_seconds,
                     f'server {server["id"]} to go')

    def servers(self) -> list[api.Json]:
        """Return the user's servers."""
        found: list[api.Json] = self.api.get(
            'nova', '/v2.1/servers')['servers']
        return found

    def events(self, server: api.Json) -> list[api.Json]:
        """List the events of a server's latest request.

        :returns: the latest first, as the user may see them
        """
        latest = self._actions(server)[0]
        return self._events_of(server, latest['request_id'])

    def failures(self, server: api.Json) -> list[str]:
        """Return the events of a server's snapshots that failed."""
        return [event['event'] for action in self._actions(server)
                if action['action'] == 'createImage'
                for event in self._events_of(server, action['request_id'])
                if event['result'] == 'Error']

    def _actions(self, server: api.Json) -> list[api.Json]:
        found: list[api.Json] = self.api.get(
            'nova', f'{_path(server)}/os-instance-actions')['instanceActions']
        return found

    def _events_of(self, server: api.Json, request_id: str) -> list[api.Json]:
        found: list[api.Json] = self.api.get(
            'nova', f'{_path(server)}/os-instance-actions/{request_id}')[
            'instanceAction']['events']
        return found

    def _is_there(self, server: api.Json) -> bool:
        return any(one['id'] == server['id'] for one in self.servers())

    def _is_active(self, server: api.Json) -> bool:
        found = self.show(server)
        if found['status'] == 'ERROR':
            raise errors.LabError(
                f'server {server["id"]}: {found.get("fault")}', self.log)
        return bool(found['status'] == 'ACTIVE')

    def begin_snapshot(self, server: api.Json, name: str) -> str:
        """Ask for a snapshot of a server.

        :returns: the id of its image, as soon as there is one
        """
        return str(self.act(server, 'createImage', {'name': name})[
            'image_id'])


def _path(server: api.Json) -> str:
    return f'/v2.1/servers/{server["id"]}'
