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

import subprocess
import tempfile
import unittest

from quiescelab import lab as running


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
