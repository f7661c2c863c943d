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

"""The cloud, as its tenant ``demo`` sees it."""

from collections.abc import Iterator
import contextlib
import pathlib
import subprocess
import tempfile
from typing import Any

import openstack

from quiescelab import errors
from quiescelab import guestctl
from quiescelab import oracle
from quiescelab import waiting

IMAGE = 'quiesce-guest'
# DevStack's smallest that the guest boots in.
FLAVOR = 'cirros256'
BOOT_SECONDS = 240
SNAPSHOT_SECONDS = 240
PREFIX = 'quiesce_'
#: Where the volumes' files are; see local.conf and ../devstack-container.
EXPORT = pathlib.Path('/srv/nfs1')

Json = dict[str, Any]


class Cloud:
    """The tenant's servers, images and volumes."""

    def __init__(self) -> None:
        self.api: Any = openstack.connect(cloud='devstack')

    @contextlib.contextmanager
    def server(self, name: str, from_volume: bool) -> Iterator[Json]:
        """Boot a server, and delete it in the end.

        :param from_volume: whether its root disk is a volume
        """
        server = self._boot(name, from_volume)
        try:
            waiting.wait(lambda: self._is_active(server), BOOT_SECONDS,
                         f'server {name} to become active')
            yield server
        finally:
            self.api.delete_server(server['id'], wait=True)

    def guest(self, server: Json) -> guestctl.Guest:
        """Wait until a guest's agent answers.

        :returns: the guest
        """
        guest = guestctl.Guest(server['id'], 'qemu:///system')
        waiting.wait(guest.agent_alive, BOOT_SECONDS,
                     f'the guest agent of server {server["id"]} to answer')
        return guest

    def snapshot(self, server: Json, name: str) -> Json:
        """Run the command that a person would; the image.

        :raises LabError: when it fails
        """
        done = subprocess.run(
            ['/opt/stack/data/venv/bin/openstack', '--os-cloud', 'devstack',
             'server', 'image', 'create', '--wait', '--name', name,
             server['id']], capture_output=True, text=True,
            timeout=SNAPSHOT_SECONDS, check=False)
        if done.returncode:
            raise errors.LabError(f'image create: {done.stderr.strip()}')
        return self.image(str(self.api.get_image(name)['id']))

    def begin_snapshot(self, server: Json, name: str) -> str:
        """Ask for a snapshot; the image's id, as soon as there is one."""
        answer = self.api.compute.post(
            f'/servers/{server["id"]}/action', microversion='2.45',
            json={'createImage': {'name': name}})
        if answer.status_code != 202:
            raise errors.LabError(f'createImage: {answer.text}')
        return str(answer.json()['image_id'])

    def image(self, image_id: str) -> Json:
        """:returns: an image as Glance shows it."""
        return dict(self.api.image.get(f'/images/{image_id}').json())

    def record(self, image_id: str) -> dict[str, str]:
        """Wait for the record on an image.

        :returns: it, without the properties' prefix
        """
        waiting.wait(lambda: bool(record_of(self.image(image_id))),
                     SNAPSHOT_SECONDS, f'a record on image {image_id}')
        return record_of(self.image(image_id))

    def needs_recovery(self, image: Json) -> bool:
        """Whether the root filesystem of a snapshot was cut while in use."""
        with tempfile.TemporaryDirectory() as directory:
            copy = pathlib.Path(directory) / 'copy'
            with copy.open('wb') as stream:
                for part in self.api.image.download_image(
                        image['id'], stream=True).iter_content(1 << 20):
                    stream.write(part)
            return oracle.needs_recovery(copy)

    def _boot(self, name: str, from_volume: bool) -> Json:
        image_id = self.api.get_image(IMAGE)['id']
        request: Json = {'name': name, 'networks': 'none',
                         'flavorRef': self.api.get_flavor(FLAVOR)['id']}
        if from_volume:
            request['block_device_mapping_v2'] = [{
                'boot_index': 0, 'uuid': image_id, 'source_type': 'image',
                'destination_type': 'volume', 'volume_size': 1,
                'delete_on_termination': True}]
        else:
            request['imageRef'] = image_id
        answer = self.api.compute.post('/servers', microversion='2.37',
                                       json={'server': request})
        if answer.status_code != 202:
            raise errors.LabError(f'boot {name}: {answer.text}')
        return dict(answer.json()['server'])

    def _is_active(self, server: Json) -> bool:
        found = self.api.compute.get(f'/servers/{server["id"]}').json()
        if found['server']['status'] == 'ERROR':
            raise errors.LabError(f'boot: {found["server"].get("fault")}')
        return bool(found['server']['status'] == 'ACTIVE')


def record_of(image: Json) -> dict[str, str]:
    """:returns: the record on an image, without the properties' prefix."""
    return {key.removeprefix(PREFIX): value for key, value in image.items()
            if key.startswith(PREFIX)}


def say(what: str, value: object) -> None:
    """Print one line of the account."""
    print(f'{what:60} {value!s:>8}', flush=True)
