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
PACKAGE = 'nova_quiesce'
#: What pbr and setuptools add to the source.
GENERATED = {'AUTHORS', 'ChangeLog', 'PKG-INFO'}
EGG_INFO = 'nova_quiesce.egg-info/'
#: Where the other distribution is.
PLUGIN = 'tempest-plugin'


def package_files(package: str, directory: str = '') -> set[str]:
    """List what a package consists of in the checkout.

    :param package: its name
    :param directory: where its distribution is
    :returns: paths below that
    """
    root = installs.checkout() / directory
    return {str(path.relative_to(root))
            for path in (root / package).rglob('*') if path.is_file()}


def tracked(directory: str = '') -> set[str]:
    """List what git knows of a directory of the checkout."""
    listed = installs.run('git', 'ls-files',
                          cwd=installs.checkout() / directory)
    return set(listed.split())


def in_sdist(sdist: pathlib.Path) -> set[str]:
    """List the files of an sdist, by their paths in the directory."""
    with tarfile.open(sdist) as opened:
        return {str(pathlib.Path(*pathlib.Path(one.name).parts[1:]))
                for one in opened if one.isfile()}


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
        self.assertEqual(package_files(PACKAGE) | {PTH} | shipped | about,
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
        self.assertEqual({'console_scripts', 'oslo.config.opts'},
                         set(parser.sections()))


class SdistTest(testtools.TestCase):

    def test_files(self) -> None:
        # pbr leaves out what only git reads.
        self.assertEqual(
            tracked() - {'.gitignore'} | GENERATED,
            {name for name in in_sdist(installs.built()[1])
             if not name.startswith(EGG_INFO)})


class TempestPluginTest(testtools.TestCase):
    """The scenarios, a distribution of their own."""

    PACKAGE = 'nova_quiesce_tempest_plugin'

    def test_wheel(self) -> None:
        wheel = installs.built(PLUGIN)[0]
        with zipfile.ZipFile(wheel) as opened:
            names = {name for name in opened.namelist()
                     if '.dist-info/' not in name}
        self.assertEqual(package_files(self.PACKAGE, PLUGIN), names)

    def test_sdist(self) -> None:
        self.assertEqual(
            tracked(PLUGIN) | GENERATED,
            {name for name in in_sdist(installs.built(PLUGIN)[1])
             if '.egg-info/' not in name})

    def test_version_is_the_drivers(self) -> None:
        driver, plugin = (installs.built(directory)[0].name.split('-')[1]
                          for directory in ('', PLUGIN))
        self.assertEqual(driver, plugin)

    def test_brings_no_nova(self) -> None:
        environment = installs.Environment('tempest')
        environment.install(installs.built(PLUGIN)[0])
        environment.pip('check')
        self.assertIn('%s.plugin:' % self.PACKAGE, environment.run(
            '-m', 'tempest.cmd.main', 'list-plugins'))
        for name in ('nova', 'nova_quiesce', 'libvirt'):
            self.assertEqual([], [*environment.site_packages.glob(
                '%s[.-]*' % name), *environment.site_packages.glob(name)])


class IndexTest(testtools.TestCase):

    def test_would_be_taken(self) -> None:
        told = installs.run(sys.executable, '-m', 'twine', '--no-color',
                            'check', '--strict', *installs.built(),
                            *installs.built(PLUGIN))
        self.assertEqual(4, told.count('PASSED'), told)
