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

"""The checks of ``nova-quiesce check``: each is found, and nothing else."""

import contextlib
import errno
from importlib import metadata
import io
import os
import pathlib
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import typing
import unittest
from unittest import mock

from nova import conf as nova_conf

from nova_quiesce.cmd import main
from nova_quiesce import consistency
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import session
from nova_quiesce.nova import releases

GOOD = '[DEFAULT]\ncompute_driver = quiesce.QuiesceLibvirtDriver\n'
RECORD = 'non_inheritable_image_properties = %s\n' % ','.join(
    consistency.PROPERTIES)
#: What no test has to wait for, in seconds.
LIMIT = 20


class Checked(typing.NamedTuple):
    """The output of ``nova-quiesce check``."""

    code: int
    out: str
    problems: list[str]

    @property
    def remarks(self) -> list[str]:
        """The remarks among the output."""
        return [line.removeprefix('remark: ') for line in
                self.out.splitlines() if line.startswith('remark: ')]


class CheckTestBase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.scratch = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory()))
        self.leases = self.scratch / 'nova' / 'leases'
        self.leases.parent.mkdir()

    def check(self, text: str = '', default: str = GOOD) -> Checked:
        """Run it.

        :param text: what the configuration says of [quiesce]
        :param default: what it says before that
        """
        path = self.scratch / 'nova.conf'
        path.write_text(
            '%s[quiesce]\n%s' % (default, text) if 'lease_directory' in text
            else '%s[quiesce]\nlease_directory = %s\n%s' % (
                default, self.leases, text))
        return self.run_on(path)

    def run_on(self, *paths: pathlib.Path) -> Checked:
        """Run it on these files."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.main(['check', *('--config-file=%s' % path
                                         for path in paths)])
        problems = err.getvalue().splitlines()
        # Whatever happens, it leaves nothing.
        self.assertNotIn('.nova-quiesce', ' '.join(
            name for _, names, _ in os.walk(self.scratch) for name in names))
        return Checked(code, out.getvalue(), problems)

    def assert_problems(self, checked: Checked, *texts: str) -> None:
        """It says these, in this order, and no other."""
        self.assertEqual(len(texts), len(checked.problems), checked.problems)
        for text, problem in zip(texts, checked.problems, strict=True):
            self.assertIn(text, problem)
            self.assertTrue(problem.startswith('nova-quiesce: '), problem)
        self.assertEqual(1 if texts else 0, checked.code)


class OptionsTest(CheckTestBase):

    def test_good(self) -> None:
        checked = self.check('freeze_timeout = 7\n')
        self.assert_problems(checked)
        self.assertIn('[quiesce] freeze_timeout = 7\n', checked.out)
        self.assertIn('%s/nova.conf\n' % self.scratch, checked.out)
        self.assertIn('Nova %s is installed; ' % metadata.version('nova'),
                      checked.out)

    def test_says_nothing_else(self) -> None:
        # Nova's modules may warn of what they are made with.
        path = self.scratch / 'nova.conf'
        path.write_text('%s[quiesce]\nlease_directory = %s\n'
                        % (GOOD, self.leases))
        done = subprocess.run(
            [sys.executable, '-m', 'nova_quiesce.cmd.main', 'check',
             '--config-file', path],
            capture_output=True, text=True, check=False)
        self.assertEqual((0, ''), (done.returncode, done.stderr))

    def test_several_files(self) -> None:
        first, second = self.scratch / 'a.conf', self.scratch / 'b.conf'
        first.write_text(GOOD + '[quiesce]\nlease_directory = %s\n'
                         % self.leases)
        second.write_text('[quiesce]\nfreze_timeout = 4\n')
        self.assert_problems(
            self.run_on(first, second), 'freze_timeout in %s' % second)

    def test_all_is_told_at_once(self) -> None:
        self.assert_problems(
            self.check('freeze_timeout = soon\nmaxfreezetime = 3\n',
                       default='[DEFAULT]\n'),
            '[quiesce] freeze_timeout: ', 'maxfreezetime',
            'compute_driver is not set')

    def test_values_that_never_work_together(self) -> None:
        self.assert_problems(
            self.check('thaw_timeout = 2\nthaw_retry_interval = 2\n'
                       'lease_directory = leases\n'),
            '[quiesce] lease_directory: leases is not an absolute path',
            '[quiesce] thaw_retry_interval: ')

    def test_risky(self) -> None:
        checked = self.check(
            default=GOOD + 'rpc_response_timeout = 50\n')
        self.assert_problems(checked)
        self.assertIn('rpc_response_timeout (50 s)', checked.remarks[0])

    def test_file_that_is_not_there(self) -> None:
        checked = self.run_on(self.scratch / 'other.conf')
        self.assertEqual(1, checked.code)
        self.assertIn('other.conf', checked.problems[0])


class MisspeltTest(CheckTestBase):
    """oslo.config ignores what nobody registered."""

    def test_option(self) -> None:
        self.assert_problems(
            self.check('freze_timeout = 7\n'),
            'freze_timeout in %s/nova.conf is no option; do you mean '
            'freeze_timeout?' % self.scratch)
        self.assert_problems(
            self.check('max-freeze-time = 7\n'), 'do you mean max_freeze_time')

    def test_option_like_no_other(self) -> None:
        checked = self.check('xyzzy = 7\n')
        self.assert_problems(checked, 'xyzzy')
        self.assertTrue(checked.problems[0].endswith('is no option'))

    def test_option_in_another_section(self) -> None:
        self.assert_problems(
            self.check(default=GOOD + 'max_freeze_time = 5\nrecord = novnc\n'),
            '[DEFAULT] max_freeze_time in %s/nova.conf has no effect; it '
            'belongs into the section [quiesce]' % self.scratch)

    def test_section(self) -> None:
        for section in ('quiesed', 'nova_quiesce', 'quiescing'):
            self.assert_problems(
                self.check('[%s]\nmode = off\n' % section),
                '[%s] in %s/nova.conf has no effect; do you mean [quiesce]'
                % (section, self.scratch))

    def test_oslo_configs_own_tolerance(self) -> None:
        self.assert_problems(self.check('[Quiesce]\nmode = required\n'))

    def test_sections_of_nova(self) -> None:
        sections = nova_conf.CONF.keys()
        self.assertIn('libvirt', sections)
        self.assert_problems(self.check(''.join(
            '[%s]\n' % section for section in sections
            if section not in ('quiesce', 'DEFAULT'))))


class DriverTest(CheckTestBase):

    def test_stock_driver(self) -> None:
        self.assert_problems(
            self.check(default='[DEFAULT]\n'
                       'compute_driver = libvirt.LibvirtDriver\n'),
            'compute_driver is libvirt.LibvirtDriver: nova-compute does not '
            'load this driver; set it to quiesce.QuiesceLibvirtDriver')

    def test_unsupported_nova(self) -> None:
        with mock.patch('importlib.metadata.version', autospec=True,
                        return_value='28.3.1'):
            checked = self.check()
        self.assert_problems(checked, '28.3.1')
        self.assertIn('It supports %s' % releases.supported(),
                      checked.problems[0])

    def test_driver_not_found(self) -> None:
        with mock.patch('importlib.util.find_spec', autospec=True,
                        return_value=None):
            self.assert_problems(self.check(), 'reinstall nova-quiesce')


class InheritanceTest(CheckTestBase):

    def test_list_that_lacks_the_record(self) -> None:
        checked = self.check()
        self.assert_problems(checked)
        self.assertIn('lacks quiesce_consistency, ', checked.remarks[-1])
        self.assertIn('nova-api reads it', checked.remarks[-1])

    def test_list_that_has_it(self) -> None:
        checked = self.check(default=GOOD + RECORD)
        self.assertNotIn('non_inheritable', ' '.join(checked.remarks))


class GuardTest(CheckTestBase):

    def setUp(self) -> None:
        super().setUp()
        self.path = str(self.scratch / 'guard.sock')
        self.option = 'guard_socket = %s\n' % self.path

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(listener.close)
        listener.bind(self.path)
        listener.listen(1)
        return listener

    def test_answers(self) -> None:
        listener = self._listen()
        served: list[session.Session] = []

        def serve() -> None:
            served.append(session.Session(
                listener.accept()[0], lambda uri: self.fail()))
            served[0].run()

        thread = threading.Thread(target=serve)
        thread.start()
        with self.assertNoLogs('nova_quiesce.freeze.guard', 'WARNING'):
            self.assert_problems(self.check(self.option))
            thread.join(LIMIT)
        # It does not wait for more from the one who only asked.
        self.assertFalse(thread.is_alive())

    def test_is_not_there(self) -> None:
        self.assert_problems(self.check(self.option),
                             'no thaw guard answers user')

    def test_left_its_socket_behind(self) -> None:
        self._listen().close()
        checked = self.check(self.option)
        self.assert_problems(checked, 'Errno %d' % errno.ECONNREFUSED)
        self.assertIn('start nova-quiesce-guard', checked.problems[0])

    def test_is_stopped(self) -> None:
        # The kernel takes connections for it.
        listener = self._listen()
        with mock.patch.object(guard_client, 'ANSWER_TIMEOUT', 0.1):
            self.assert_problems(self.check(self.option), 'timed out')
        listener.close()

    def test_something_else_listens(self) -> None:
        listener = self._listen()

        def serve() -> None:
            with listener.accept()[0] as sock:
                sock.recv(100)
                sock.sendall(b'220 ready\r\n')
                sock.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        self.assert_problems(self.check(self.option), 'not JSON')
        thread.join(LIMIT)

    def test_is_not_asked_for(self) -> None:
        self.assert_problems(self.check(self.option + 'guard = off\n'))


class LeasesTest(CheckTestBase):

    def _assert_problem(self, path: object, text: str) -> None:
        checked = self.check('lease_directory = %s\n' % path)
        self.assert_problems(checked, text)
        self.assertIn('[quiesce] lease_directory: ', checked.problems[0])

    def test_will_be_made(self) -> None:
        self.assert_problems(self.check())
        self.leases = self.leases / 'more' / 'leases'
        self.assert_problems(self.check())
        self.assertEqual([], os.listdir(self.scratch / 'nova'))

    def test_is_there(self) -> None:
        self.leases.mkdir(0o700)
        (self.leases / 'file').touch()
        self.assert_problems(self.check())
        self.assertEqual(0o700, stat.S_IMODE(self.leases.stat().st_mode))

    def test_nothing_can_be_made_there(self) -> None:
        self._assert_problem('/proc/nope', 'cannot make /proc/nope in /proc')
        self._assert_problem('/proc/nope/more', 'in /proc')

    def test_parent_is_a_file(self) -> None:
        (self.scratch / 'nova' / 'file').touch()
        self._assert_problem(self.scratch / 'nova/file/leases',
                             'in %s/nova/file' % self.scratch)

    def test_others_can_write(self) -> None:
        self.leases.mkdir()
        self.leases.chmod(0o777)
        self._assert_problem(self.leases, 'others can write to it')

    def test_link(self) -> None:
        self.leases.symlink_to(self.scratch)
        self._assert_problem(self.leases, 'symbolic link')

    def test_as_another_user(self) -> None:
        self.leases.mkdir(0o700)
        with mock.patch('os.geteuid', autospec=True,
                        return_value=os.geteuid() + 1):
            self._assert_problem(self.leases, 'it belongs to user id %d'
                                 % os.getuid())

    def test_that_root_can_says_little(self) -> None:
        with mock.patch('os.geteuid', autospec=True,
                        return_value=0):
            self.assertIn('that root can says little',
                          ' '.join(self.check().remarks))
            self.leases.mkdir(0o700)
            checked = self.check()
        self.assert_problems(checked)
        self.assertIn('nova-compute has to run as that user',
                      ' '.join(checked.remarks))
