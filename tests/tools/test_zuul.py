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

"""What ``.zuul.yaml`` names is there."""

import configparser
import itertools
import pathlib
import re
import typing

import testtools
import yaml

from tests.tools import test_tempest_plugin

ROOT = pathlib.Path(__file__).parents[2]
DEVSTACK = ROOT / 'devstack'
#: Of openstack-zuul-jobs.
FUNCTIONAL = {'openstack-tox-functional', 'openstack-tox-functional-py311'}
#: Those, and DevStack's with tempest.
PARENTS = {'devstack-tempest', *FUNCTIONAL}
#: What the templates run with tox; those of Python versions are tox's own.
TEMPLATES = {
    'openstack-python3-jobs': ('pep8', 'py3'),
    'build-openstack-docs-pti': ('docs',),
    'build-release-notes-jobs-python3': (),
}


def tox_environments() -> set[str]:
    """List the environments that ``tox.ini`` has."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / 'tox.ini')
    names = {'py3'}
    for section in parser.sections():
        kind, _, name = section.partition(':')
        if kind == 'testenv' and name:
            names.update(expanded(name))
    return names


def expanded(name: str) -> list[str]:
    """Spell out what tox makes of ``{one,other}`` in a name."""
    parts = [part.split(',') for part in re.split(r'[{}]', name)]
    return [''.join(chosen) for chosen in itertools.product(*parts)]


def services_asked_for() -> set[str]:
    """List the services that the plugin's functions ask DevStack for."""
    return set(re.findall(r'is_service_enabled ([a-z-]+)',
                          (DEVSTACK / 'lib/nova-quiesce').read_text()))


class ZuulTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        content = yaml.safe_load((ROOT / '.zuul.yaml').read_text())
        self.jobs: dict[str, dict[str, typing.Any]] = {
            one['job']['name']: one['job'] for one in content if 'job' in one}
        self.devstack = self.jobs['nova-quiesce-devstack-tempest']
        self.project, = (one['project'] for one in content
                         if 'project' in one)

    def test_each_job_runs(self) -> None:
        for pipeline in ('check', 'gate'):
            self.assertEqual(set(self.jobs),
                             set(self.project[pipeline]['jobs']))

    def test_parents(self) -> None:
        self.assertEqual(PARENTS, {job['parent']
                                   for job in self.jobs.values()})

    def test_tox_environments(self) -> None:
        named = {job.get('vars', {}).get('tox_envlist', 'functional')
                 for job in self.jobs.values()
                 if job['parent'] in FUNCTIONAL}
        for template in self.project['templates']:
            named.update(TEMPLATES[template])
        self.assertEqual(set(), named - tox_environments())

    def test_expanded(self) -> None:
        self.assertEqual(['a-1-b', 'a-2-b'], expanded('a-{1,2}-b'))

    def test_tempest_runs_each_scenario(self) -> None:
        variables = self.devstack['vars']
        # tempest_test_regex has no effect in tempest's other environments.
        self.assertEqual('all', variables['tox_envlist'])
        regex = re.compile(variables['tempest_test_regex'])
        scenarios = test_tempest_plugin.scenarios()
        self.assertNotEqual([], scenarios)
        for scenario in scenarios:
            self.assertTrue(regex.search(scenario), scenario)

    def test_devstack_plugin_is_this_project(self) -> None:
        parser = configparser.ConfigParser()
        parser.read(ROOT / 'setup.cfg')
        name = parser['metadata']['name']
        plugins = self.devstack['vars']['devstack_plugins']
        self.assertEqual([name], list(plugins))
        # Zuul puts the project where DevStack looks for the plugin: there, a
        # directory has the last part of the one's name, and the other's name.
        project, = self.devstack['required-projects']
        self.assertEqual(f'https://{project}', plugins[name])
        self.assertEqual(name, project.rpartition('/')[2])

    def test_devstack_plugin_is_there(self) -> None:
        for name in ('override-defaults', 'settings', 'plugin.sh'):
            self.assertTrue((DEVSTACK / name).is_file(), name)
        sourced, = re.findall(r'^source .*/(lib/\S+)"$', (
            DEVSTACK / 'plugin.sh').read_text(), re.MULTILINE)
        self.assertTrue((DEVSTACK / sourced).is_file(), sourced)

    def test_devstack_has_what_the_plugin_asks_for(self) -> None:
        services = self.devstack['vars']['devstack_services']
        self.assertTrue(services['tempest'])
        needed = services_asked_for()
        self.assertEqual({'n-cpu', 'n-api', 'glance', 'cinder', 'c-api',
                          'tempest'}, needed)
        # Of Cinder, all but backups; what the job does not name is on.
        needed |= {'g-api', 'c-sch', 'c-vol'}
        self.assertEqual(set(), needed & {
            name for name, enabled in services.items() if not enabled})

    def test_services_of_its_own_are_the_plugins(self) -> None:
        services = self.devstack['vars']['devstack_services']
        enabled = {name for name, on in services.items() if on}
        self.assertEqual(set(), enabled - {'tempest', 'nova-quiesce-guard'})

    def test_tempest_gets_its_plugin_from_devstacks(self) -> None:
        # Zuul's way would install the driver, and DevStack's plugin would
        # then add the scenarios.
        self.assertNotIn('tempest_plugins', self.devstack['vars'])
        parser = configparser.ConfigParser()
        parser.read(ROOT / 'tempest-plugin/setup.cfg')
        self.assertIn('tempest.test_plugins', parser['options.entry_points'])

    def test_container_runs_the_same(self) -> None:
        text = (ROOT / 'tools/devstack-container').read_text()
        regex = self.devstack['vars']['tempest_test_regex']
        self.assertIn(f"SCENARIOS='{regex}'", text)
        self.assertIn('tox -e %s -- ' % self.devstack['vars']['tox_envlist'],
                      text)
