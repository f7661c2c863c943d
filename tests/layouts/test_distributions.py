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
import tarfile
import zipfile

import testtools

from tests.layouts import installs

PTH = 'nova_quiesce.pth'
PACKAGES = ('nova_quiesce', 'nova_quiesce_tempest_plugin')


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
        found = {name for name in self.names
                 if not name.startswith(f'{self.prefix}.dist-info/')}
        self.assertEqual(package_files() | {PTH} | shipped, found)

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
            found = {str(pathlib.Path(*pathlib.Path(name).parts[1:]))
                     for name in opened.getnames()}
        tracked = installs.run('git', 'ls-files', cwd=installs.checkout())
        # pbr leaves out what only git reads.
        self.assertEqual(
            set(), set(tracked.split()) - found - {'.gitignore'})
