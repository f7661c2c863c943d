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

"""The table of Nova's releases, and what names them without reading it.

What fails here after a line was added to the table tells what else a release
takes.
"""

import configparser
import csv
import datetime
import importlib.metadata
import pathlib
import re
import sys
import tomllib
import typing
import unittest

from nova.virt.libvirt import driver as libvirt_driver
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import python as lab_python

from nova_quiesce.nova import releases

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / 'nova_quiesce/nova/releases.csv'
#: Of a Python version in a distribution's metadata.
CLASSIFIER = re.compile(r'Programming Language :: Python :: (3\.\d+)')
THREADING = 'OS_NOVA_DISABLE_EVENTLET_PATCHING='


class Release(typing.NamedTuple):
    """A line of the table."""

    series: str
    nova: int
    released: datetime.date
    pythons: tuple[str, ...]
    libvirt: str
    modes: tuple[str, ...]
    lab: bool


def read_table() -> list[Release]:
    """Read the table, from the oldest release to the newest one."""
    with TABLE.open() as lines:
        return [Release(
            row['Series'], int(row['Nova']),
            datetime.date.fromisoformat(row['Released']),
            tuple(row['Python'].split()), row['libvirt'],
            tuple(row['Concurrency modes'].split()),
            {'yes': True, 'no': False}[row['Lab']])
            for row in csv.DictReader(lines)]


def pythons() -> list[str]:
    """List the Pythons of all releases, the oldest one first."""
    return sorted({python for release in read_table()
                   for python in release.pythons},
                  key=lambda version: int(version.partition('.')[2]))


def read(path: str) -> str:
    """Read a file of the project."""
    return (ROOT / path).read_text()


def setup_cfg(directory: str = '') -> configparser.ConfigParser:
    """Read what describes a distribution."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / directory / 'setup.cfg')
    return parser


def pinned(path: str) -> str:
    """Tell which Nova a file of constraints has."""
    version, = re.findall(r'^nova==(\d+)\.', read(path), re.MULTILINE)
    return str(version)


class TableTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.table = read_table()

    def test_oldest_comes_first(self) -> None:
        first = self.table[0].nova
        self.assertEqual([first + index for index in range(len(self.table))],
                         [release.nova for release in self.table])
        for older, newer in zip(self.table, self.table[1:], strict=False):
            self.assertLess(older.released, newer.released)
            self.assertLess(older.series, newer.series)

    def test_modes(self) -> None:
        for release in self.table:
            self.assertLessEqual(set(release.modes),
                                 {'eventlet', 'threading'})

    def test_driver_reads_it(self) -> None:
        oldest, newest = self.table[0], self.table[-1]
        self.assertEqual((oldest.nova, newest.nova),
                         (releases.OLDEST, releases.NEWEST))
        self.assertEqual(
            f'Nova {oldest.nova} ({oldest.series}) to {newest.nova} '
            f'({newest.series})', releases.supported())

    def test_line_of_the_installed_nova(self) -> None:
        # Each release has a tox environment in which this runs.
        about = importlib.metadata.metadata('nova')
        release, = (one for one in self.table
                    if one.nova == int(about['Version'].partition('.')[0]))
        self.assertEqual(
            tuple(map(int, release.libvirt.split('.'))),
            libvirt_driver.MIN_LIBVIRT_VERSION)
        named = CLASSIFIER.findall('\n'.join(
            about.get_all('Classifier') or ()))
        self.assertEqual([one for one in named if one in pythons()],
                         [*release.pythons])


class ToxTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        *self.older, self.newest = read_table()
        self.tox = configparser.ConfigParser(interpolation=None)
        self.tox.read(ROOT / 'tox.ini')

    def test_older_releases(self) -> None:
        name = 'testenv:nova-{%s}' % ','.join(
            release.series for release in self.older)
        self.assertIn(name, self.tox.sections())
        # Without a word, their environment has eventlet's mode.
        self.assertIn(THREADING + 'False', re.sub(
            ' *= *', '=', self.tox['release']['set_env']))
        for release in self.older:
            self.assertEqual(
                {'eventlet'} | self._modes(name, f'{release.series}: '),
                set(release.modes), release.series)

    def test_newest_release(self) -> None:
        name = f'testenv:nova-{self.newest.series}'
        self.assertIn(name, self.tox.sections())
        self.assertEqual({'threading'} | self._modes(name, ''),
                         set(self.newest.modes))

    def _modes(self, section: str, prefix: str) -> set[str]:
        """The modes, besides the environment's own, that both kinds run in."""
        lines = [line.removeprefix(prefix) for line in
                 self.tox[section]['commands'].splitlines()
                 if line.startswith(prefix + 'env ')]
        modes = {'True': 'threading', 'False': 'eventlet'}
        found = [(modes[line.partition(THREADING)[2].split()[0]], kind)
                 for line in lines for kind in ('unit', 'functional')
                 if '{[release]%s}' % kind in line]
        self.assertEqual(len(lines), len(found))
        self.assertEqual({(mode, kind) for mode, _ in found
                          for kind in ('unit', 'functional')}, set(found))
        return {mode for mode, _ in found}

    def test_each_name_has_an_environment(self) -> None:
        known = {release.series for release in (*self.older, self.newest)}
        for path in ('tox.ini', '.zuul.yaml', 'tools/test',
                     'doc/source/contributor/releases.rst'):
            self.assertEqual(set(), set(re.findall(
                r'nova-(20\d\d\.\d)', read(path))) - known, path)


class ConstraintsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        *self.older, self.newest = read_table()

    def test_older_releases(self) -> None:
        # If one is missing, tools/pin-releases makes it.
        self.assertEqual(
            {f'nova-{release.series}.txt' for release in self.older},
            {path.name for path in (ROOT / 'constraints').iterdir()})
        for release in self.older:
            path = f'constraints/nova-{release.series}.txt'
            self.assertEqual(str(release.nova), pinned(path), path)
            day = release.released + datetime.timedelta(days=1)
            self.assertTrue(read(path).startswith(
                f'# Nova {release.nova} ({release.series}) with what PyPI '
                f'had on {day};'), path)

    def test_newest_release(self) -> None:
        # "pip freeze" makes them, of environments with the new release.
        for path in ('upper-constraints.txt',
                     'tools/quiescelab/constraints.txt'):
            self.assertEqual(str(self.newest.nova), pinned(path), path)
        self.assertIn(f'with Nova {self.newest.nova} ({self.newest.series})',
                      read('upper-constraints.txt'))

    def test_oldest_release(self) -> None:
        self.assertIn(f'\nnova>={self.older[0].nova}.0.0 ',
                      read('requirements.txt'))


class PythonTest(unittest.TestCase):

    def test_distributions(self) -> None:
        for directory in ('', 'tempest-plugin'):
            about = setup_cfg(directory)
            self.assertEqual(
                pythons(), CLASSIFIER.findall(about['metadata']['classifiers']
                                              ), directory)
            self.assertEqual('>=' + pythons()[0],
                             about['options']['python_requires'], directory)

    def test_checks_are_for_the_oldest(self) -> None:
        settings = tomllib.loads(read('pyproject.toml'))['tool']
        oldest = pythons()[0]
        self.assertEqual(oldest, settings['mypy']['python_version'])
        self.assertEqual('py' + oldest.replace('.', ''),
                         settings['ruff']['target-version'])

    def test_what_people_are_told(self) -> None:
        told = f'{pythons()[0]} or later'
        for path in ('README.rst', 'doc/source/admin/index.rst'):
            self.assertIn(told, ' '.join(read(path).split()), path)
        self.assertIn(f'it takes {pythons()[0]},', read('tools/lab'))


class HeldTest(unittest.TestCase):
    """Other places that name releases."""

    def setUp(self) -> None:
        super().setUp()
        self.table = read_table()

    def test_zuul_runs_the_oldest(self) -> None:
        oldest = self.table[0]
        name = f'nova-{oldest.series}'
        job, = (one['job'] for one in yaml.safe_load(read('.zuul.yaml'))
                if name in one.get('job', {}).get('name', ''))
        self.assertEqual(f'nova-quiesce-functional-{name}', job['name'])
        self.assertEqual(name, job['vars']['tox_envlist'])
        python = job['parent'].rpartition('-py')[2]
        self.assertIn(python, [one.replace('.', '')
                               for one in oldest.pythons])

    def test_readme(self) -> None:
        self.assertIn(f'{releases.supported()} are supported',
                      ' '.join(read('README.rst').split()))

    def test_devstacks_branch(self) -> None:
        branch, = re.findall(r'^BRANCH=stable/(.*)$',
                             read('tools/devstack-container'), re.MULTILINE)
        self.assertIn(branch, [release.series for release in self.table])

    def test_lab(self) -> None:
        *older, newest = (one.series for one in self.table if one.lab)
        self.assertEqual(self.table[-1].series, newest)
        self.assertEqual((*older,), lab_python.NOVA_RELEASES)
