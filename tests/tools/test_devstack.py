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

"""DevStack's plugin, phase by phase, in a shell like DevStack's."""

import configparser
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from nova.conf import compute

from nova_quiesce import consistency

ROOT = pathlib.Path(__file__).parents[2]
DOUBLES = pathlib.Path(__file__).with_name('devstack_doubles.sh')
# What tools/devstack-container record wrote.
RECORDED = pathlib.Path(__file__).with_name('devstack_calls.txt')
PHASE = """
set -o errexit -o xtrace
source {root}/devstack/override-defaults
source {doubles}
source {root}/devstack/settings
source {root}/devstack/plugin.sh {phase}
echo "$PWD, $- and $#"
echo "TEMPEST_PLUGINS=${{TEMPEST_PLUGINS:-}}."
"""
GUARD = 'nova-quiesce-guard'
ALL_IN_ONE = 'key,mysql,g-api,n-api,n-cpu'
WITH_TEMPEST = f'{ALL_IN_ONE},c-api,tempest'
NON_INHERITABLE = 'non_inheritable_image_properties'
CORE = 'glance_core_properties'
CINDERS_DEFAULT = ['checksum', 'container_format', 'disk_format', 'image_name',
                   'image_id', 'min_disk', 'min_ram', 'name', 'size']
RECORD = {'quiesce_consistency', 'quiesce_reason', 'quiesce_reason_code',
          'quiesce_frozen_at', 'quiesce_window_ms', 'quiesce_filesystems'}
OPENSTACK = ('openstack --os-cloud=devstack-admin '
             '--os-region-name=RegionOne')
PROPERTIES = ('--property hw_qemu_guest_agent=yes '
              '--property os_require_quiesce=yes')


def novas_default() -> list[str]:
    """What the installed Nova lets no image inherit."""
    return list(next(option.default for option in compute.compute_opts
                     if option.name == NON_INHERITABLE))


class DevStack(unittest.TestCase):
    """A DevStack that notes what the plugin does."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.sandbox = pathlib.Path(directory.name)
        self.data = self.sandbox / 'opt/stack/data'
        (self.sandbox / 'etc/systemd/system').mkdir(parents=True)

    def phase(self, phase: str, **variables: str) -> list[str]:
        """Run one phase.

        :param phase: how DevStack calls it
        :param variables: what local.conf has set
        :returns: DevStack's functions that were called, with arguments
        """
        done = self.try_phase(phase, variables)
        self.assertEqual(0, done.returncode, done.stderr)
        return self.calls()

    def try_phase(self, phase: str, variables: dict[str, str]
                  ) -> subprocess.CompletedProcess[str]:
        """Run one phase, which may fail."""
        self._calls = self.sandbox / 'calls'
        self._calls.write_text('')
        script = PHASE.format(doubles=DOUBLES, root=ROOT, phase=phase)
        return subprocess.run(
            ['bash', '-c', script], capture_output=True, text=True,
            cwd=self.sandbox, check=False,
            env={'PATH': os.environ['PATH'], 'CALLS': str(self._calls),
                 'SANDBOX': str(self.sandbox), **variables})

    def calls(self) -> list[str]:
        """:returns: what was called in the last phase."""
        return self._calls.read_text().splitlines()

    def read(self, path: str) -> dict[str, dict[str, str]]:
        """Read an ini file of the sandbox."""
        parser = configparser.ConfigParser(
            interpolation=None, default_section='')
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(self.sandbox / path)
        return {name: dict(parser[name]) for name in parser.sections()}


class RecordedTest(DevStack):
    """The doubles are called as DevStack was in a real run."""

    def test_each_phase(self) -> None:
        recorded = self._recorded()
        self.assertEqual(
            {'stack pre-install', 'stack install', 'stack post-config',
             'stack extra', 'stack test-config', 'unstack', 'clean'},
            set(recorded))
        for phase, expected in recorded.items():
            with self.subTest(phase):
                calls = self.phase(
                    phase, ENABLED_SERVICES=f'{WITH_TEMPEST},{GUARD}')
                self.assertEqual(expected, [self._as_there(call)
                                            for call in calls])

    def _recorded(self) -> dict[str, list[str]]:
        phases: dict[str, list[str]] = {}
        for line in RECORDED.read_text().splitlines():
            if line.startswith('['):
                calls = phases[line.strip('[]')] = []
            else:
                calls.append(line)
        return phases

    def _as_there(self, call: str) -> str:
        there = call.replace(str(ROOT), '/opt/stack/nova-quiesce').replace(
            str(self.sandbox), '')
        return re.sub(r'ID-of-\S+', 'UUID', there)


class PreInstallTest(DevStack):

    def test_packages_of_the_build(self) -> None:
        call, = self.phase('stack pre-install')
        self.assertTrue(call.startswith('install_package cpio '), call)
        self.assertIn(' syslinux', call)

    def test_own_image_needs_none(self) -> None:
        for variables in ({'NOVA_QUIESCE_IMAGE_FILE': '/images/own.qcow2'},
                          {'NOVA_QUIESCE_BUILD_IMAGE': 'False'},
                          {'ENABLED_SERVICES': 'n-cpu'}):
            self.assertEqual(
                [], self.phase('stack pre-install', **variables))

    def test_other_drivers_are_refused(self) -> None:
        done = self.try_phase('stack pre-install', {'VIRT_DRIVER': 'ironic'})
        self.assertEqual(1, done.returncode)
        self.assertIn('VIRT_DRIVER is ironic', self.calls()[0])

    def test_build_elsewhere_than_on_debian_is_refused(self) -> None:
        done = self.try_phase('stack pre-install', {'IS_UBUNTU': 'no'})
        self.assertEqual(1, done.returncode)
        self.assertIn('set NOVA_QUIESCE_IMAGE_FILE', self.calls()[0])

    def test_controllers_may_have_another_driver(self) -> None:
        self.phase('stack pre-install', VIRT_DRIVER='ironic',
                   ENABLED_SERVICES='n-api')


class InstallTest(DevStack):

    def test_all_in_one(self) -> None:
        self.assertEqual([
            f'setup_develop {ROOT}',
            f'sudo install -d -o stack {self.data}/nova-quiesce',
            'python3 -m quiescelab.guest --without-agent '
            f'{self.data}/nova-quiesce/agentless.qcow2 '
            f'{self.data}/nova-quiesce/guest.qcow2',
        ], self.phase('stack install'))

    def test_guests_are_built_once(self) -> None:
        self.phase('stack install')
        self.assertEqual([f'setup_develop {ROOT}'],
                         self.phase('stack install'))

    def test_compute_host_builds_no_guest(self) -> None:
        self.assertEqual(
            [f'setup_develop {ROOT}'],
            self.phase('stack install', ENABLED_SERVICES='n-cpu'))

    def test_controller_gets_no_driver(self) -> None:
        calls = self.phase('stack install', ENABLED_SERVICES='mysql,g-api')
        self.assertNotIn('setup_develop', ' '.join(calls))


class PostConfigTest(DevStack):

    def test_compute_host(self) -> None:
        calls = self.phase('stack post-config', ENABLED_SERVICES='n-cpu')
        leases = self.data / 'nova/quiesce'
        self.assertEqual({
            'DEFAULT': {'compute_driver': 'quiesce.QuiesceLibvirtDriver'},
            'quiesce': {'lease_directory': str(leases)},
        }, self.read('etc/nova/nova.conf'))
        self.assertEqual({}, self.read('etc/cinder/cinder.conf'))
        # Two that write to nova.conf at once lose lines.
        self.assertEqual('async_wait configure_neutron_nova', calls[0])
        self.assertIn(f'sudo install -d -o stack -m 0700 {leases}', calls)
        self.assertEqual(0o700, leases.stat().st_mode & 0o777)

    def test_nova_cpu_conf_is_left_alone(self) -> None:
        self.phase('stack post-config')
        self.assertEqual(
            ['nova.conf'], os.listdir(self.sandbox / 'etc/nova'))

    def test_controller(self) -> None:
        calls = self.phase('stack post-config',
                           ENABLED_SERVICES='mysql,g-api,n-api')
        self.assertEqual('async_wait configure_neutron_nova', calls[0])
        defaults = self.read('etc/nova/nova.conf')['DEFAULT']
        self.assertEqual(['non_inheritable_image_properties'], [*defaults])

    def test_neither(self) -> None:
        self.assertEqual([], self.phase(
            'stack post-config', ENABLED_SERVICES='mysql,g-api'))

    def test_record_is_not_inherited(self) -> None:
        # Both are lists that replace the service's own.
        for path, option, shipped in (
                ('etc/nova/nova.conf', NON_INHERITABLE, novas_default()),
                ('etc/cinder/cinder.conf', CORE, CINDERS_DEFAULT)):
            self.phase('stack post-config', ENABLED_SERVICES=WITH_TEMPEST)
            listed = self.read(path)['DEFAULT'][option].split(',')
            self.assertEqual(shipped, listed[:-len(RECORD)])
            self.assertEqual(RECORD, set(listed[-len(RECORD):]))

    def test_record_is_what_is_recorded(self) -> None:
        self.assertLessEqual(set(consistency.PROPERTIES), RECORD)

    def test_what_is_not_inherited_already(self) -> None:
        (self.sandbox / 'etc/nova').mkdir()
        conf = self.sandbox / 'etc/nova/nova.conf'
        conf.write_text('[DEFAULT]\nnon_inheritable_image_properties = '
                        'own, quiesce_reason,last\n')
        for _ in range(2):
            self.phase('stack post-config')
            listed = self.read('etc/nova/nova.conf')['DEFAULT'][
                NON_INHERITABLE].replace(' ', '').split(',')
            self.assertEqual(['own', 'quiesce_reason', 'last'], listed[:3])
            self.assertEqual(RECORD | {'own', 'last'}, set(listed))
            self.assertEqual(len(RECORD) + 2, len(listed))

    def test_guard_as_a_service(self) -> None:
        calls = self.phase('stack post-config',
                           ENABLED_SERVICES=f'{ALL_IN_ONE},{GUARD}')
        socket = '/run/nova-quiesce/guard.sock'
        self.assertEqual(
            socket,
            self.read('etc/nova/nova.conf')['quiesce']['guard_socket'])
        unit = self.read(f'etc/systemd/system/devstack@{GUARD}.service')
        self.assertEqual('devstack@n-cpu.service', unit['Unit']['Before'])
        self.assertEqual('stack', unit['Service']['User'])
        self.assertEqual('libvirt', unit['Service']['Group'])
        self.assertEqual(
            f'{self.data}/venv/bin/nova-quiesce-guard --socket {socket}',
            unit['Service']['ExecStart'])
        # The socket is in it.
        self.assertEqual('nova-quiesce', unit['Service']['RuntimeDirectory'])
        self.assertEqual([
            'sudo systemctl daemon-reload',
            f'sudo systemctl enable devstack@{GUARD}.service',
            f'sudo systemctl restart devstack@{GUARD}.service',
        ], calls[-3:])


class ExtraTest(DevStack):

    def test_image_that_was_built(self) -> None:
        self.assertEqual([
            f'{OPENSTACK} image create --public --file '
            f'{self.data}/nova-quiesce/guest.qcow2 --container-format bare '
            f'--disk-format qcow2 {PROPERTIES} quiesce-guest',
        ], self.phase('stack extra'))

    def test_image_of_the_operator(self) -> None:
        self.assertEqual([
            f'{OPENSTACK} image create --public --file /images/own.raw '
            '--container-format bare --disk-format raw '
            '--property os_require_quiesce=no own',
        ], self.phase('stack extra', NOVA_QUIESCE_IMAGE_NAME='own',
                      NOVA_QUIESCE_IMAGE_FILE='/images/own.raw',
                      NOVA_QUIESCE_IMAGE_FORMAT='raw',
                      NOVA_QUIESCE_IMAGE_PROPERTIES='os_require_quiesce=no'))

    def test_image_that_glance_has(self) -> None:
        self.assertEqual(
            [f'{OPENSTACK} image set {PROPERTIES} cirros'],
            self.phase('stack extra', NOVA_QUIESCE_IMAGE_NAME='cirros',
                       NOVA_QUIESCE_BUILD_IMAGE='False'))

    def test_compute_host_registers_none(self) -> None:
        for services in ('n-cpu', 'n-cpu,tempest'):
            self.assertEqual(
                [], self.phase('stack extra', ENABLED_SERVICES=services))


class TearDownTest(DevStack):

    def test_unstack_stops_the_service(self) -> None:
        self.assertEqual([f'stop_process {GUARD}'], self.phase('unstack'))

    def test_clean_undoes_what_the_phases_did(self) -> None:
        self.phase('stack install')
        self.phase('stack post-config')
        calls = self.phase('clean')
        self.assertEqual([f'PIP_VIRTUAL_ENV={self.data}/venv',
                          'pip_uninstall nova-quiesce'], calls[:2])
        self.assertEqual([], list((self.data / 'nova').iterdir()))
        self.assertEqual(['nova'], os.listdir(self.data))

    def test_clean_of_a_system_install(self) -> None:
        calls = self.phase('clean', GLOBAL_VENV='False')
        self.assertEqual('pip_uninstall nova-quiesce', calls[0])


class ShellTest(DevStack):

    def test_shell_of_devstack_is_left_as_it_was(self) -> None:
        for phase in ('stack install', 'stack extra', 'stack test-config',
                      'unstack'):
            done = self.try_phase(phase, {'ENABLED_SERVICES': WITH_TEMPEST})
            self.assertIn(f'{self.sandbox}, ehxBc and 0', done.stdout)
