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

import os
import signal
import subprocess
import tempfile
import time
import unittest

from quiescelab import lab as running
from quiescelab import proc
from quiescelab import tenant

from tests.integration import base


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


class DyingServiceTest(base.LabTestCase):
    """nova-compute ends while the guest is frozen for volume snapshots.

    Cinder's volume service stands still meanwhile, so that the freeze lasts.
    """

    from_volume = True

    def setUp(self) -> None:
        super().setUp()
        self._signal('cinder-volume', signal.SIGSTOP)
        self.addCleanup(self._bring_back)
        # nova-api answers as soon as Cinder has accepted the snapshot.
        answer = self.user.act(self.server, 'createImage',
                               {'name': 'test-dying'})
        self.assertTrue(answer['image_id'])
        self.assertTrue(self.guest.frozen())
        self.assertEqual(1, len(self._leases()))

    def _bring_back(self) -> None:
        self._signal('cinder-volume', signal.SIGCONT)
        self.lab.start('nova-compute')
        for image in self.user.images_named('test-dying'):
            self.user.remove_image(image)

    def _signal(self, service: str, number: signal.Signals) -> None:
        for one in self.lab.family(service):
            one.signal(number)

    def _leases(self) -> list[str]:
        return os.listdir(self.lab.paths.data('nova') / 'quiesce')

    def _guards(self) -> list[proc.Process]:
        return [one for one in self.lab.family('nova-compute')
                if 'nova_quiesce.guard' in proc.arguments(one)]

    def _seconds_until_thawed(self) -> float:
        began = time.monotonic()
        tenant.wait(lambda: not self.guest.frozen(), 30, 'the thaw')
        return time.monotonic() - began

    def test_killed(self) -> None:
        self.lab.kill('nova-compute')
        seconds = self._seconds_until_thawed()
        self.assertLess(seconds, 5)
        self.assertEqual([], self._leases())

    def test_stopped(self) -> None:
        self.lab.stop('nova-compute')
        self.assertFalse(self.guest.frozen())
        self.assertEqual([], self._leases())
        self.assertEqual([], self._guards())

    def test_killed_together_with_the_guard(self) -> None:
        guard, = self._guards()
        # The guard must not see the end of nova-compute.
        guard.signal(signal.SIGKILL)
        self.lab.kill('nova-compute')
        time.sleep(3)
        self.assertTrue(self.guest.frozen())
        self.assertEqual(1, len(self._leases()))
        self.lab.start('nova-compute')
        self._seconds_until_thawed()
        self.assertEqual([], self._leases())
