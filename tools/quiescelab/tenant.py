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

"""A tenant of the lab: what the demo and the tests do as a user would."""

from collections.abc import Mapping
import pathlib
import subprocess
import tempfile
from typing import Any

from quiescelab import backends
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import images
from quiescelab import oracle
from quiescelab import stored
from quiescelab import volumes
from quiescelab import waiting

#: Seconds that a guest without KVM may take to boot on a busy machine.
BOOT_SECONDS = 180
SNAPSHOT_SECONDS = volumes.SNAPSHOT_SECONDS
#: Of a record: the image properties that start with this.
PREFIX = 'quiesce_'

Json = volumes.Json
wait = waiting.wait


class Tenant(volumes.Owner):
    """The user ``demo``, and what belongs to it.

    :param lab: a lab that is up.
    """

    def boot(self, name: str, image: str = 'quiesce-guest',
             from_volume: bool = False,
             volume_type: str = backends.DEFAULT) -> Json:
        """Ask for a server.

        :param image: the name of its image
        :param from_volume: whether its root disk is a volume
        :param volume_type: of the volume
        :returns: the server, which is not active yet
        """
        flavors = self.api.get('nova', '/v2.1/flavors')['flavors']
        request: Json = {
            'name': name, 'networks': 'none',
            'flavorRef': next(flavor['id'] for flavor in flavors
                              if flavor['name'] == images.FLAVOR)}
        image_id = self.image_named(image)['id']
        if from_volume:
            request['block_device_mapping_v2'] = [{
                'boot_index': 0, 'uuid': image_id, 'source_type': 'image',
                'destination_type': 'volume', 'volume_size': images.DISK_GIB,
                'volume_type': volume_type, 'delete_on_termination': True}]
        else:
            request['imageRef'] = image_id
        server: Json = self.api.post(
            'nova', '/v2.1/servers', {'server': request})['server']
        return server

    def wait_until_writing(self, server: Json) -> None:
        """Wait until a server is active and its guest has begun to write."""
        wait(lambda: self._is_active(server), BOOT_SECONDS,
              f'server {server["id"]} to become active')
        wait(lambda: self.lines(server) > 0, BOOT_SECONDS,
              f'the guest of server {server["id"]} to write')

    def lines(self, server: Json) -> int:
        """:returns: how many lines a guest says it has on its disk."""
        answer = self.act(server, 'os-getConsoleOutput', {'length': 20})
        return guestctl.last_number(answer['output'].encode())

    def ready(self, server: Json) -> guestctl.Guest:
        """Wait until a guest writes and its agent answers.

        :returns: the guest
        """
        self.wait_until_writing(server)
        guest = guestctl.Guest(server['id'], self.lab.libvirt_uri)
        wait(guest.agent_alive, BOOT_SECONDS,
              f'the guest agent of server {server["id"]} to answer')
        return guest

    def show(self, server: Json) -> Json:
        """:returns: a server as it is now."""
        answer = self.api.get('nova', f'/v2.1/servers/{server["id"]}')
        found: Json = answer['server']
        return found

    def act(self, server: Json, action: str, argument: object = None) -> Any:
        """Send an action to a server; Nova's answer."""
        return self.api.post('nova', f'/v2.1/servers/{server["id"]}/action',
                             {action: argument})

    def delete(self, server: Json) -> None:
        """Delete a server unless it is gone, and wait until it is."""
        if self._is_there(server):
            self.api.call('DELETE', 'nova', f'/v2.1/servers/{server["id"]}')
        wait(lambda: not self._is_there(server), BOOT_SECONDS,
             f'server {server["id"]} to go')

    def servers(self) -> list[Json]:
        """:returns: the tenant's servers."""
        found: list[Json] = self.api.get('nova', '/v2.1/servers')['servers']
        return found

    def image_create(self, server: Json,
                     name: str) -> subprocess.CompletedProcess[str]:
        """Run ``nova image-create --poll``, as a person would."""
        return self.run('nova', 'image-create', '--poll', server['id'], name)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of OpenStack's clients; its exit code is not checked."""
        return subprocess.run(
            [self.lab.paths.bin(command[0]), *command[1:]], text=True,
            env=self.lab.env('demo'), capture_output=True, check=False,
            timeout=SNAPSHOT_SECONDS)

    def image_named(self, name: str) -> Json:
        """:returns: the one image of a name.

        :raises LabError: when there is none
        """
        found = self.images_named(name)
        if not found:
            raise errors.LabError(f'there is no image {name}')
        return found[0]

    def images_named(self, name: str) -> list[Json]:
        """:returns: the images of a name."""
        answer = self.api.get('glance', f'/v2/images?name={name}')
        found: list[Json] = answer['images']
        return found

    def has_image(self, image_id: str) -> bool:
        """:returns: whether an image is there."""
        return self.find_image(image_id) is not None

    def find_image(self, image_id: str) -> Json | None:
        """:returns: an image as it is now, if it is there."""
        answer = self.api.get('glance', '/v2/images?limit=1000')
        return next((image for image in answer['images']
                     if image['id'] == image_id), None)

    def image(self, image_id: str) -> Json:
        """:returns: an image as it is now."""
        found: Json = self.api.get('glance', f'/v2/images/{image_id}')
        return found

    def record(self, image_id: str) -> dict[str, str]:
        """Wait for what is recorded on an image, without the prefix.

        On a volume-backed snapshot it is written a moment after the image.
        """
        wait(lambda: bool(record_of(self.image(image_id))),
              SNAPSHOT_SECONDS, f'a record on image {image_id}')
        return record_of(self.image(image_id))

    def upload(self, name: str, **properties: str) -> None:
        """Make an image of the guest, with other properties than the lab's.

        :param properties: the image's
        """
        image = self._declare(name, 'qcow2', properties)
        self.api.upload(f'/v2/images/{image["id"]}/file',
                        self.lab.paths.guest_image)

    def upload_raw(self, name: str, store: str, **properties: str) -> None:
        """Make a raw image of the guest in one of Glance's stores.

        :param properties: the image's
        """
        image = self._declare(name, 'raw', properties)
        with tempfile.NamedTemporaryFile(dir=self.lab.paths.run) as raw:
            subprocess.run(
                ['qemu-img', 'convert', '-O', 'raw',
                 self.lab.paths.guest_image, raw.name], check=True)
            self.api.upload(f'/v2/images/{image["id"]}/file',
                            pathlib.Path(raw.name), store)

    def delete_image(self, image_id: str) -> None:
        """Delete an image alone; Nova may withdraw it at the same moment."""
        try:
            self.api.call('DELETE', 'glance', f'/v2/images/{image_id}')
        except errors.LabError:
            if self.has_image(image_id):
                raise

    def remove_image(self, image: Json) -> None:
        """Delete an image, with the volume snapshots that it stands for."""
        for snapshot_id in volumes.of_image(image):
            self.complete(snapshot_id)
        self.delete_image(image['id'])
        for snapshot_id in volumes.of_image(image):
            self.remove_volume_snapshot(snapshot_id)

    def needs_recovery(self, image_id: str, scratch: pathlib.Path) -> bool:
        """Whether the root filesystem of a snapshot was cut while in use.

        :param scratch: a directory for a copy of the snapshot
        """
        copy = scratch / f'{image_id}.img'
        try:
            self.fetch(image_id, copy)
            return oracle.needs_recovery(copy)
        finally:
            copy.unlink(missing_ok=True)

    def events(self, server: Json) -> list[Json]:
        """The events of a server's latest request, as its owner sees them.

        :returns: the latest first
        """
        latest = self._actions(server)[0]
        return self._events_of(server, latest['request_id'])

    def failures(self, server: Json) -> list[str]:
        """What the events of a server's snapshots say that failed."""
        return [event['event'] for action in self._actions(server)
                if action['action'] == 'createImage'
                for event in self._events_of(server, action['request_id'])
                if event['result'] == 'Error']

    def _actions(self, server: Json) -> list[Json]:
        found: list[Json] = self.api.get(
            'nova', f'/v2.1/servers/{server["id"]}/os-instance-actions')[
            'instanceActions']
        return found

    def _events_of(self, server: Json, request_id: str) -> list[Json]:
        found: list[Json] = self.api.get(
            'nova', f'/v2.1/servers/{server["id"]}/os-instance-actions/'
            f'{request_id}')['instanceAction']['events']
        return found

    def _is_there(self, server: Json) -> bool:
        return any(one['id'] == server['id'] for one in self.servers())

    def _is_active(self, server: Json) -> bool:
        found = self.show(server)
        if found['status'] == 'ERROR':
            raise errors.LabError(
                f'server {server["id"]}: {found.get("fault")}',
                self.lab.log('nova-compute'))
        return bool(found['status'] == 'ACTIVE')

    def _declare(self, name: str, disk_format: str,
                 properties: Mapping[str, str]) -> Json:
        image: Json = self.api.post('glance', '/v2/images', {
            'name': name, 'disk_format': disk_format,
            'container_format': 'bare', **properties})
        return image

    def fetch(self, image_id: str, target: pathlib.Path) -> None:
        """Write what a snapshot has of the root disk to a file."""
        image = self.image(image_id)
        snapshots = volumes.of_image(image)
        if snapshots:
            self.export_volume_snapshot(snapshots[0], target)
        else:
            stored.fetch_image(self.lab, image_id, image['stores'], target)


def record_of(image: Mapping[str, Any]) -> dict[str, str]:
    """:returns: the record on an image, without the properties' prefix."""
    return {key.removeprefix(PREFIX): value for key, value in image.items()
            if key.startswith(PREFIX)}
