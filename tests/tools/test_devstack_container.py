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

"""How DevStack's container is stopped."""

import os
import pathlib
import subprocess
import tempfile
import unittest

TOOL = pathlib.Path(__file__).parents[2] / 'tools/devstack-container'
#: Stands in for systemd-nspawn, by whose name it runs, with a PID 1 that
#: takes no order.
NSPAWN = """#!/bin/bash
trap '' TERM
bash -c 'trap "" TERM; echo $$; while :; do sleep 0.1; done' &
wait
"""
#: Notes what is run in the container.
NSENTER = """#!/bin/bash
echo "$*" >>"$NOTES"
%s
"""


class StopTest(unittest.TestCase):
    """Processes that are there, and end."""

    def setUp(self) -> None:
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.root = pathlib.Path(scratch)
        (self.root / 'bin').mkdir()
        self.notes = self.root / 'notes'
        self._program('nsenter', NSENTER % '')

    def _program(self, name: str, text: str) -> pathlib.Path:
        path = self.root / 'bin' / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, name: str = 'systemd-nspawn') -> int:
        """Start a container as the tool has it, with another program.

        :param name: of the program
        :returns: the container's PID 1
        """
        self.nspawn = subprocess.Popen(
            [self._program(name, NSPAWN)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(self.nspawn.wait)
        self.addCleanup(self.nspawn.kill)
        assert self.nspawn.stdout is not None
        self.addCleanup(self.nspawn.stdout.close)
        init = int(self.nspawn.stdout.readline())
        self.addCleanup(self._end, init)
        began = pathlib.Path(f'/proc/{self.nspawn.pid}/stat').read_text(
            ).rpartition(') ')[2].split()[19]
        (self.root / 'pid').write_text(f'{self.nspawn.pid} {began}\n')
        return init

    def _end(self, process: int) -> None:
        if self.is_alive(process):
            os.kill(process, 9)

    def is_alive(self, process: int) -> bool:
        """Tell whether there is such a process, and not just its remains."""
        stat = pathlib.Path(f'/proc/{process}/stat')
        return stat.exists() and ') Z ' not in stat.read_text()

    def stop(self) -> str:
        """Stop the container; what the tool says."""
        return subprocess.run(
            [TOOL, '--root', self.root, 'stop'], check=True, text=True,
            stdout=subprocess.PIPE, env={
                'PATH': '%s:%s' % (self.root / 'bin', os.environ['PATH']),
                'NOTES': str(self.notes), 'POWEROFF_SECONDS': '1'}).stdout

    def assert_asked(self, init: int) -> None:
        """Check that the container was told to power off."""
        self.assertIn(f'--target {init} ', self.notes.read_text())
        self.assertIn('systemctl poweroff', self.notes.read_text())

    def test_container_that_powers_off(self) -> None:
        init = self.start()
        self._program('nsenter', NSENTER % f'kill -KILL {init}')
        self.assertEqual('The container powered off.\n', self.stop())
        self.assert_asked(init)
        self.assertEqual(0, self.nspawn.wait(10))
        self.assertFalse((self.root / 'pid').exists())

    def test_container_that_does_not(self) -> None:
        init = self.start()
        self.assertIn('did not within 1 s', self.stop())
        self.assert_asked(init)
        self.assertFalse(self.is_alive(init))
        # With its container it ends by itself.
        self.assertEqual(0, self.nspawn.wait(10))
        self.assertFalse((self.root / 'pid').exists())

    def test_container_that_cannot_be_entered(self) -> None:
        init = self.start()
        self._program('nsenter', NSENTER % 'exit 1')
        told = self.stop()
        self.assertIn('does not take the order', told)
        self.assertIn('did not within 1 s', told)
        self.assertFalse(self.is_alive(init))

    def test_number_of_another_process_by_now(self) -> None:
        init = self.start()
        (self.root / 'pid').write_text(f'{self.nspawn.pid} 1\n')
        self.assertEqual('', self.stop())
        self.assertTrue(self.is_alive(init))
        self.assertFalse(self.notes.exists())
        self.assertFalse((self.root / 'pid').exists())

    def test_process_of_another_name(self) -> None:
        init = self.start('other')
        self.assertEqual('', self.stop())
        self.assertTrue(self.is_alive(init))

    def test_nothing_was_started(self) -> None:
        self.assertEqual('', self.stop())
