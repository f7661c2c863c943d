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

"""``nova image-create`` of an image-backed server, end to end in Nova."""

from unittest import mock

from tests.functional import base


class ImageBackedTest(base.QuiesceTestBase):

    def test_required_and_healthy(self) -> None:
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual('2', record['quiesce_filesystems'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        # The first abort is in case an old mirror was left over.
        self.assertEqual([False, True], self.frozen_at_cut)

    def test_required_and_dead_agent(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.connected = False
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'install and start')
        self.assertEqual([], self.frozen_at_cut)

    def test_required_and_paused(self) -> None:
        server = self.boot(base.QUIESCED)
        self.api.post_server_action(server['id'], {'pause': None})
        self._wait_for_state_change(server, 'PAUSED')
        self.guest.running = False
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('resume it first', self.fault_of(server))

    def test_required_on_a_back_end_without_a_freeze(self) -> None:
        server = self.boot(base.QUIESCED)
        disk = mock.Mock()
        disk.direct_snapshot.return_value = 'rbd://snapshot'
        with mock.patch('nova.virt.libvirt.imagebackend.Backend.'
                        'by_libvirt_path', autospec=True,
                        return_value=disk):
            image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'without a freeze')
        disk.cleanup_direct_snapshot.assert_called_once()

    def test_required_and_shut_off(self) -> None:
        server = self.boot(base.QUIESCED)
        self._stop_server(server)
        image_id = self.create_image(server)
        self.assertEqual(
            'offline', self.properties_of(image_id)['quiesce_consistency'])
        self.assertEqual([], self.guest.calls)

    def test_required_and_suspended(self) -> None:
        server = self.boot(base.QUIESCED)
        self.api.post_server_action(server['id'], {'suspend': None})
        self._wait_for_state_change(server, 'SUSPENDED')
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('suspended', self.fault_of(server))

    def test_misspelt_requirement_is_kept(self) -> None:
        server = self.boot({**base.PREFERRED, 'os_require_quiesce': 'ture'})
        self.guest.connected = False
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'not connected')

    def test_preferred_and_dead_agent(self) -> None:
        server = self.boot(base.PREFERRED)
        self.guest.connected = False
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('not connected', record['quiesce_reason'])

    def test_required_since_it_was_booted(self) -> None:
        server = self.boot(base.PREFERRED)
        self.set_on_parent(os_require_quiesce='yes')
        self.guest.connected = False
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'install and start')

    def test_required_as_it_was_booted(self) -> None:
        server = self.boot(base.QUIESCED)
        self.set_on_parent(os_require_quiesce='no')
        self.guest.connected = False
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'install and start')

    def test_parent_is_gone(self) -> None:
        server = self.boot(base.QUIESCED)
        self.glance.delete(None, self.parent_id)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        warning, = (
            line for line in self.stdlog.logger.output.splitlines()
            if 'that the instance was booted with count' in line)
        self.assertIn('[nova_quiesce.properties]', warning)
        self.assertIn(self.parent_id, warning)

    def test_opted_out(self) -> None:
        server = self.boot({**base.PREFERRED, 'os_skip_quiesce': 'yes'})
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('opts out', record['quiesce_reason'])
        self.assertEqual([], self.guest.calls)

    def test_required_and_no_channel(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.configured = False
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'no guest agent channel')
        self.assertEqual([], self.guest.calls)

    def test_host_is_switched_off(self) -> None:
        self.flags(mode='off', group='quiesce')
        server = self.boot(base.PREFERRED)
        record = self.properties_of(self.create_image(server))
        self.assertIn('switched off', record['quiesce_reason'])
        self.assertEqual([], self.guest.calls)

    def test_required_and_host_is_switched_off(self) -> None:
        self.flags(mode='off', group='quiesce')
        server = self.boot(base.QUIESCED)
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'switched off')
        self.assertEqual([], self.guest.calls)

    def test_not_asked_for(self) -> None:
        server = self.boot({})
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertEqual([], self.guest.calls)

    def test_parents_record_is_not_inherited(self) -> None:
        server = self.boot({**base.PREFERRED, **base.PARENT})
        self.guest.connected = False
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertEqual(set(base.PARENT), set(record))
        self.assertFalse(set(base.PARENT.values()) & set(record.values()))
