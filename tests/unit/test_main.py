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
from importlib import metadata
import io
import tempfile
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


class CheckTest(unittest.TestCase):

    def _check(self, text: str) -> tuple[int, str, str]:
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.write(text)
            file.flush()
            return run('check', '--config-file', file.name)

    def test_good(self) -> None:
        code, out, _ = self._check('[quiesce]\nfreeze_timeout = 7\n')
        self.assertEqual(0, code)
        self.assertIn('[quiesce] freeze_timeout = 7\n', out)
        self.assertIn('compute_driver.py', out)
        self.assertIn('Nova %s fits; ' % metadata.version('nova'), out)

    def test_unsupported_nova(self) -> None:
        with mock.patch('importlib.metadata.version', autospec=True,
                        return_value='28.3.1'):
            code, _, err = self._check('')
        self.assertEqual(1, code)
        self.assertIn('28.3.1', err)
        self.assertIn('It supports Nova 29 (2024.1) to 34 (2026.2)', err)

    def test_risky(self) -> None:
        with self.assertLogs('nova_quiesce', 'WARNING') as logs:
            self.assertEqual(0, self._check(
                '[DEFAULT]\nrpc_response_timeout = 50\n')[0])
        self.assertIn('rpc_response_timeout (50 s)', logs.output[0])

    def test_wrong_option(self) -> None:
        code, _, err = self._check('[quiesce]\nfreeze_timeout = soon\n')
        self.assertEqual(1, code)
        self.assertIn('[quiesce] freeze_timeout', err)

    def test_driver_not_found(self) -> None:
        with mock.patch('importlib.util.find_spec', autospec=True,
                        return_value=None):
            code, _, err = self._check('')
        self.assertEqual(1, code)
        self.assertIn('reinstall nova-quiesce', err)
