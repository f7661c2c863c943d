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

"""The driver loads wherever Nova lies, and leaves no trace."""

import json
import pathlib

import testtools

from tests.layouts import installs

PROBE = pathlib.Path(__file__).with_name('probe.py')
CONFIG = """
[DEFAULT]
compute_driver = quiesce.QuiesceLibvirtDriver
state_path = {state}
[libvirt]
virt_type = qemu
"""


class Layout(testtools.TestCase):
    """What is asked of each layout.

    :cvar environment: where this package is installed
    :cvar config: nova-compute's configuration file
    :cvar nova: the directory that Nova is to be imported from
    """

    environment: installs.Environment
    config: pathlib.Path
    nova: pathlib.Path

    @classmethod
    def make_environment(cls, name: str) -> None:
        """Make an environment that has all but Nova and this package.

        :param name: the name of its directory
        """
        cls.environment = installs.Environment(name)
        cls.environment.add_path(installs.dependencies())
        cls.config = cls.environment.root / 'nova.conf'
        cls.config.write_text(CONFIG.format(state=cls.environment.root))

    def assert_installs(self, *how: str | pathlib.Path) -> None:
        """Install this package, load the driver, uninstall the package.

        :param how: what pip is told to install
        """
        files = self.environment.files()
        modules = self.environment.modules()
        self.environment.install(*how)
        self.environment.pip('check')
        self.assert_loads()
        self.assert_start_is_light(self.environment.modules() - modules)
        self.environment.pip('uninstall', '--yes', 'nova-quiesce')
        self.assertEqual(files, self.environment.files())
        self.assertEqual(
            [], list(self.environment.root.rglob('*nova[-_]quiesce*')))
        self.assert_fails()

    def assert_loads(self) -> None:
        """Load the driver, as nova-compute does."""
        told = json.loads(self.environment.run(
            PROBE, '--config-file', self.config))
        self.assertEqual('QuiesceLibvirtDriver', told['class'])
        self.assertIn(
            'nova_quiesce.driver.QuiesceLibvirtDriver', told['bases'])
        self.assertIn('nova.virt.libvirt.driver.LibvirtDriver', told['bases'])
        self.assertEqual('compute_driver.py', pathlib.Path(told['alias']).name)
        self.assertEqual(self.nova / 'nova' / '__init__.py',
                         pathlib.Path(told['nova']))
        self.assertFalse(told['eventlet'])

    def assert_start_is_light(self, added: set[str]) -> None:
        """Check what each Python process loads because of this package.

        :param added: the modules
        """
        ours = {name for name in added if not name.startswith('__editable__')}
        self.assertEqual({'nova_quiesce', 'nova_quiesce.nova',
                          'nova_quiesce.nova.alias'}, ours)

    def assert_fails(self) -> None:
        """Check that the driver came from this package, and Nova is well."""
        done = self.environment.try_to_run(
            PROBE, '--config-file', self.config)
        self.assertEqual(1, done.returncode)
        self.assertIn("No module named 'nova.virt.quiesce'", done.stderr)


class OneVirtualenvTest(Layout):
    """Nova and this package in one directory."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.make_environment('one')
        cls.environment.install('nova')
        cls.nova = cls.environment.site_packages

    def assert_loads(self) -> None:
        """Load the driver, and look for the data files beside Nova's."""
        super().assert_loads()
        etc = self.environment.root / 'etc'
        self.assertTrue((etc / 'nova' / 'api-paste.ini').exists())
        self.assertEqual(
            {'nova-quiesce.conf.sample', 'nova-quiesce-guard.service'},
            {path.name for path in (etc / 'nova-quiesce').iterdir()})

    def test_wheel(self) -> None:
        self.assert_installs(installs.built()[0])

    def test_sdist(self) -> None:
        self.assert_installs(installs.built()[1])


class EditableNovaTest(Layout):
    """Nova in its source directory, as DevStack has it."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.make_environment('editable')
        cls.nova = installs.nova_source()
        cls.environment.install('--editable', cls.nova)

    def test_wheel(self) -> None:
        self.assert_installs(installs.built()[0])

    def test_editable(self) -> None:
        self.assert_installs('--editable', installs.checkout())


class DistributionTest(Layout):
    """Nova in the distribution's directory, this package in the local one."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.make_environment('distribution')
        cls.nova = installs.scratch() / 'dist-packages'
        cls.environment.install('--target', cls.nova, '--no-deps', 'nova')
        cls.environment.add_site(cls.nova)

    def test_wheel(self) -> None:
        self.assert_installs(installs.built()[0])
