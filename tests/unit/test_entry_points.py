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

import importlib.metadata
import pathlib
import subprocess
import sysconfig
import tempfile

from nova.conf import paths
from oslo_config import cfg
import testtools

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = pathlib.Path(sysconfig.get_path('scripts'))
ETC = ROOT / 'etc' / 'nova-quiesce'


def entry_points(group: str) -> importlib.metadata.EntryPoints:
    """List this distribution's entry points of one group."""
    declared = importlib.metadata.distribution('nova-quiesce').entry_points
    return declared.select(group=group)


class EntryPointsTest(testtools.TestCase):

    def test_groups(self) -> None:
        declared = importlib.metadata.distribution('nova-quiesce').entry_points
        self.assertEqual({'oslo.config.opts', 'console_scripts'},
                         declared.groups)

    def test_each_loads(self) -> None:
        declared = importlib.metadata.distribution('nova-quiesce').entry_points
        for entry_point in declared:
            self.assertTrue(callable(entry_point.load()), entry_point)

    def test_options(self) -> None:
        conf = cfg.ConfigOpts()
        # A default of ours refers to one of Nova's.
        paths.register_opts(conf)
        for entry_point in entry_points('oslo.config.opts'):
            for group, options in entry_point.load()():
                conf.register_opts(options, group)
        conf([])
        self.assertTrue(dict(conf.quiesce))

    def test_sample_is_up_to_date(self) -> None:
        with tempfile.NamedTemporaryFile(mode='r') as written:
            subprocess.run(
                [SCRIPTS / 'oslo-config-generator', '--config-file',
                 ETC / 'config-generator.conf', '--output-file',
                 written.name], check=True)
            self.assertEqual(
                written.read(), (ETC / 'nova-quiesce.conf.sample').read_text(),
                'run "tox -e genconfig"')

    def test_console_scripts(self) -> None:
        for entry_point in entry_points('console_scripts'):
            done = subprocess.run(
                [SCRIPTS / entry_point.name, '--help'],
                capture_output=True, text=True, check=True)
            self.assertIn(entry_point.name, done.stdout)
