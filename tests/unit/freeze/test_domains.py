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

"""Where a guest is, by its domain."""

import unittest
from unittest import mock

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors


def _domain(number: int, is_saved: bool = False) -> mock.Mock:
    return mock.Mock(**{
        'ID.return_value': number,
        'hasManagedSaveImage.return_value': int(is_saved),
        'state.return_value': [libvirt.VIR_DOMAIN_RUNNING,
                               libvirt.VIR_DOMAIN_RUNNING_RESTORED]})


class PresenceTest(unittest.TestCase):

    def _presence(self, *looks: object) -> domains.Presence:
        return domains.presence_of(mock.Mock(side_effect=looks))

    def test_it_runs(self) -> None:
        self.assertEqual(domains.Presence(7), self._presence(_domain(7)))

    def test_it_is_suspended_to_disk(self) -> None:
        self.assertEqual(domains.Presence(None, is_saved=True),
                         self._presence(_domain(-1, is_saved=True)))

    def test_it_is_restored_between_two_questions(self) -> None:
        """It is frozen still."""
        self.assertEqual(domains.Presence(8),
                         self._presence(_domain(-1), _domain(8)))

    def test_it_is_gone(self) -> None:
        for gone in (errors.GuestGone(), fixture.libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN, 'no domain')):
            self.assertEqual(domains.Presence(None), self._presence(gone))
            self.assertEqual(domains.Presence(None),
                             self._presence(_domain(-1), gone))
        self.assertEqual(domains.Presence(None),
                         self._presence(_domain(-1), _domain(-1)))

    def test_it_cannot_be_told(self) -> None:
        with self.assertRaises(errors.HypervisorUnreachable):
            self._presence(fixture.libvirt_error(
                libvirt.VIR_ERR_RPC, 'the connection broke'))
