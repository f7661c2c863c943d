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

"""The operator's command."""

import contextlib
import io
import subprocess
import sys
import unittest
from unittest import mock

import libvirt

from nova_quiesce.cmd import main
from nova_quiesce import fixture


def run(*argv: str) -> tuple[int, str, str]:
    """Run the command.

    :returns: the exit code, and what it printed to both streams
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.main(list(argv))
    return code, out.getvalue(), err.getvalue()


class ThawTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.connection = mock.Mock()
        self.connection.lookupByUUIDString.side_effect = libvirt.libvirtError(
            'no such UUID')
        self.connection.lookupByName.return_value = self.domain
        opened = mock.patch('libvirt.open', autospec=True,
                            return_value=self.connection)
        self.open = opened.start()
        self.addCleanup(opened.stop)

    def test_frozen_guest(self) -> None:
        self.domain.frozen = True
        code, out, _ = run('thaw', 'instance-1', '--uri', 'test:///default')
        self.assertEqual((0, 'instance-1: 2 filesystems thawed\n'),
                         (code, out))
        self.assertFalse(self.domain.frozen)
        self.open.assert_called_once_with('test:///default')
        self.connection.close.assert_called_once_with()

    def test_by_uuid(self) -> None:
        self.connection.lookupByUUIDString.side_effect = None
        self.connection.lookupByUUIDString.return_value = self.domain
        self.assertEqual(0, run('thaw', 'a-uuid')[0])
        self.connection.lookupByName.assert_not_called()

    def test_dead_agent(self) -> None:
        self.domain.connected = False
        code, _, err = run('thaw', 'instance-1')
        self.assertEqual(1, code)
        self.assertIn('not connected', err)

    def test_unknown_domain(self) -> None:
        self.connection.lookupByName.side_effect = libvirt.libvirtError(
            'Domain not found')
        code, _, err = run('thaw', 'nobody')
        self.assertEqual(1, code)
        self.assertIn('Domain not found', err)


class QuietTest(unittest.TestCase):

    def test_libvirt_does_not_print_what_is_told(self) -> None:
        done = subprocess.run(
            [sys.executable, '-m', 'nova_quiesce.cmd.main', 'thaw', 'nobody',
             '--uri', 'test:///default'],
            capture_output=True, text=True, check=False)
        self.assertEqual(1, done.returncode)
        line, = done.stderr.splitlines()
        self.assertTrue(line.startswith('nova-quiesce: '), line)
        self.assertIn('Domain not found', line)
