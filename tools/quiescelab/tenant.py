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

"""The lab's tenant: what the demo and the tests do as a user would."""

from collections.abc import Mapping
import pathlib
import subprocess
import tempfile

from quiescelab import api
from quiescelab import backends
from quiescelab import guestctl
from quiescelab import images
from quiescelab import lab as running
from quiescelab import oracle
from quiescelab import servers
from quiescelab import stored
from quiescelab import volumes
from quiescelab import waiting

USER = 'demo'


class Tenant(servers.User):
    """The user ``demo``, and what belongs to it.

    :param lab: a lab that is up
    """

    flavor = images.FLAVOR
    disk_gib = images.DISK_GIB
    volume_type = backends.DEFAULT

    def __init__(self, lab: running.Lab) -> None:
        super().__init__(lab.client(USER))
        self.lab = lab
        self.log = lab.log('nova-compute')

    def wait_until_writing(self, server: api.Json) -> None:
        """Wait until a server is active and its guest has begun to write."""
        self.wait_until_active(server)
        waiting.wait(lambda: self.lines(server) > 0, self.boot_seconds,
                     f'the guest of server {server["id"]} to write')

    def lines(self, server: api.Json) -> int:
        """Return how many lines a guest says it has on its disk."""
        answer = self.act(server, 'os-getConsoleOutput', {'length': 20})
        return guestctl.last_number(answer['output'].encode())

    def ready(self, server: api.Json) -> guestctl.Guest:
        """Wait until a guest writes and its agent answers.

        :returns: the guest
        """
        self.wait_until_writing(server)
        guest = guestctl.Guest(server['id'], self.lab.libvirt_uri)
        waiting.wait(guest.agent_alive, self.boot_seconds,
                     f'the guest agent of server {server["id"]} to answer')
        return guest

    def image_create(self, server: api.Json,
                     name: str) -> subprocess.CompletedProcess[str]:
        """Run ``nova image-create --poll``, as a person would.

        :returns: what it printed, and its exit code, which is not checked
        """
        return subprocess.run(
            [self.lab.paths.bin('nova'), 'image-create', '--poll',
             server['id'], name], text=True, env=self.lab.env(USER),
            capture_output=True, check=False, timeout=self.snapshot_seconds)

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

    def _declare(self, name: str, disk_format: str,
                 properties: Mapping[str, str]) -> api.Json:
        image: api.Json = self.api.post('glance', '/v2/images', {
            'name': name, 'disk_format': disk_format,
            'container_format': 'bare', **properties})
        return image

    def fetch(self, image_id: str, target: pathlib.Path) -> None:
        """Write the root disk that an image has to a file.

        Not through the APIs: from where the lab's services keep it.
        """
        image = self.image(image_id)
        snapshots = volumes.of_image(image)
        if snapshots:
            self.export_volume_snapshot(snapshots[0], target)
        else:
            stored.fetch_image(self.lab, image_id, image['stores'], target)

    def volume_needs_recovery(self, snapshot_id: str,
                              scratch: pathlib.Path) -> bool:
        """Tell whether a volume's filesystem was cut while in use.

        :param snapshot_id: of the volume's snapshot
        :param scratch: a directory for a copy of the snapshot
        """
        return oracle.copy_needs_recovery(
            scratch / f'{snapshot_id}.img',
            lambda copy: self.export_volume_snapshot(snapshot_id, copy))

    def export_volume_snapshot(self, snapshot_id: str,
                               target: pathlib.Path) -> None:
        """Copy a volume snapshot, as its storage has it, to a file."""
        volume_id = self.volume_snapshot(snapshot_id)['volume_id']
        self.lab.export_snapshot(self.volume(volume_id)['volume_type'],
                                 volume_id, snapshot_id, target)
