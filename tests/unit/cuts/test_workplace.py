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

import os
import pathlib
import stat
import tempfile
import unittest
from unittest import mock

from nova_quiesce.cuts import workplace

LABELLED = ("<domain><seclabel model='selinux'><label>x</label></seclabel>"
            "<seclabel model='dac'><label>%s</label></seclabel></domain>")


class WorkplaceTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.chown = self.enterContext(
            mock.patch('nova.privsep.path.chown', autospec=True))

    def _be_somebody_else(self) -> None:
        # The directory is then not this process's any more.
        self.enterContext(mock.patch(
            'os.getuid', autospec=True, return_value=os.getuid() + 1))

    def test_it_is_the_guests_and_goes_after_the_block(self) -> None:
        with workplace.workplace(self.directory, 'quiesce-h-',
                                 LABELLED % '+64055:+108') as place:
            self.assertTrue(os.path.basename(place.path).startswith(
                'quiesce-h-'))
            self.assertEqual(0o711, stat.S_IMODE(
                os.stat(place.path).st_mode))
            self.chown.assert_called_once_with(
                place.path, uid=64055, gid=108)
            pathlib.Path(place.scratch).touch()
            self._be_somebody_else()
        self.chown.assert_called_with(place.path, uid=os.getuid())
        self.assertEqual([], os.listdir(self.directory))

    def test_it_goes_after_an_error(self) -> None:
        with self.assertRaises(KeyError):
            with workplace.workplace(self.directory, 'q-', '<domain/>'):
                raise KeyError()
        self.assertEqual([], os.listdir(self.directory))

    def test_domain_without_a_label(self) -> None:
        with workplace.workplace(self.directory, 'q-', '<domain/>'):
            self.chown.assert_not_called()

    def test_label_that_is_a_name(self) -> None:
        with self.assertRaisesRegex(workplace.Unusable, 'but "root:root"'):
            with workplace.workplace(self.directory, 'q-',
                                     LABELLED % 'root:root'):
                self.fail('it was usable')
        self.assertEqual([], os.listdir(self.directory))

    def test_directory_that_is_not_there(self) -> None:
        with self.assertRaises(workplace.Unusable):
            with workplace.workplace('/does/not/exist', 'q-', '<domain/>'):
                self.fail('it was usable')

    def test_path_that_is_too_long_for_a_socket(self) -> None:
        with self.assertRaisesRegex(workplace.Unusable, 'too long'):
            with workplace.workplace(self.directory, 'q' * 100,
                                     '<domain/>'):
                self.fail('it was usable')
        self.assertEqual([], os.listdir(self.directory))

    def test_take_socket(self) -> None:
        workplace.Workplace('/place').take_socket()
        self.chown.assert_called_once_with('/place/nbd', uid=os.getuid())

    def test_free(self) -> None:
        with mock.patch('os.statvfs', autospec=True) as asked:
            asked.return_value.f_bavail = 3
            asked.return_value.f_frsize = 4096
            self.assertEqual(12288, workplace.Workplace('/place').free())

    def test_left_over_are_this_hosts(self) -> None:
        for name in ('quiesce-[a]-1', 'quiesce-a-1', 'tmp1'):
            os.mkdir(os.path.join(self.directory, name))
        self.assertEqual(
            [os.path.join(self.directory, 'quiesce-[a]-1')],
            workplace.left_over(self.directory, 'quiesce-[a]-'))

    def test_what_cannot_be_removed_is_named(self) -> None:
        self.chown.side_effect = OSError('planned')
        self._be_somebody_else()
        with self.assertLogs(workplace.LOG, 'ERROR') as logged:
            workplace.remove(self.directory)
        self.assertIn(self.directory + ' stays behind', logged.output[0])
