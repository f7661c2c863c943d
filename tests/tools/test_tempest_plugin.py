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

"""The plugin for tempest, as far as it needs no cloud."""

import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tempfile

from oslo_config import cfg
from tempest.test_discover import plugins
import testtools

from nova_quiesce_tempest_plugin import config
from nova_quiesce_tempest_plugin import plugin

PACKAGE = 'nova_quiesce_tempest_plugin'
ROOT = pathlib.Path(__file__).parents[2]
DIRECTORY = ROOT / 'tempest-plugin'
LISTING = """
from nova_quiesce_tempest_plugin import plugin
import unittest
def ids(suite):
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from ids(one)
        else:
            yield one.id()
tests, top = plugin.QuiesceTempestPlugin().load_tests()
print(*ids(unittest.TestLoader().discover(tests, top_level_dir=top)),
      sep='\\n')
"""


def scenarios() -> list[str]:
    """List the scenarios by their full names, as tempest does."""
    # Tempest logs to the standard output, too.
    return [line for line in run(LISTING).splitlines()
            if line.startswith(PACKAGE)]


def run(program: str) -> str:
    """Run a program in a Python of its own: tempest sets up its logging.

    :param program: the program
    :returns: what it printed
    """
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [sys.executable, '-c', program], text=True, check=True,
            stdout=subprocess.PIPE, cwd=home,
            env={'HOME': home,
                 'PYTHONPATH': '%s:%s' % (ROOT, DIRECTORY)}).stdout


class PluginTest(testtools.TestCase):

    def test_is_found_by_its_entry_point(self) -> None:
        found = {name: type(one) for name, one in
                 plugins.TempestTestPluginManager().ext_plugins.map(
                     lambda extension: (extension.name, extension.obj))}
        self.assertIs(plugin.QuiesceTempestPlugin, found['nova_quiesce'])

    def test_distribution_is_its_own(self) -> None:
        declared = importlib.metadata.entry_points(
            group='tempest.test_plugins')['nova_quiesce']
        assert declared.dist is not None
        self.assertEqual('nova-quiesce-tempest-plugin', declared.dist.name)
        # What brings Nova is not among them.
        needed = declared.dist.requires or ()
        self.assertEqual({'oslo.config', 'tempest'},
                         {re.split('[<>=]', one)[0] for one in needed})

    def test_same_pythons_as_the_driver(self) -> None:
        of_driver, of_plugin = (
            [line for line in (root / 'setup.cfg').read_text().splitlines()
             if 'python' in line.lower()] for root in (ROOT, DIRECTORY))
        self.assertEqual(of_driver, of_plugin)

    def test_options(self) -> None:
        conf = cfg.ConfigOpts()
        plugin.QuiesceTempestPlugin().register_opts(conf)
        conf([])
        listed = dict(plugin.QuiesceTempestPlugin().get_opt_lists())
        self.assertEqual({'quiesce'}, set(listed))
        for option in listed['quiesce']:
            self.assertIn(option.name, conf.quiesce)
            self.assertTrue(option.help, option.name)

    def test_each_option_is_documented(self) -> None:
        text = (ROOT / 'doc/source/admin/tempest.rst').read_text()
        for option in config.OPTS:
            self.assertIn('\n``%s``' % option.name, text.replace(
                ', ``', '\n``'))

    def test_no_default_stands_for_a_cloud(self) -> None:
        unset = {option.name for option in config.OPTS
                 if option.default is None}
        self.assertEqual({'image_ref', 'image_without_agent_ref',
                          'flavor_ref'}, unset)

    def test_scenarios(self) -> None:
        cases = {name.rpartition('[')[0].removeprefix(
            '%s.tests.scenario.' % PACKAGE) for name in scenarios()}
        tests = ('test_required', 'test_preferred',
                 'test_required_without_agent',
                 'test_preferred_without_agent')
        self.assertEqual(
            {'%s.%s' % (where, test) for test in tests for where in (
                'test_image_backed.ImageBackedTest',
                'test_volume_backed.VolumeBackedTest')}, cases)

    def test_each_scenario_has_an_id_of_its_own(self) -> None:
        ids = [tag for name in scenarios()
               for tag in name.rpartition('[')[2].rstrip(']').split(',')
               if tag.startswith('id-')]
        self.assertEqual(len(scenarios()), len(set(ids)))

    def test_needs_no_nova(self) -> None:
        loaded = run(LISTING + "import sys; print('modules:', *sys.modules)")
        modules = set(loaded.rpartition('modules:')[2].split())
        self.assertIn('%s.tests.scenario.test_image_backed' % PACKAGE,
                      modules)
        self.assertEqual(set(), modules & {
            'nova', 'nova_quiesce.driver', 'libvirt'})

    def test_driver_needs_no_tempest(self) -> None:
        loaded = run('import sys, nova_quiesce.driver; print(*sys.modules)')
        modules = set(loaded.split())
        self.assertIn('nova_quiesce.driver', modules)
        self.assertEqual(set(), modules & {'tempest', PACKAGE})
