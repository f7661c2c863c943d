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

"""An image-backed and a volume-backed server are snapshotted, quiesced."""

from devstackbox import cloud
from quiescelab import api
from quiescelab import errors

LEVEL = 'filesystem'


def run() -> None:
    """Snapshot one server of each kind.

    :raises LabError: a snapshot is not what was required
    """
    tenant = cloud.Cloud()
    for kind, from_volume in (('image', False), ('volume', True)):
        _check(tenant, kind, from_volume)


def _check(tenant: cloud.Cloud, kind: str, from_volume: bool) -> None:
    name = f'{kind}-backed'
    with tenant.server(name, from_volume) as server:
        tenant.guest(server)
        image = tenant.snapshot(server, f'{name}-snapshot')
        record = tenant.record(image['id'])
        if record['consistency'] != LEVEL:
            raise errors.LabError(f'the {name} snapshot: {record}')
        cloud.say(f'{name}: quiesce_consistency', record['consistency'])
        cloud.say(f'{name}: quiesce_window_ms', record['window_ms'])
        if not from_volume:
            _check_bits(tenant, image)


def _check_bits(tenant: cloud.Cloud, image: api.Json) -> None:
    if not tenant.is_clean(image):
        raise errors.LabError('the image-backed snapshot needs recovery')
    cloud.say('image-backed: ext4 needs no recovery', 'yes')
