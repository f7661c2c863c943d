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

"""DevStack's plugin, as far as it is for tempest."""

from nova_quiesce_tempest_plugin import config
from tests.tools import test_devstack

ROOT = test_devstack.ROOT
PLUGIN = ROOT / 'tempest-plugin'
ALL_IN_ONE = test_devstack.ALL_IN_ONE
WITH_TEMPEST = test_devstack.WITH_TEMPEST
OPENSTACK = test_devstack.OPENSTACK


class GuestsTest(test_devstack.DevStack):

    def test_tempest_gets_a_guest_without_an_agent(self) -> None:
        calls = self.phase('stack extra', ENABLED_SERVICES=WITH_TEMPEST)
        self.assertEqual([
            f'{OPENSTACK} image create --public --file '
            f'{self.data}/nova-quiesce/agentless.qcow2 --container-format '
            'bare --disk-format qcow2 quiesce-agentless'], calls[1:])

    def test_operator_brings_both_guests(self) -> None:
        for variables in ({'NOVA_QUIESCE_IMAGE_FILE': '/images/own.qcow2'},
                          {'NOVA_QUIESCE_BUILD_IMAGE': 'False'}):
            calls = self.phase('stack extra', ENABLED_SERVICES=WITH_TEMPEST,
                               **variables)
            self.assertNotIn('agentless', str(calls))


class InstallTest(test_devstack.DevStack):
    """What DevStack itself installs into tempest's virtualenv."""

    def assert_installs(self, plugins: str, **variables: str) -> None:
        """Check DevStack's list of plugins, as it is used in this phase."""
        done = self.try_phase('stack test-config', {
            'ENABLED_SERVICES': WITH_TEMPEST} | variables)
        self.assertIn(f'\nTEMPEST_PLUGINS={plugins}.\n', done.stdout)

    def test_scenarios_without_the_driver(self) -> None:
        self.assert_installs(f' {PLUGIN}')
        self.assert_installs(f' {PLUGIN}', TEMPEST_PLUGINS='0')
        self.assertTrue((PLUGIN / 'setup.cfg').is_file())

    def test_plugins_of_local_conf_stay(self) -> None:
        self.assert_installs(f'/opt/one /opt/other {PLUGIN}',
                             TEMPEST_PLUGINS='/opt/one /opt/other')


class TestConfigTest(test_devstack.DevStack):

    def configure(self, **variables: str) -> dict[str, dict[str, str]]:
        """Run the phase with tempest; what is in its configuration."""
        self.phase('stack test-config',
                   **{'ENABLED_SERVICES': WITH_TEMPEST} | variables)
        return self.read('opt/stack/tempest/etc/tempest.conf')

    def test_all_in_one(self) -> None:
        self.assertEqual({
            'image': {'build_timeout': '600'},
            'quiesce': {
                'image_ref': 'ID-of-quiesce-guest',
                'image_without_agent_ref': 'ID-of-quiesce-agentless',
                'flavor_ref': 'c1',
                'guest_timeout': '600',
            },
        }, self.configure())

    def test_options_are_those_of_the_scenarios(self) -> None:
        written = self.configure(ENABLED_SERVICES=f'{ALL_IN_ONE},tempest')
        self.assertLessEqual(set(written['quiesce']),
                             {option.name for option in config.OPTS})

    def test_without_cinder(self) -> None:
        written = self.configure(ENABLED_SERVICES=f'{ALL_IN_ONE},tempest')
        self.assertEqual('False', written['quiesce']['volume_backed'])

    def test_patience_of_local_conf(self) -> None:
        written = self.configure(BUILD_TIMEOUT='900')
        self.assertEqual('900', written['image']['build_timeout'])
        self.assertEqual('900', written['quiesce']['guest_timeout'])

    def test_guest_of_the_operator(self) -> None:
        written = self.configure(NOVA_QUIESCE_IMAGE_NAME='own',
                                 NOVA_QUIESCE_FLAVOR='m1.small',
                                 NO_IMAGE='quiesce-agentless')
        self.assertEqual('ID-of-own', written['quiesce']['image_ref'])
        self.assertEqual('', written['quiesce']['image_without_agent_ref'])
        self.assertIn(f'{OPENSTACK} flavor show --format value --column id '
                      'm1.small', self.calls())

    def test_nothing_is_done_without_tempest(self) -> None:
        self.assertEqual([], self.phase('stack test-config'))
        self.assertFalse((self.sandbox / 'opt/stack/tempest').exists())


class CleanTest(test_devstack.DevStack):

    def test_clean_leaves_nothing_in_tempest(self) -> None:
        # lib/tempest is not loaded in clean.sh, but what it made is there.
        tempest = self.sandbox / 'opt/stack/tempest/.tox/tempest'
        tempest.mkdir(parents=True)
        self.assertEqual([f'PIP_VIRTUAL_ENV={tempest}',
                          'pip_uninstall nova-quiesce-tempest-plugin'],
                         self.phase('clean')[2:4])
