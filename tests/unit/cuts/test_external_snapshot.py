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

"""The guest that Nova snapshots volumes of, wrapped."""

from collections import abc
import unittest
from unittest import mock

from nova_quiesce.cuts import external_snapshot


class SnapshottedGuestTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.guest = mock.Mock(spec=['snapshot', 'get_xml_desc'])

    def _wrap(self) -> external_snapshot.SnapshottedGuest:
        return external_snapshot.SnapshottedGuest(
            self.guest, lambda make: make())

    def test_libvirt_freezes_nothing(self) -> None:
        self._wrap().snapshot('xml', disk_only=True, quiesce=True)
        self.guest.snapshot.assert_called_once_with(
            'xml', disk_only=True, quiesce=False)

    def test_second_try_gets_the_same_error(self) -> None:
        wrapped = self._wrap()
        self.guest.snapshot.side_effect = OSError('planned')
        for _ in range(2):
            with self.assertRaisesRegex(OSError, 'planned'):
                wrapped.snapshot('xml', quiesce=True)
        self.guest.snapshot.assert_called_once()

    def test_nothing_is_raised_once_it_is_made(self) -> None:
        def cut(make: abc.Callable[[], None]) -> None:
            make()
            raise RuntimeError('no more threads')

        wrapped = external_snapshot.SnapshottedGuest(self.guest, cut)
        with self.assertLogs(external_snapshot.LOG.logger, 'ERROR') as told:
            wrapped.snapshot('xml', quiesce=True)
        self.assertIn('no more threads', told.output[0])
        self.guest.snapshot.assert_called_once()

    def test_everything_else_is_the_guests(self) -> None:
        wrapped = self._wrap()
        self.assertIs(self.guest.get_xml_desc, wrapped.get_xml_desc)
