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

"""The guest image and the flavor, in the lab and in its cloud."""

import hashlib
import pathlib

from quiescelab import errors
from quiescelab import guest
from quiescelab import rest
from quiescelab import site

FLAVOR = 'quiesce.small'
RAM_MIB, VCPUS, DISK_GIB = 256, 1, 1
# The same guest: what requires quiesce, what prefers it, what does not ask
# for it, and one whose agent never starts.
PREFERRED, PLAIN = 'quiesce-preferred', 'quiesce-control'
AGENTLESS = 'quiesce-agentless'
IMAGES = {
    'quiesce-guest': {'hw_qemu_guest_agent': 'yes',
                      'os_require_quiesce': 'yes'},
    # Those who stop a server while its guest boots wait for no shutdown.
    PREFERRED: {'hw_qemu_guest_agent': 'yes', 'os_shutdown_timeout': '5'},
    PLAIN: {},
    AGENTLESS: {},
}
SOURCES = pathlib.Path(__file__).parent


def build(lab: site.Site) -> None:
    """Build the guest image, unless there is one of these very sources."""
    marker = lab.paths.guest_image.with_suffix('.version')
    made = (lab.paths.guest_image, lab.paths.agentless_image, marker)
    if all(path.exists() for path in made
           ) and marker.read_text() == _version():
        return
    lab.screen.say('building the guest image')
    try:
        guest.build(lab.paths.guest_image, lab.paths.cache / 'guest',
                    lambda text: lab.screen.say(f'guest: {text}'))
        guest.without_agent(lab.paths.guest_image, lab.paths.agentless_image)
    except guest.GuestError as failure:
        raise errors.LabError(str(failure)) from failure
    marker.write_text(_version())


def upload(lab: site.Site) -> None:
    """Put the images into Glance, under each name."""
    lab.once('images', lambda: _upload(rest.Client(lab, 'admin'), lab),
             _version())


def make_flavor(lab: site.Site) -> None:
    """Make the flavor of the lab's servers."""
    lab.once('flavor', lambda: _make_flavor(rest.Client(lab, 'admin')))


def _upload(cloud: rest.Client, lab: site.Site) -> None:
    for name, properties in IMAGES.items():
        for old in cloud.get('glance', f'/v2/images?name={name}')['images']:
            cloud.call('DELETE', 'glance', f'/v2/images/{old["id"]}')
        image = cloud.post('glance', '/v2/images', {
            'name': name, 'disk_format': 'qcow2', 'container_format': 'bare',
            'visibility': 'public', **properties})
        cloud.upload(f'/v2/images/{image["id"]}/file', (
            lab.paths.agentless_image if name == AGENTLESS
            else lab.paths.guest_image))


def _make_flavor(cloud: rest.Client) -> None:
    flavors = cloud.get('nova', '/v2.1/flavors')['flavors']
    if FLAVOR in (flavor['name'] for flavor in flavors):
        return
    cloud.post('nova', '/v2.1/flavors', {'flavor': {
        'name': FLAVOR, 'ram': RAM_MIB, 'vcpus': VCPUS, 'disk': DISK_GIB}})


def _version() -> str:
    digest = hashlib.sha256()
    sources = sorted((*SOURCES.glob('guest*.py'),
                      *(SOURCES / 'guestfiles').iterdir()))
    for path in sources:
        if path.is_file() and path.name != 'guestctl.py':
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
