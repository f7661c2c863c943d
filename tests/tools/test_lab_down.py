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

"""What taking a lab down leaves alone: the other labs of the machine."""

import pathlib
import sys
import tempfile
from typing import Any
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import down
from quiescelab import layout
from quiescelab import proc
from quiescelab.services import libvirt

OURS = proc.Process(11, 1)
OTHERS = proc.Process(12, 1)
ARGUMENTS = {OURS: ['python3', '/lab/venv/bin/nova-compute'],
             OTHERS: ['python3', '/lab2/venv/bin/nova-compute']}


class DownTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.lab = mock.Mock(paths=layout.Layout(pathlib.Path('/lab')))
        self.lab.supervisor.everyone.return_value = []
        self.ended: list[proc.Process] = []
        self.parts = {}
        for name, answer in (
                ('proc.everyone', []), ('proc.of_users', list(ARGUMENTS)),
                ('users.made', ['nq-nova']), ('users.remove', None),
                ('rootwrap.remove', None), ('packages.restore_policy', None),
                ('libvirt.remove_mount_points', None), ('_unmount', None),
                ('_remove_files', None)):
            self.parts[name] = self._patch(name, return_value=answer)
        self._patch('proc.arguments', side_effect=ARGUMENTS.__getitem__)
        self._patch('daemon.end', side_effect=lambda family, seconds:
                    self.ended.extend(family))

    def _patch(self, name: str, **how: Any) -> Any:
        patched = mock.patch('quiescelab.down.%s' % name, autospec=True, **how)
        self.addCleanup(patched.stop)
        return patched.start()

    def test_processes_of_another_lab_go_on(self) -> None:
        down.run(self.lab, keep=True)
        self.assertEqual([OURS], self.ended)

    def test_guests_of_a_second_host_end(self) -> None:
        self.parts['proc.of_users'].return_value = []
        self.parts['proc.everyone'].return_value = [OURS, OTHERS]
        homes = {OURS: '/lab/second', OTHERS: '/lab2/second'}
        with mock.patch.object(
                libvirt, 'belongs', autospec=True,
                side_effect=lambda paths, one: str(paths.root) == homes[one]):
            down.run(self.lab, keep=True)
        # Before the services and after them.
        self.assertEqual([OURS, OURS], self.ended)

    def test_users_are_kept_for_another_lab(self) -> None:
        down.run(self.lab, keep=True)
        self.parts['users.remove'].assert_not_called()

    def test_users_go_with_everything(self) -> None:
        down.run(self.lab, keep=False)
        self.parts['users.remove'].assert_called_once_with(self.lab)


class MountPointsTest(unittest.TestCase):

    def test_only_what_is_ours_and_empty_goes(self) -> None:
        scratch = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        made = [scratch / name for name in ('ours', 'used', 'theirs')]
        for path in made:
            path.mkdir()
        (made[1] / 'socket').touch()
        lab = mock.Mock()
        lab.state.get.side_effect = [True, True, None]
        with mock.patch.object(libvirt, '_binds', autospec=True,
                               return_value=dict.fromkeys(made)):
            libvirt.remove_mount_points(lab)
        self.assertEqual({'used', 'theirs'}, {
            path.name for path in scratch.iterdir()})
