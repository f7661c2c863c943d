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

"""``nova image-create`` of a volume-backed server, end to end in Nova."""

from tests.functional import base


class VolumeBackedTest(base.QuiesceTestBase):

    def test_required_and_healthy(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        frozen: list[bool] = []
        self.cinder.on_snapshot = lambda: frozen.append(self.guest.frozen)
        record = self.record_of(self.create_image(server))
        self.assertEqual([True], frozen)
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertFalse(self.guest.frozen)

    def test_required_and_dead_agent(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        self.guest.connected = False
        self.assert_refused(server, 'install and start')

    def test_preferred_and_dead_agent(self) -> None:
        server = self.boot_from_volume(base.PREFERRED)
        self.guest.connected = False
        record = self.record_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('not connected', record['quiesce_reason'])

    def test_not_asked_for(self) -> None:
        server = self.boot_from_volume({})
        record = self.record_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertEqual([], self.guest.calls)

    def test_parents_record_is_not_inherited(self) -> None:
        # Nova's API does not ask the driver about a server that is off, so
        # nobody could overwrite what the image inherits.
        server = self.boot_from_volume({**base.QUIESCED, **base.PARENT})
        self._stop_server(server)
        image_id = self.create_image(server)
        properties = self.glance.images[image_id]['properties']
        self.assertEqual('yes', properties['os_require_quiesce'])
        self.assertEqual({}, self.properties_of(image_id))

    def test_required_since_it_was_booted(self) -> None:
        server = self.boot_from_volume(base.PREFERRED)
        self.set_on_parent(os_require_quiesce='yes')
        self.guest.connected = False
        self.assert_refused(server, 'install and start')
        self.guest.connected = True
        record = self.record_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])

    def test_misspelt_requirement_is_kept(self) -> None:
        server = self.boot_from_volume(
            {**base.PREFERRED, 'os_require_quiesce': 'ture'})
        self.guest.connected = False
        self.assert_refused(server, 'install and start')

    def test_recording_switched_off(self) -> None:
        self.flags(record=False, group='quiesce')
        server = self.boot_from_volume(base.PREFERRED)
        image_id = self.create_image(server)
        self.assert_released()
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.wait_until(lambda: not self.duties(), 'something is owed')
        self.assertEqual({}, self.properties_of(image_id))
