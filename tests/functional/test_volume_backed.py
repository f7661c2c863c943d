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

import time

from nova.tests.functional.api import client

from nova_quiesce import lease as leases
from tests.functional import base

SOON = 20


class VolumeBackedTest(base.QuiesceTestBase):

    def _record_of(self, image_id: str) -> dict[str, str]:
        """The record, which is written a moment after the request."""
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            record = self.properties_of(image_id)
            if record:
                return record
            time.sleep(0.1)
        raise self.failureException('no record appeared on the image')

    def test_required_and_healthy(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        frozen: list[bool] = []
        self.cinder.on_snapshot = lambda: frozen.append(self.guest.frozen)
        record = self._record_of(self.create_image(server))
        self.assertEqual([True], frozen)
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertFalse(self.guest.frozen)

    def test_required_and_dead_agent(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        self.guest.connected = False
        images = set(self.glance.images)
        error = self.assertRaises(client.OpenStackApiException,
                                  self.create_image, server)
        self.assertEqual(409, error.response.status_code)
        self.assertIn('install and start', error.response.text)
        self.assertEqual(images, set(self.glance.images))
        self.assertEqual({}, self.cinder.volume_snapshots)

    def test_required_and_zero_frozen(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        self.guest.filesystems = 0
        error = self.assertRaises(client.OpenStackApiException,
                                  self.create_image, server)
        self.assertEqual(409, error.response.status_code)
        self.assertIn('no filesystem', error.response.text)
        self.assertFalse(self.guest.frozen)

    def test_preferred_and_dead_agent(self) -> None:
        server = self.boot_from_volume(base.PREFERRED)
        self.guest.connected = False
        record = self._record_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('not connected', record['quiesce_reason'])

    def test_not_asked_for(self) -> None:
        server = self.boot_from_volume({})
        record = self._record_of(self.create_image(server))
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

    def _assert_refused(self, server: dict[str, str], reason: str) -> None:
        images = set(self.glance.images)
        error = self.assertRaises(client.OpenStackApiException,
                                  self.create_image, server)
        self.assertEqual(409, error.response.status_code)
        self.assertIn(reason, error.response.text)
        self.assertEqual(images, set(self.glance.images))
        self.assertEqual({}, self.cinder.volume_snapshots)

    def test_required_since_it_was_booted(self) -> None:
        server = self.boot_from_volume(base.PREFERRED)
        self.set_on_parent(os_require_quiesce='yes')
        self.guest.connected = False
        self._assert_refused(server, 'install and start')
        self.guest.connected = True
        record = self._record_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])

    def test_misspelt_requirement_is_kept(self) -> None:
        server = self.boot_from_volume(
            {**base.PREFERRED, 'os_require_quiesce': 'ture'})
        self.guest.connected = False
        self._assert_refused(server, 'install and start')

    def test_recording_switched_off(self) -> None:
        self.flags(record=False, group='quiesce')
        server = self.boot_from_volume(base.QUIESCED)
        image_id = self.create_image(server)
        end = time.monotonic() + SOON
        while self.guest.frozen and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual({}, self.driver._recordings._superseded)
        self.assertEqual({}, self.properties_of(image_id))

    def test_failing_cinder(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)

        def fail() -> None:
            raise RuntimeError('Cinder is down')

        self.cinder.on_snapshot = fail
        self.assertRaises(client.OpenStackApiException,
                          self.create_image, server)
        end = time.monotonic() + SOON
        while self.guest.frozen and time.monotonic() < end:
            time.sleep(0.05)
        self.assertFalse(self.guest.frozen)
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)

    def _snapshot_during(self, **action: object) -> dict[str, str]:
        """Let another operation begin while volumes are snapshotted."""
        server = self.boot_from_volume(base.QUIESCED)
        frozen: list[bool] = []

        def act() -> None:
            self.assertTrue(self.guest.frozen)
            self.assertEqual(1, len(self.leases.read_all()[0]))
            self.api.post_server_action(server['id'], action)
            end = time.monotonic() + SOON
            while self.guest.frozen and time.monotonic() < end:
                time.sleep(0.05)
            frozen.append(self.guest.frozen)

        self.cinder.on_snapshot = act
        image_id = self.ask_for_image(server)
        self.assertEqual([False], frozen)
        self.assertEqual(1, self.guest.calls.count('fsThaw'))
        return self._record_of(image_id)

    def test_pause_meets_a_thawed_guest(self) -> None:
        record = self._snapshot_during(pause=None)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('paused', record['quiesce_reason'])

    def test_suspend_meets_a_thawed_guest(self) -> None:
        record = self._snapshot_during(suspend=None)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('suspended', record['quiesce_reason'])

    def test_soft_stop_meets_a_thawed_guest(self) -> None:
        stop = {'os-stop': None}
        record = self._snapshot_during(**stop)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('stopped', record['quiesce_reason'])

    def test_soft_reboot_meets_a_thawed_guest(self) -> None:
        record = self._snapshot_during(reboot={'type': 'SOFT'})
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('rebooted', record['quiesce_reason'])

    def test_lease_that_was_left_behind(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        domain = self.driver._find_by_uuid(server['id'])
        self.leases.acquire(leases.Lease.new(
            server['id'], 'req-1', 'a test', 60, domain.ID()))
        self.guest.frozen = True
        self.driver.init_host('compute1')
        self.assertFalse(self.guest.frozen)

    def test_stopping_service_thaws(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        self.cinder.on_snapshot = lambda: self.driver.cleanup_host('host')
        image_id = self.create_image(server)
        self.assertFalse(self.guest.frozen)
        record = self._record_of(image_id)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('stopped', record['quiesce_reason'])
