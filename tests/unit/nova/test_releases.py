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

"""Which Nova the driver starts with."""

import importlib
from importlib import metadata
import sys
from unittest import mock

import fixtures
from nova.privsep import path as privileged
from nova.virt import driver as nova_driver
from nova.virt.libvirt import driver as libvirt_driver

from nova_quiesce import driver
from nova_quiesce.nova import releases

SUPPORTED = releases.supported()
NEWER = '%d.0.0' % (releases.NEWEST + 1)


class _Base(fixtures.TestWithFixtures):

    def _pretend(self, version: str) -> None:
        self.useFixture(fixtures.MonkeyPatch(
            'importlib.metadata.version', lambda name: version))

    def _replace(self, name: str, new: object) -> None:
        # Some releases of MonkeyPatch hide the arguments.
        self.useFixture(fixtures.MockPatchObject(
            libvirt_driver.LibvirtDriver, name, new))

    def _refusal(self) -> str:
        with self.assertRaises(releases.UnsupportedNova) as caught:
            releases.check()
        told = str(caught.exception)
        self.assertIn(SUPPORTED, told)
        self.assertIn('compute_driver = libvirt.LibvirtDriver', told)
        return told


class ReleasesTest(_Base):

    def test_installed_one_is_supported(self) -> None:
        version = metadata.version('nova')
        self.assertEqual(version, releases.installed())
        release = int(version.split('.')[0])
        self.assertLessEqual(releases.OLDEST, release)
        self.assertGreaterEqual(releases.NEWEST, release)
        self.assertEqual([], list(releases.find_misfits()))

    def test_loads(self) -> None:
        self.assertIs(driver.QuiesceLibvirtDriver, releases.load())

    def test_too_old(self) -> None:
        self._pretend('28.3.1')
        told = self._refusal()
        self.assertIn('28.3.1', told)
        self.assertIn('too old', told)

    def test_too_old_for_its_modules(self) -> None:
        # Nothing of it is looked at.
        self._pretend('20.0.0')
        self._replace('quiesce', None)
        self.assertIn('too old', self._refusal())

    def test_newer(self) -> None:
        self._pretend(NEWER + '.dev7')
        with self.assertLogs('nova_quiesce.nova.releases', 'WARNING') as logs:
            releases.check()
        self.assertIn(NEWER + '.dev7', logs.output[0])
        self.assertIn(SUPPORTED, logs.output[0])

    def test_newer_that_does_not_fit(self) -> None:
        self._pretend(NEWER)
        self._replace('suspend', lambda self, instance: None)
        told = self._refusal()
        self.assertIn(NEWER, told)
        self.assertIn('LibvirtDriver.suspend takes self, instance instead of '
                      'self, context, instance', told)

    def test_version_that_is_not_known(self) -> None:
        for version in (metadata.PackageNotFoundError, ['master']):
            with mock.patch('importlib.metadata.version', autospec=True,
                            side_effect=version):
                releases.check()

    def test_refusal_without_a_version(self) -> None:
        self.useFixture(fixtures.MockPatch(
            'importlib.metadata.version',
            side_effect=metadata.PackageNotFoundError))
        self._replace('pause', lambda self: None)
        self.assertIn('of an unknown version', self._refusal())


class MisfitTest(_Base):

    def test_missing_method(self) -> None:
        with mock.patch.object(libvirt_driver.LibvirtDriver,
                               '_live_snapshot', autospec=True):
            del libvirt_driver.LibvirtDriver._live_snapshot
            self.assertIn('LibvirtDriver._live_snapshot is missing',
                          self._refusal())

    def test_method_with_more_arguments(self) -> None:
        # Nova would pass it on, and the override would not take it.
        self._replace('pause', lambda self, instance, force=False: None)
        self.assertIn('LibvirtDriver.pause takes self, instance, force '
                      'instead of self, instance', self._refusal())

    def test_more_arguments_where_all_are_passed_on(self) -> None:
        self._replace('destroy', lambda self, context, instance, network_info,
                      block_device_info=None, force=False: None)
        releases.check()

    def test_missing_function(self) -> None:
        with mock.patch.object(privileged, 'chown', autospec=True):
            del privileged.chown
            self.assertIn('nova.privsep.path:chown is missing',
                          self._refusal())

    def test_missing_module(self) -> None:
        with mock.patch.dict(sys.modules, {'nova.storage.rbd_utils': None}):
            self.assertIn('nova.storage.rbd_utils:RBDVolumeProxy.__init__ is '
                          'missing', self._refusal())

    def test_function_with_other_arguments(self) -> None:
        with mock.patch.object(privileged, 'chown', lambda path, user: None):
            self.assertIn('nova.privsep.path:chown takes path, user instead '
                          'of path, uid, gid', self._refusal())

    def test_what_nova_itself_misses_is_told_as_it_is(self) -> None:
        error = ModuleNotFoundError("No module named 'libvirt'",
                                    name='libvirt')
        with mock.patch.object(importlib, 'import_module', autospec=True,
                               side_effect=error):
            with self.assertRaises(ModuleNotFoundError) as caught:
                releases.check()
        self.assertIs(error, caught.exception)


class StartTest(_Base):
    """What nova-compute does about it."""

    def test_refused(self) -> None:
        self._pretend('28.3.1')
        with mock.patch.dict(sys.modules), self.assertLogs(
                'nova.virt.driver', 'ERROR') as logs:
            sys.modules.pop('nova.virt.quiesce', None)
            with self.assertRaises(SystemExit) as caught:
                nova_driver.load_compute_driver(
                    None, 'quiesce.QuiesceLibvirtDriver')
        self.assertEqual(1, caught.exception.code)
        self.assertIn('nova-quiesce does not work with the Nova of this '
                      'host, which is 28.3.1', logs.output[0])
        self.assertIn(SUPPORTED, logs.output[0])
