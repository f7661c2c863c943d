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

import importlib
from importlib import machinery
import pathlib
import shutil
import subprocess
import sys
import tempfile

import testtools

from nova_quiesce import driver
from nova_quiesce.nova import alias

ROOT = pathlib.Path(__file__).parents[3]
PTH = ROOT / 'nova_quiesce.pth'


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that has loaded nothing but itself."""
    return subprocess.run([sys.executable, '-I', '-S', '-c', code],
                          capture_output=True, text=True, check=True)


class FinderTest(testtools.TestCase):

    def test_answers_for_the_alias(self) -> None:
        spec = alias.Finder.find_spec(alias.NAME)
        assert spec is not None and spec.origin is not None
        self.assertEqual(alias.NAME, spec.name)
        self.assertTrue(spec.has_location)
        self.assertTrue(
            pathlib.Path(spec.origin).samefile(
                ROOT / 'nova_quiesce' / 'nova' / 'compute_driver.py'))

    def test_answers_for_nothing_else(self) -> None:
        for name in ('nova', 'nova.virt', 'quiesce', 'nova.virt.quiesced',
                     'nova.virt.quiesce.driver', 'nova_quiesce'):
            self.assertIsNone(alias.Finder.find_spec(name), name)

    def test_is_registered_once_and_asked_late(self) -> None:
        self.assertEqual(1, sys.meta_path.count(alias.Finder))
        self.assertGreater(sys.meta_path.index(alias.Finder),
                           sys.meta_path.index(machinery.PathFinder))

    def test_nova_finds_the_driver(self) -> None:
        module = importlib.import_module('nova.virt.quiesce')
        self.assertIs(driver.QuiesceLibvirtDriver,
                      module.QuiesceLibvirtDriver)


class StartUpTest(testtools.TestCase):

    def test_loads_nothing_else(self) -> None:
        done = run(f'import sys; sys.path.append({str(ROOT)!r})\n'
                   'before = set(sys.modules)\n'
                   'import nova_quiesce.nova.alias\n'
                   'print(*sorted(set(sys.modules) - before))')
        self.assertEqual(
            ['nova_quiesce', 'nova_quiesce.nova', 'nova_quiesce.nova.alias'],
            done.stdout.split())

    def test_package_that_was_deleted_by_hand(self) -> None:
        site_dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, site_dir)
        shutil.copy(PTH, site_dir)
        done = run(f'import site; site.addsitedir({site_dir!r})')
        self.assertEqual('', done.stdout + done.stderr)
