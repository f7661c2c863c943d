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

"""The options: their limits, and those that are wrong or risky."""

import pathlib
import tempfile
import unittest

from nova import conf as nova_conf
from oslo_config import cfg
from oslo_config import generator

from nova_quiesce import conf
from nova_quiesce import policy
from nova_quiesce import properties

SAMPLE = (pathlib.Path(__file__).parents[2] /
          'etc/nova-quiesce/nova-quiesce.conf.sample')


#: As oslo.messaging registers it.
RPC_RESPONSE_TIMEOUT = cfg.IntOpt('rpc_response_timeout', default=60)


def load(text: str, *others: cfg.Opt) -> cfg.ConfigOpts:
    """Read and check a configuration from a file with this text.

    :param others: options that Nova would have registered
    """
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write(text)
        file.flush()
        options = cfg.ConfigOpts()
        options.register_opts(others)
        conf.register_opts(options)
        options([], default_config_files=[file.name])
        conf.validate(options)
        return options


def _members(protocol: type) -> set[str]:
    """List the names of the properties of a protocol."""
    return {name for base in protocol.__mro__
            for name, member in vars(base).items()
            if isinstance(member, property)}


class OptionsTest(unittest.TestCase):

    def test_defaults(self) -> None:
        options = load('').quiesce
        # A remote call of nova-api's has to end within 60 s.
        self.assertLess(options.agent_timeout + options.freeze_timeout +
                        options.thaw_timeout, 60)
        # A guest's kernel complains of a hung task after 120 s.
        self.assertLess(options.max_freeze_time, 120)

    def test_defaults_are_not_risky(self) -> None:
        with self.assertNoLogs('nova_quiesce'):
            load('', RPC_RESPONSE_TIMEOUT)

    def test_lease_directory_is_beside_novas_state(self) -> None:
        self.assertEqual('/srv/nova/quiesce', load(
            '[DEFAULT]\nstate_path = /srv/nova\n').quiesce.lease_directory)

    def test_can_be_registered_with_novas_own(self) -> None:
        self.addCleanup(nova_conf.CONF.reset)
        conf.register_opts(nova_conf.CONF)
        conf.register_opts(nova_conf.CONF)

    def test_are_what_the_policy_reads(self) -> None:
        # Typed as Any, so nothing else would notice a renamed option.
        for needed in (policy.Options, properties.Options):
            for name in _members(needed):
                self.assertTrue(hasattr(load('').quiesce, name), name)

    def test_each_wrong_value_names_its_option(self) -> None:
        for option in conf.OPTS:
            for value in ('banana', '-1', '1000000'):
                with self.assertRaises(ValueError, msg=value) as caught:
                    load('[quiesce]\n%s = %s\n' % (option.name, value))
                self.assertIn('[quiesce] %s' % option.name,
                              str(caught.exception))

    def test_listed_once(self) -> None:
        (group, options), = conf.list_opts()
        self.assertEqual('quiesce', group.name)
        self.assertEqual([option.name for option in conf.OPTS],
                         [option.name for option in options])

    def test_sample_is_in_step(self) -> None:
        with tempfile.NamedTemporaryFile('r') as file:
            generator.main(['--namespace', 'nova_quiesce', '--wrap-width',
                            '79', '--output-file', file.name])
            self.assertEqual(file.read(), SAMPLE.read_text(),
                             'run: tox -e genconfig')


class ProblemsTest(unittest.TestCase):
    """Values that can never work stop nova-compute."""

    def _assert_refused(self, option: str, text: str) -> None:
        with self.assertRaises(ValueError) as caught:
            load('[quiesce]\n' + text)
        self.assertIn('[quiesce] %s: ' % option, str(caught.exception))

    def test_paths_are_absolute(self) -> None:
        for option in ('lease_directory', 'guard_socket'):
            for path in ('leases', './leases', '~/leases', ''):
                self._assert_refused(option, '%s = %s' % (option, path))

    def test_path_of_a_socket(self) -> None:
        longest = '/' + 'x' * 106
        load('[quiesce]\nguard_socket = %s' % longest)
        self._assert_refused('guard_socket', 'guard_socket = %sx' % longest)
        self._assert_refused('guard_socket',
                             'guard_socket = /%s' % ('\u00e4' * 54))

    def test_thaw_is_tried_again_in_time(self) -> None:
        load('[quiesce]\nthaw_timeout = 2\nthaw_retry_interval = 1.9')
        self._assert_refused(
            'thaw_retry_interval',
            'thaw_timeout = 2\nthaw_retry_interval = 2')


class RisksTest(unittest.TestCase):
    """Values that can work start it, with a warning."""

    def _assert_warned(self, text: str, *warnings: str) -> None:
        with self.assertLogs('nova_quiesce', 'WARNING') as logs:
            load('[quiesce]\n' + text, RPC_RESPONSE_TIMEOUT)
        self.assertEqual(len(warnings), len(logs.output), logs.output)
        for warning, line in zip(warnings, logs.output, strict=True):
            self.assertIn('[quiesce] ' + warning, line)

    def _assert_silent(self, text: str) -> None:
        with self.assertNoLogs('nova_quiesce'):
            load('[quiesce]\n' + text, RPC_RESPONSE_TIMEOUT)

    def test_switched_off(self) -> None:
        self._assert_warned('mode = off', 'mode = off')
        self._assert_silent('mode = required')

    def test_no_guard(self) -> None:
        self._assert_warned('guard = off', 'guard = off')
        self._assert_silent('guard = preferred')

    def test_no_guard_but_its_socket(self) -> None:
        self._assert_warned('guard = off\nguard_socket = /run/guard',
                            'guard = off', 'guard_socket has no effect')

    def test_hung_tasks(self) -> None:
        self._assert_silent('max_freeze_time = 119')
        self._assert_warned('max_freeze_time = 120', 'max_freeze_time = 120')

    def test_windows_does_not_wait(self) -> None:
        self._assert_warned('max_freeze_time_windows = 11',
                            'max_freeze_time_windows = 11')
        self._assert_silent('max_freeze_time_windows = 11\n'
                            'max_freeze_time = 10\nfreeze_timeout = 10')

    def test_freeze_that_is_cut_short(self) -> None:
        self._assert_warned('max_freeze_time = 29', 'freeze_timeout = 30')
        self._assert_silent('max_freeze_time = 30')

    def test_nova_api_does_not_wait(self) -> None:
        self._assert_silent('freeze_timeout = 39')
        self._assert_warned(
            'freeze_timeout = 40',
            'glance_timeout + agent_timeout + freeze_timeout + thaw_timeout '
            '= 60: nova-api gives up')

    def test_nova_api_does_not_wait_for_a_glance_that_is_not_asked(
            self) -> None:
        self._assert_silent('properties_from = instance\nfreeze_timeout = 44')
        self._assert_warned(
            'properties_from = instance\nfreeze_timeout = 45',
            'agent_timeout + freeze_timeout + thaw_timeout = 60')

    def test_novas_limit_is_not_known(self) -> None:
        with self.assertNoLogs('nova_quiesce'):
            load('[quiesce]\nfreeze_timeout = 50')
