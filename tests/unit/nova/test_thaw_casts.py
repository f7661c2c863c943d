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

"""The thaws that nova-api casts, seen as they arrive."""

import inspect
import unittest
from unittest import mock

from nova_quiesce.nova import thaw_casts


class ObserveThawsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.virtapi = mock.Mock()
        self.manager = self.virtapi._compute
        self.original = self.manager.unquiesce_instance
        self.saw = mock.Mock()

    def test_seen_before_the_manager_acts(self) -> None:
        calls = mock.Mock()
        calls.attach_mock(self.saw, 'saw')
        calls.attach_mock(self.original, 'manager')
        thaw_casts.observe_thaws(self.virtapi, self.saw)
        answer = self.manager.unquiesce_instance(
            'context', instance='instance', mapping=['volume'])
        self.assertIs(self.original.return_value, answer)
        self.assertEqual([
            mock.call.saw('context', 'instance', ['volume']),
            mock.call.manager('context', 'instance', mapping=['volume'])],
            calls.mock_calls)

    def test_nova_waits_for_it_as_it_stops(self) -> None:
        thaw_casts.observe_thaws(self.virtapi, self.saw)
        self.assertTrue(inspect.ismethod(self.manager.unquiesce_instance))

    def test_what_fails_here_keeps_nobody_frozen(self) -> None:
        self.saw.side_effect = RuntimeError
        thaw_casts.observe_thaws(self.virtapi, self.saw)
        with self.assertLogs('nova_quiesce.nova.thaw_casts', 'ERROR'):
            self.manager.unquiesce_instance('context', 'instance')
        self.original.assert_called_once_with(
            'context', 'instance', mapping=None)

    def test_what_nova_raises_is_raised(self) -> None:
        self.original.side_effect = ValueError
        thaw_casts.observe_thaws(self.virtapi, self.saw)
        with self.assertRaises(ValueError):
            self.manager.unquiesce_instance('context', 'instance')

    def test_no_manager(self) -> None:
        with self.assertLogs('nova_quiesce.nova.thaw_casts', 'ERROR'):
            thaw_casts.observe_thaws(object(), self.saw)
