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

"""nova-compute itself, as the lab runs it."""

from collections.abc import Iterator
import contextlib
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

from quiescelab import lab as running
from quiescelab import logs
from quiescelab import proc
from quiescelab.services import nova
from quiescelab import system
from quiescelab import waiting

from tests.integration import base
from tests.integration import faults

#: Seconds in which a guest is thawed whose freeze nobody else ends.
PROMISED = 2
#: What the thaw guard may take of the host's memory, in MiB.
GUARD_MEMORY = 40

class OptionsTest(unittest.TestCase):

    def test_wrong_option_stops_the_service_and_is_named(self) -> None:
        lab = running.Lab.from_env()
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as wrong:
            wrong.write('[quiesce]\nfreeze_timeout = soon\n')
            wrong.flush()
            done = subprocess.run(
                [lab.paths.bin('nova-compute'), '--config-file',
                 str(lab.paths.etc('nova') / 'nova-compute.conf'),
                 '--config-file', wrong.name, '--log-file', '/dev/stderr'],
                capture_output=True, text=True, timeout=120, check=False)
        self.assertNotEqual(0, done.returncode)
        self.assertIn('[quiesce] freeze_timeout', done.stderr)

    def test_operators_command(self) -> None:
        lab = running.Lab.from_env()
        done = subprocess.run(
            [lab.paths.bin('nova-quiesce'), 'check', '--config-file',
             str(lab.paths.etc('nova') / 'nova-compute.conf')],
            capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn('[quiesce] max_freeze_time = 60', done.stdout)
        self.assertEqual('', done.stderr)

    def test_operators_command_on_what_nova_ignores(self) -> None:
        lab = running.Lab.from_env()
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as wrong:
            wrong.write('[DEFAULT]\ncompute_driver = libvirt.LibvirtDriver\n'
                        '[quiesce]\nmax_freze_time = 5\n'
                        'lease_directory = /proc/nope\n'
                        'guard_socket = /nobody/listens\n')
            wrong.flush()
            done = subprocess.run(
                [lab.paths.bin('nova-quiesce'), 'check', '--config-file',
                 str(lab.paths.etc('nova') / 'nova-compute.conf'),
                 '--config-file', wrong.name],
                capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(1, done.returncode)
        told = done.stderr.splitlines()
        self.assertEqual(4, len(told), told)
        for problem in ('compute_driver is libvirt', 'max_freeze_time?',
                        'cannot make /proc/nope', 'no thaw guard answers'):
            self.assertIn(problem, done.stderr)


class DyingServiceTest(faults.HeldFreezeTestCase):
    """nova-compute ends while the guest is frozen for volume snapshots."""

    shares_server = True

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.lab.start, nova.COMPUTE)

    def test_killed(self) -> None:
        image_id = self.hold_freeze()
        self.lab.kill(nova.COMPUTE)
        self.measured('nova-compute killed: thawed by its guard',
                      self.seconds_until_thawed(), PROMISED)
        self.wait_until_lease_ends()
        self.assert_nothing_claimed(image_id)
        self.assertEqual(1, len(self.duties()))
        self.lab.start(nova.COMPUTE)
        waiting.wait(lambda: 'not written yet' in str(
            self.user.failures(self.server)), base.SOON, 'an event')
        self.assertEqual('active', self.user.image(image_id)['status'])
        self.assert_judged_with_the_next_request(image_id)

    def test_stopped(self) -> None:
        image_id = self.hold_freeze()
        began = time.monotonic()
        stopping = self.in_background(self.lab.stop, nova.COMPUTE)
        self.seconds_until_thawed()
        self.measured('nova-compute stopped: thawed',
                      time.monotonic() - began)
        stopping.result()
        self.assertEqual([], self.leases())
        self.assertEqual([], self.guards())
        self.assert_nothing_claimed(image_id)
        # It may have come to judge its image before its end.
        self.lab.start(nova.COMPUTE)
        self.assert_judged_with_the_next_request(image_id)

    def assert_judged_with_the_next_request(self, image_id: str) -> None:
        """The next nova-compute does what one has left open."""
        self.lab.go_on('cinder-volume')
        calls = self.agent_calls()
        self.assert_healthy_image(self.create_image(self.new_name()), calls)
        self.assert_put_away(image_id, 'nova-compute was stopped')

    def test_killed_together_with_the_guard(self) -> None:
        image_id = self.hold_freeze()
        guard, = self.guards()
        # The guard must not see the end of nova-compute.
        guard.signal(signal.SIGKILL)
        self.lab.kill(nova.COMPUTE)
        time.sleep(3)
        self.assertTrue(self.guest.frozen())
        self.assertEqual([self.server['id']], self.leases())
        log = logs.NewLines(self.lab.log(nova.COMPUTE))
        began = time.monotonic()
        self.in_background(self.lab.start, nova.COMPUTE)
        self.seconds_until_thawed()
        self.measured('nova-compute and its guard killed: thawed after the '
                      'start', time.monotonic() - began)
        self._assert_order(log, 'has ended: 1 filesystems were thawed',
                           'Join ServiceGroup membership')
        self.assertEqual([], self.leases())
        self.assert_nothing_claimed(image_id)

    def _assert_order(self, log: logs.NewLines, first: str,
                      second: str) -> None:
        waiting.wait(lambda: second in log.text(), base.SOON, second)
        self.assertLess(log.text().index(first), log.text().index(second))

    def test_all_processes_killed_beside_a_guard_of_its_own(self) -> None:
        with self._service_guard() as path, self.lab.compute_options(
                {'quiesce': {'guard_socket': path}}):
            self.assertEqual([], self.guards())
            image_id = self.hold_freeze()
            self.lab.kill_all(nova.COMPUTE)
            self.measured('all processes of nova-compute killed: thawed by '
                          'the service guard', self.seconds_until_thawed(),
                          PROMISED)
            self.wait_until_lease_ends()
        self.assert_nothing_claimed(image_id)

    @contextlib.contextmanager
    def _service_guard(self) -> Iterator[pathlib.Path]:
        path = self.lab.paths.data('nova') / 'guard.sock'
        argv = system.as_user(nova.USER, [
            self.lab.paths.bin('python3'), '-P', '-m',
            'nova_quiesce.freeze.guard',
            '--socket', str(path)])
        with self.lab.log('quiesce-guard').open('ab') as log:
            guard = subprocess.Popen(argv, cwd='/', stdout=log, stderr=log,
                                     env=system.environment())
        try:
            waiting.wait(path.exists, base.SOON, 'the guard to listen')
            yield path
        finally:
            guard.terminate()
            guard.wait(base.SOON)

    def test_memory_of_the_guard(self) -> None:
        self.hold_freeze()
        guard, = self.guards()
        self.measured("the guard's memory while it guards",
                      _resident_mib(guard), GUARD_MEMORY, 'MiB')
        self.lab.go_on('cinder-volume')
        self.seconds_until_thawed()


def _resident_mib(process: proc.Process) -> float:
    status = pathlib.Path('/proc/%d/status' % process.pid).read_text()
    found = re.search(r'^VmRSS:\s+(\d+) kB$', status, re.MULTILINE)
    assert found is not None
    return int(found.group(1)) / 1024
