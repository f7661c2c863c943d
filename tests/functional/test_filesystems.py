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

"""The claims of a record about the guest's filesystems and disks."""

import typing

import fixtures

from tests.functional import base
from tests.functional import cinder

CALLS = ['fsInfo', 'fsFreeze', 'fsThaw']
ESP = ('/boot/efi', 'vda9', 'vfat', ['vda'])
#: Somebody else froze it, say.
LEFT_OUT = ('/data', 'vdb', 'ext4', ['vdb'])
NAMED = 'not frozen, because its type cannot be: /boot/efi (vfat)'
SHORT = 'only 2 of these 3 filesystems'
ROOT_ALONE = '; the image holds the root disk alone, without 1 attached volume'


class FilesystemsTest(base.QuiesceTestBase):

    def _label(self, level: str, reason: str,
               properties: dict[str, str] = base.PREFERRED) -> None:
        server = self.boot(properties)
        record = self.properties_of(self.create_image(server))
        self.assertEqual(level, record['quiesce_consistency'])
        self.assertIn(reason, record['quiesce_reason'])
        self.assertEqual('2', record['quiesce_filesystems'])
        self.assertEqual(CALLS, self.guest.calls)
        # Also what is not called consistent profits from the freeze.
        self.assertTrue(self.frozen_at_cut[-1])

    def test_required_and_a_type_that_cannot_be_frozen(self) -> None:
        self.guest.unfrozen = [ESP]
        self._label('filesystem', NAMED, base.QUIESCED)

    def test_required_and_one_is_left_out(self) -> None:
        self.guest.unfrozen = [ESP, LEFT_OUT]
        server = self.boot(base.QUIESCED)
        self.assert_failed(server, self.create_image(server), SHORT)
        self.assertEqual(CALLS, self.guest.calls)
        self.assert_released()

    def test_preferred_and_one_is_left_out(self) -> None:
        self.guest.unfrozen = [LEFT_OUT]
        self._label('crash', SHORT)

    def test_volume_backed_and_a_type_that_cannot_be_frozen(self) -> None:
        self.guest.unfrozen = [ESP]
        server = self.boot_from_volume(base.QUIESCED)
        record = self.record_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertIn(NAMED, record['quiesce_reason'])
        label, = self.cinder.labels.values()
        self.assertEqual(record['quiesce_reason'], label['quiesce_reason'])

    def test_volume_backed_required_and_one_is_left_out(self) -> None:
        # Before the first volume is snapshotted.
        self.guest.unfrozen = [LEFT_OUT]
        self.assert_refused(self.boot_from_volume(base.QUIESCED), SHORT)
        self.assertEqual(CALLS, self.guest.calls)
        self.assert_released()

    def test_volume_backed_preferred_and_one_is_left_out(self) -> None:
        self.guest.unfrozen = [LEFT_OUT]
        server = self.boot_from_volume(base.PREFERRED)
        record = self.record_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn(SHORT, record['quiesce_reason'])
        self.assertEqual(CALLS, self.guest.calls)

    def test_answer_that_is_no_list(self) -> None:
        self.guest.list_answer = [('/', None, b'ext4'), 'x' * 100000]
        self._label('filesystem', '2 filesystems stayed frozen during the '
                    'cut; the guest agent does not list which', base.QUIESCED)

    def test_names_chosen_to_do_harm(self) -> None:
        self.guest.unfrozen = [
            ('/\n\x1b[31m\U0001f600' + 'x' * 900, 'vd%d' % number, 'vfat', [])
            for number in range(900)]
        self._label('filesystem', '(vfat) and 89', base.QUIESCED)


class AttachedVolumeTest(base.QuiesceTestBase):
    """A volume is attached to an image-backed server."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self._boot_with_volume()

    def _boot_with_volume(self) -> dict[str, typing.Any]:
        self._create_parent(base.QUIESCED)
        request = self._build_server(
            image_uuid=self.parent_id, networks='none')
        request['block_device_mapping_v2'] = [
            {'boot_index': 0, 'source_type': 'image', 'uuid': self.parent_id,
             'destination_type': 'local'},
            {'boot_index': None, 'source_type': 'volume',
             'uuid': cinder.DATA_VOLUME, 'destination_type': 'volume'}]
        server = self.api.post_server({'server': request})
        active: dict[str, typing.Any] = self._wait_for_state_change(
            server, 'ACTIVE')
        return active

    def _reason(self) -> str:
        record = self.properties_of(self.create_image(self.server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        return record['quiesce_reason']

    def test_volume_is_not_in_the_image(self) -> None:
        self.assertTrue(self._reason().endswith(ROOT_ALONE))

    def test_volumes_that_cannot_be_looked_up(self) -> None:
        self.useFixture(fixtures.MockPatch(
            'nova_quiesce.instances.volume_ids', autospec=True,
            side_effect=RuntimeError('planned')))
        self.assertNotIn('attached', self._reason())
