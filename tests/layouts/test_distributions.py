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

"""What is shipped is whole, and nothing else is."""

import configparser
import pathlib
import sys
import tarfile
import zipfile

import testtools

from tests.layouts import installs

PTH = 'nova_quiesce.pth'
PACKAGES = ('nova_quiesce', 'nova_quiesce_tempest_plugin')
#: What pbr and setuptools add to the source.
GENERATED = {'AUTHORS', 'ChangeLog', 'PKG-INFO'}
EGG_INFO = 'nova_quiesce.egg-info/'


def package_files() -> set[str]:
    """List what the packages consist of in the checkout."""
    root = installs.checkout()
    return {str(path.relative_to(root))
            for package in PACKAGES
            for path in (root / package).rglob('*') if path.is_file()}


class WheelTest(testtools.TestCase):

    def setUp(self) -> None:
        super().setUp()
        opened = zipfile.ZipFile(installs.built()[0])
        self.addCleanup(opened.close)
        self.wheel = opened
        self.names = set(opened.namelist())
        self.prefix = '-'.join(installs.built()[0].name.split('-')[:2])

    def test_files(self) -> None:
        etc = f'{self.prefix}.data/data/etc/nova-quiesce/'
        shipped = {etc + 'nova-quiesce.conf.sample',
                   etc + 'nova-quiesce-guard.service'}
        about = {f'{self.prefix}.dist-info/' + name for name in (
            'METADATA', 'RECORD', 'WHEEL', 'entry_points.txt', 'pbr.json',
            'top_level.txt', 'licenses/AUTHORS', 'licenses/LICENSE')}
        self.assertEqual(package_files() | {PTH} | shipped | about,
                         self.names)

    def test_pth(self) -> None:
        content = self.wheel.read(PTH).decode('ascii')
        self.assertEqual((installs.ROOT / PTH).read_text(), content)
        # Python runs a line that begins with "import", and each one alone.
        code = [line for line in content.splitlines()
                if not line.startswith('#')]
        self.assertEqual(1, len(code))
        self.assertTrue(code[0].startswith('import '))
        # It has to be read after what makes an editable package importable.
        self.assertGreater(PTH, '__editable__.nova_quiesce.pth')

    def test_uninstall_knows_the_pth(self) -> None:
        record = self.wheel.read(f'{self.prefix}.dist-info/RECORD').decode()
        self.assertIn(PTH, [line.split(',')[0]
                            for line in record.splitlines()])

    def test_entry_points(self) -> None:
        parser = configparser.ConfigParser()
        parser.read_string(self.wheel.read(
            f'{self.prefix}.dist-info/entry_points.txt').decode())
        self.assertEqual(
            {'console_scripts', 'oslo.config.opts', 'tempest.test_plugins'},
            set(parser.sections()))


class SdistTest(testtools.TestCase):

    def test_files(self) -> None:
        with tarfile.open(installs.built()[1]) as opened:
            found = {str(pathlib.Path(*pathlib.Path(one.name).parts[1:]))
                     for one in opened if one.isfile()}
        tracked = installs.run('git', 'ls-files', cwd=installs.checkout())
        # pbr leaves out what only git reads.
        self.assertEqual(
            set(tracked.split()) - {'.gitignore'} | GENERATED,
            {name for name in found if not name.startswith(EGG_INFO)})


class IndexTest(testtools.TestCase):

    def test_would_be_taken(self) -> None:
        wheel, sdist = installs.built()
        told = installs.run(sys.executable, '-m', 'twine', '--no-color',
                            'check', '--strict', wheel, sdist)
        self.assertEqual(2, told.count('PASSED'), told)
