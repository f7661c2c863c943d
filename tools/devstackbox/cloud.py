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
from urllib import parse

from openstack import config

from quiescelab import api
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import servers
from quiescelab import waiting

CLOUD = 'devstack'
IMAGE = 'quiesce-guest'
#: The places of the services' APIs on DevStack's web server.
PLACES = {'keystone': 'identity', 'nova': 'compute', 'glance': 'image',
          'cinder': 'volume'}


class Cloud(servers.User):
    """The tenant's servers, images and volumes."""

    # DevStack's smallest that the guest boots in.
    flavor = 'cirros256'
    boot_seconds = snapshot_seconds = 240

    def __init__(self) -> None:
        super().__init__(sign_in())

    @contextlib.contextmanager
    def server(self, name: str, from_volume: bool) -> Iterator[api.Json]:
        """Boot a server, and delete it in the end.

        :param from_volume: whether its root disk is a volume
        """
        server = self.boot(name, IMAGE, from_volume)
        try:
            self.wait_until_active(server)
            yield server
        finally:
            self.delete(server)

    def guest(self, server: api.Json) -> guestctl.Guest:
        """Wait until a guest's agent answers.

        :returns: the guest
        """
        guest = guestctl.Guest(server['id'], 'qemu:///system')
        waiting.wait(guest.agent_alive, self.boot_seconds,
                     f'the guest agent of server {server["id"]} to answer')
        return guest

    def snapshot(self, server: api.Json, name: str) -> api.Json:
        """Run the command that a person would.

        :returns: the image
        :raises LabError: the command fails
        """
        done = subprocess.run(
            ['/opt/stack/data/venv/bin/openstack', '--os-cloud', CLOUD,
             'server', 'image', 'create', '--wait', '--name', name,
             server['id']], capture_output=True, text=True,
            timeout=self.snapshot_seconds, check=False)
        if done.returncode:
            raise errors.LabError(f'image create: {done.stderr.strip()}')
        return self.image_named(name)

    def is_clean(self, image: api.Json) -> bool:
        """Tell whether an image's filesystem was cut frozen or unmounted."""
        with tempfile.TemporaryDirectory() as directory:
            return not self.needs_recovery(image['id'],
                                           pathlib.Path(directory))


def sign_in() -> api.Client:
    """Return a client of the cloud that ``clouds.yaml`` describes."""
    user: dict[str, str] = config.get_cloud_region(
        cloud=CLOUD).get_auth_args()

    def address(service: str, path: str) -> str:
        return parse.urljoin(user['auth_url'], f'/{PLACES[service]}{path}')

    return api.Client(address, user['username'], user['password'])


def say(what: str, value: object) -> None:
    """Print one line of the account."""
    print(f'{what:60} {value!s:>8}', flush=True)
