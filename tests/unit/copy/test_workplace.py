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

import contextlib
import json
import os
import pathlib
import stat
import subprocess
import tempfile
import unittest
from unittest import mock

from nova_quiesce.copy import workplace

SIZE = 1 << 30
LABELLED = ("<domain><seclabel model='selinux'><label>x</label></seclabel>"
            "<seclabel model='dac'><label>%s</label></seclabel></domain>")


CAPABILITIES = """<capabilities><host>
<secmodel><model>apparmor</model><baselabel type='kvm'>x</baselabel></secmodel>
<secmodel><model>dac</model><baselabel type='kvm'>+64055:+109</baselabel>
<baselabel type='qemu'>+64056:+109</baselabel></secmodel></host>
</capabilities>"""


class WorkplaceTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.chown = self.enterContext(
            mock.patch('nova.privsep.path.chown', autospec=True))

    def _new(self, host: str = 'h', domain_xml: str = '<domain/>'
             ) -> contextlib.AbstractContextManager[workplace.Workplace]:
        return workplace.Places(self.directory, host).new(domain_xml, SIZE)

    def test_it_is_the_guests_and_goes_after_the_block(self) -> None:
        with self._new(domain_xml=LABELLED % '+64055:+108') as place:
            self.assertTrue(os.path.basename(place.path).startswith(
                'quiesce-h-'))
            self.assertEqual(0o711, stat.S_IMODE(
                os.stat(place.path).st_mode))
            self.assertEqual(
                [mock.call(path, uid=64055, gid=108)
                 for path in (place.scratch, place.path)],
                self.chown.mock_calls)
            # The directory is then not this process's any more.
            self.enterContext(mock.patch(
                'os.getuid', autospec=True, return_value=os.getuid() + 1))
        self.chown.assert_called_with(place.path, uid=os.getuid())
        self.assertEqual([], os.listdir(self.directory))

    def test_the_scratch_file_is_there(self) -> None:
        with self._new() as place:
            told = json.loads(subprocess.run(
                ['qemu-img', 'info', '--output=json', place.scratch],
                check=True, capture_output=True).stdout)
        self.assertEqual(('qcow2', SIZE),
                         (told['format'], told['virtual-size']))

    def test_scratch_file_is_readable_for_its_owner_alone(self) -> None:
        with self._new() as place:
            self.assertEqual(0o600, stat.S_IMODE(
                os.stat(place.scratch).st_mode))

    def test_scratch_file_that_cannot_be_made(self) -> None:
        with mock.patch.dict('os.environ', {'PATH': '/nowhere'}):
            self._assert_unusable('qemu-img: .*No such file')
        self._assert_unusable('qemu-img: .* too large', size=1 << 62)

    def _assert_unusable(self, reason: str, size: int = SIZE) -> None:
        with self.assertRaisesRegex(workplace.Unusable, reason):
            with workplace.Places(self.directory, 'h').new('<domain/>', size):
                self.fail('it was usable')
        self.assertEqual([], os.listdir(self.directory))

    def test_it_goes_after_an_error(self) -> None:
        with self.assertRaises(KeyError):
            with self._new():
                raise KeyError()
        self.assertEqual([], os.listdir(self.directory))

    def test_it_stays_while_its_job_may_go_on(self) -> None:
        with self.assertLogs(workplace.LOG, 'ERROR') as logged:
            with self._new() as place:
                place.is_kept = True
        self.assertEqual(['scratch'], os.listdir(place.path))
        self.assertIn(place.path + ' stays', logged.output[0])

    def test_domain_without_a_label(self) -> None:
        with self._new():
            self.chown.assert_not_called()

    def test_label_that_is_a_name(self) -> None:
        with self.assertRaisesRegex(workplace.Unusable, 'but "root:root"'):
            with self._new(domain_xml=LABELLED % 'root:root'):
                self.fail('it was usable')
        self.assertEqual([], os.listdir(self.directory))

    def test_directory_that_is_not_there(self) -> None:
        with self.assertRaises(workplace.Unusable):
            with workplace.Places('/does/not/exist', 'h').new(
                    '<domain/>', SIZE):
                self.fail('it was usable')

    def test_path_that_is_too_long_for_a_socket(self) -> None:
        with self.assertRaisesRegex(workplace.Unusable, 'too long'):
            with self._new('h' * 100):
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

    def test_places_have_what_they_made(self) -> None:
        for host in ('compute-1', 'a%sb', '[a]', 'a b', 'H_1.example', 'é'):
            for directory in (self.directory, self.directory + '/',
                              self.directory + '/../' + os.path.basename(
                                  self.directory)):
                places = workplace.Places(directory, host)
                with places.new('<domain/>', SIZE) as place:
                    self.assertTrue(places.has(place.path), place.path)
                    self.assertEqual([place.path], places.left_over())

    def test_left_over_are_this_hosts(self) -> None:
        for name in ('quiesce-[a]-abcdefg1', 'quiesce-a-abcdefg1',
                     'quiesce-[a]-gpu-abcdefg1', 'quiesce-[a]-abcdefg12',
                     'quiesce-[a]-', 'quiesce-[a]-ABCDEFG1', 'tmpabcdefg1'):
            os.mkdir(os.path.join(self.directory, name))
        self.assertEqual(
            [os.path.join(self.directory, 'quiesce-[a]-abcdefg1')],
            workplace.Places(self.directory, '[a]').left_over())

    def test_host_whose_name_begins_anothers(self) -> None:
        one, other = (workplace.Places(self.directory, host)
                      for host in ('compute-1', 'compute-1-gpu'))
        with one.new('<domain/>', SIZE) as ours, other.new(
                '<domain/>', SIZE) as theirs:
            self.assertEqual([ours.path], one.left_over())
            self.assertEqual([theirs.path], other.left_over())

    def test_nothing_is_left_over_before_the_first_snapshot(self) -> None:
        self.assertEqual(
            [], workplace.Places('/does/not/exist', 'h').left_over())

    def test_users(self) -> None:
        self.assertEqual({os.getuid(), 64055, 64056},
                         workplace.users(CAPABILITIES))
        self.assertEqual({os.getuid()},
                         workplace.users('<capabilities/>'))


class RemoveTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.chown = self.enterContext(
            mock.patch('nova.privsep.path.chown', autospec=True))
        self.path = pathlib.Path(self.directory, 'quiesce-h-abcdefgh')

    def _assert_left_alone(self, *owners: int) -> None:
        with self.assertLogs(workplace.LOG, 'ERROR') as logged:
            workplace.remove(str(self.path), {os.getuid(), *owners})
        self.assertIn('%s is left alone' % self.path, logged.output[0])
        self.chown.assert_not_called()
        self.assertTrue(os.path.lexists(self.path))

    def test_symbolic_link(self) -> None:
        target = pathlib.Path(self.directory, 'target')
        target.mkdir()
        self.path.symlink_to(target)
        self._assert_left_alone()
        self.assertTrue(target.is_dir())

    def test_file(self) -> None:
        self.path.touch()
        self._assert_left_alone()

    def test_directory_of_somebody_else(self) -> None:
        self.path.mkdir()
        self.enterContext(mock.patch(
            'os.lstat', autospec=True, return_value=mock.Mock(
                st_mode=stat.S_IFDIR, st_uid=os.getuid() + 1)))
        self._assert_left_alone(os.getuid() + 2)

    def test_what_is_gone(self) -> None:
        with self.assertNoLogs(workplace.LOG, 'WARNING'):
            workplace.remove(str(self.path), {os.getuid()})

    def test_what_cannot_be_removed_is_named(self) -> None:
        self.path.mkdir()
        self.chown.side_effect = OSError('planned')
        self.enterContext(mock.patch(
            'os.lstat', autospec=True, return_value=mock.Mock(
                st_mode=stat.S_IFDIR, st_uid=64055)))
        with self.assertLogs(workplace.LOG, 'ERROR') as logged:
            workplace.remove(str(self.path), {os.getuid(), 64055})
        self.assertIn('%s stays behind' % self.path, logged.output[0])
