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

"""Snapshots of servers whose root disk is a volume."""

from tempest.common import utils
from tempest import config
from tempest.lib import decorators
from tempest.lib import exceptions as lib_exc

from nova_quiesce_tempest_plugin.tests.scenario import base

CONF = config.CONF


class VolumeBackedTest(base.QuiesceScenario):

    @classmethod
    def skip_checks(cls) -> None:
        """Skip where the configuration has no volumes."""
        super().skip_checks()
        if not CONF.quiesce.volume_backed:
            raise cls.skipException('[quiesce] volume_backed is off')

    @decorators.idempotent_id('dfb426d2-9c41-4ce3-b8db-ed91a226f362')
    @utils.services('compute', 'image', 'volume')
    def test_required(self) -> None:
        """What has to be consistent is, and says so."""
        self.check_healthy(base.REQUIRED)

    @decorators.idempotent_id('a7ce830c-a14f-4e06-bdd1-20f21a56161f')
    @utils.services('compute', 'image', 'volume')
    def test_preferred(self) -> None:
        """What is preferred to be consistent is, where the agent answers."""
        self.check_healthy(base.PREFERRED)

    @decorators.idempotent_id('28da3b56-ad30-43bc-b23b-5097c7ccf287')
    @utils.services('compute', 'image', 'volume')
    def test_required_without_agent(self) -> None:
        """What cannot be consistent is refused, and nothing is left of it."""
        server = self.boot_from(self.dead_image(base.REQUIRED))
        name = self.random_name('snapshot')
        refusal = self.assertRaises(
            lib_exc.Conflict, self.request_snapshot, server, name)
        self.assertIn('agent is not connected', str(refusal))
        self.wait_until_idle(server)
        self.assertEqual([], self._images_named(name))
        self.assertEqual([], self._snapshots_of(server))
        self.assert_writes_on(server)

    @decorators.idempotent_id('e3cab48a-90aa-4c05-b52b-413954b2e036')
    @utils.services('compute', 'image', 'volume')
    def test_preferred_without_agent(self) -> None:
        """What need not be consistent is taken, and says what it lacks."""
        self.check_preferred_without_agent()

    def boot_from(self, image_id: str) -> base.Json:
        """Boot a server from a volume, made from an image."""
        volume = self.create_volume_from_image(
            image_id=image_id, volume_type=CONF.volume.volume_type or None)
        return self.boot(image_id='', block_device_mapping_v2=[{
            'boot_index': 0, 'uuid': volume['id'], 'source_type': 'volume',
            'destination_type': 'volume', 'delete_on_termination': False}])

    def _snapshots_of(self, server: base.Json) -> list[base.Json]:
        attached = server['os-extended-volumes:volumes_attached']
        found: list[base.Json] = self.snapshots_client.list_snapshots(
            volume_id=attached[0]['id'])['snapshots']
        return found

    def _images_named(self, name: str) -> list[base.Json]:
        found: list[base.Json] = self.image_client.list_images(
            params={'name': name})['images']
        return found
