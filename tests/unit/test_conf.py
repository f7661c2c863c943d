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

"""The options: their limits, and what a wrong one says."""

import pathlib
import tempfile
import unittest

from oslo_config import cfg
from oslo_config import generator

from nova_quiesce import conf

SAMPLE = (pathlib.Path(__file__).parents[2] /
          'etc/nova-quiesce/nova-quiesce.conf.sample')


def load(text: str) -> cfg.ConfigOpts:
    """A configuration read from a file with this text."""
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write(text)
        file.flush()
        options = cfg.ConfigOpts()
        conf.register_opts(options)
        options([], default_config_files=[file.name])
        conf.validate(options)
        return options


class OptionsTest(unittest.TestCase):

    def test_defaults(self) -> None:
        options = load('').quiesce
        # A remote call of nova-api's has to end within 60 s.
        self.assertLess(options.agent_timeout + options.freeze_timeout +
                        options.thaw_timeout, 60)
        # A guest's kernel complains of a hung task after 120 s.
        self.assertLess(options.max_freeze_time, 120)

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
