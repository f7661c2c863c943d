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

"""Snapshots of servers whose root disk is a file or the like."""

from tempest.common import utils
from tempest.lib import decorators

from nova_quiesce_tempest_plugin.tests.scenario import base


class ImageBackedTest(base.QuiesceScenario):

    @decorators.idempotent_id('875a9296-bcc8-4339-ade1-7a7db26640c7')
    @utils.services('compute', 'image')
    def test_required(self) -> None:
        """What has to be consistent is, and says so."""
        self.check_healthy(base.REQUIRED)

    @decorators.idempotent_id('4657b038-0ce8-409f-b16d-4d00a6450baa')
    @utils.services('compute', 'image')
    def test_preferred(self) -> None:
        """What is preferred to be consistent is, where the agent answers."""
        self.check_healthy(base.PREFERRED)

    @decorators.idempotent_id('12022c81-cd0a-41bb-bbb2-873c4cefadf5')
    @utils.services('compute', 'image')
    def test_required_without_agent(self) -> None:
        """What cannot be consistent is no image, and an event says why."""
        server = self.boot_from(self.dead_image(base.REQUIRED))
        answer = self.request_snapshot(
            server, self.random_name('snapshot'))
        self.image_client.wait_for_resource_deletion(answer['image_id'])
        self.wait_until_idle(server)
        told = [event['event'] for event in self.events(server, answer)
                if event['result'] == 'Error']
        self.assertIn('quiesce_failed:', str(told))
        self.assertIn('agent is not connected', str(told))
        self.assert_writes_on(server)

    @decorators.idempotent_id('1a6bc6a4-c22e-4108-bae6-9aed94eda53f')
    @utils.services('compute', 'image')
    def test_preferred_without_agent(self) -> None:
        """What need not be consistent is taken, and says what it lacks."""
        self.check_preferred_without_agent()
