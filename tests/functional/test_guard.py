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

"""Snapshots on a host whose thaw guard does not work."""

from unittest import mock

from nova.tests.functional.api import client

from nova_quiesce.freeze.guard import guard_client
from tests.functional import base


class NoGuardTest(base.QuiesceTestBase):

    def setUp(self) -> None:
        super().setUp()
        self._replace_guard()
        self.flags(guard='required', group='quiesce')

    def _replace_guard(self) -> None:
        guard = mock.create_autospec(guard_client.GuardClient, instance=True)
        guard.is_usable.return_value = False
        guard.let_go_at = None
        guard.watch.side_effect = guard_client.GuardUnavailable()
        self.driver._compute_host.freezer._guard = guard

    def test_required_fails_before_anything_is_copied(self) -> None:
        server = self.boot(base.QUIESCED)
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('thaw guard', self.fault_of(server))
        self.assertEqual([], self.guest.calls)
        self.assertEqual([], self.frozen_at_cut)

    def test_preferred_is_labelled(self) -> None:
        server = self.boot(base.PREFERRED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('thaw guard', record['quiesce_reason'])
        self.assertEqual([], self.guest.calls)

    def test_required_of_volumes_is_refused(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        error = self.assertRaises(client.OpenStackApiException,
                                  self.create_image, server)
        self.assertEqual(409, error.response.status_code)
        self.assertIn('thaw guard', error.response.text)
        self.assertEqual([], self.guest.calls)

    def test_preferred_guard_is_no_condition(self) -> None:
        self.flags(guard='preferred', group='quiesce')
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
