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

from tests.unit import test_tempest_plugin

ROOT = pathlib.Path(__file__).parents[2]
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


class ZuulTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        content = yaml.safe_load((ROOT / '.zuul.yaml').read_text())
        self.jobs: dict[str, dict[str, typing.Any]] = {
            one['job']['name']: one['job'] for one in content if 'job' in one}
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
        variables = self.jobs['nova-quiesce-devstack-tempest']['vars']
        # tempest_test_regex has no effect in tempest's other environments.
        self.assertEqual('all', variables['tox_envlist'])
        regex = re.compile(variables['tempest_test_regex'])
        scenarios = test_tempest_plugin.scenarios()
        self.assertNotEqual([], scenarios)
        for scenario in scenarios:
            self.assertTrue(regex.search(scenario), scenario)

    def test_plugins_are_this_project(self) -> None:
        parser = configparser.ConfigParser()
        parser.read(ROOT / 'setup.cfg')
        name = parser['metadata']['name']
        variables = self.jobs['nova-quiesce-devstack-tempest']['vars']
        self.assertEqual([name], variables['tempest_plugins'])
        self.assertEqual([name], list(variables['devstack_plugins']))
        self.assertIn('tempest.test_plugins', parser['options.entry_points'])
