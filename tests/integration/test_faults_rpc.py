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

"""A freeze that lasts longer than nova-api waits for it."""

from quiescelab import errors

from tests.integration import faults

#: How long nova-api waits, and how long the guest's freeze hook takes.
RPC_SECONDS = 4
HOOK_SECONDS = 9
#: Seconds from the moment that the freeze lands to its thaw.
PROMISED = 2


class RpcTimeoutTest(faults.HeldFreezeTestCase):
    """nova-api gives up, and nobody is left who would use the freeze."""

    shares_server = True

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.enterClassContext(cls.lab.environment('nova-api', {
            'OS_DEFAULT__RPC_RESPONSE_TIMEOUT': str(RPC_SECONDS)}))

    def test_freeze_lands_afterwards(self) -> None:
        name = self.new_name()
        calls = self.agent_calls()
        self.set_hook(freeze_delay=HOOK_SECONDS)
        with self.assertRaises(errors.LabError) as caught:
            self.create_image(name)
        self.assertIn(': 500 ', str(caught.exception))
        # It is still under way.
        self.assertIn(self.server['id'], self.leases())
        self.seconds_until_thawed()
        self.wait_until_lease_ends()
        self.measured('a freeze outlasts rpc_response_timeout: thawed after '
                      'it landed', self.seconds_frozen(), PROMISED)
        self.assertEqual([], self.user.images_named(name))
        volume, = self.user.show(self.server)[
            'os-extended-volumes:volumes_attached']
        self.assertEqual([], self.user.volume_snapshots(volume['id']))
        self.set_hook()
        self.assertEqual(1, calls.sent['freeze'])
        calls = self.agent_calls()
        self.assert_healthy_image(self.create_image(self.new_name()), calls)
