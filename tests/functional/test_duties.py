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

"""The duties of volume-backed snapshots, and who does them when."""

from collections import abc
import threading
import typing

import fixtures
import glanceclient.exc
from nova import exception
from nova.tests import fixtures as nova_fixtures

from tests.functional import base
from tests.functional import cinder

SHORT = {**base.QUIESCED, 'os_quiesce_max_freeze_time': '1'}
LAPSED = 'thawed at its deadline of 1 s'
ANOTHER = 'a0b1c2d3-0000-4000-8000-000000000000'


class DutiesTest(base.QuiesceTestBase):

    # nova-api does not wait for the thaw that it asks for.
    CAST_AS_CALL = False

    def _stick(self) -> None:
        self.cinder.is_stuck = True
        # Nova's service does not stop before.
        self.addCleanup(setattr, self.cinder, 'is_stuck', False)

    def _assert_nothing_owed(self) -> None:
        self.wait_until(lambda: not self.duties(), 'something is owed')

    def _assert_good(self, image_id: str) -> None:
        record = self.record_of(image_id)
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual('active', self.glance.images[image_id]['status'])

    def _fail_second_volume(self, properties: dict[str, str],
                            ) -> dict[str, typing.Any]:
        asked: list[bool] = []

        def fail_second() -> None:
            asked.append(True)
            if len(asked) == 2:
                raise exception.NovaException('in maintenance')

        server = self.boot_from_volume(properties, cinder.DATA_VOLUME)
        self.cinder.on_snapshot = fail_second
        self.assert_answered(500, server)
        self.cinder.on_snapshot = lambda: None
        return server

    def test_failed_request_owes_nothing_to_the_next_image(self) -> None:
        server = self._fail_second_volume(base.QUIESCED)
        self._stop_server(server)
        image_id = self.create_image(server)
        self._assert_nothing_owed()
        self.assert_released()
        self.assertEqual({}, self.properties_of(image_id))
        self.assertEqual('active', self.glance.images[image_id]['status'])
        self.assertEqual(3, len(self.cinder.volume_snapshots))

    def test_failed_request_and_a_retry(self) -> None:
        server = self._fail_second_volume(base.QUIESCED)
        self.assert_released()
        self._assert_good(self.create_image(server))
        self._assert_nothing_owed()
        self.assertEqual(3, len(self.cinder.volume_snapshots))
        # Cinder took the labels of two.
        self.assertEqual(2, len(self.cinder.labels))

    def test_image_of_another_tool_is_left_alone(self) -> None:
        """One that names only some of the request's volume snapshots."""
        self._stick()
        server = self.boot_from_volume(SHORT, cinder.DATA_VOLUME)
        image_id = self.ask_for_image(server)
        mapping = self.glance.images[image_id]['properties'][
            'block_device_mapping']
        other = self.glance.create(None, {
            'name': 'other', 'properties': {
                'owner': self.api.project_id, 'block_device_mapping':
                [*mapping[1:], {**mapping[0], 'snapshot_id': ANOTHER}]}})
        self.assert_put_away(server, image_id, LAPSED)
        self._assert_nothing_owed()
        self.assertEqual({}, self.properties_of(other['id']))
        self.assertEqual('active', self.glance.images[other['id']]['status'])

    def test_volume_snapshot_of_somebody_else(self) -> None:
        """It is complete while the guest is frozen, and counts for nothing."""
        self._stick()
        server = self.boot_from_volume(base.QUIESCED)
        self.cinder.on_snapshot = lambda: self.cinder.volume_snapshots.update(
            {ANOTHER: {'id': ANOTHER, 'status': 'available',
                       'volume_id': self.cinder.IMAGE_BACKED_VOL}})
        image_id = self.ask_for_image(server)
        # Nova's manager would look by now, and each look of the driver's.
        self.assertTrue(self.guest.frozen)
        self.cinder.is_stuck = False
        self._assert_good(image_id)
        self.assertNotIn(ANOTHER, self.cinder.labels)

    def test_image_that_names_a_lost_volume_snapshot(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        for mapping in ('[{"snapshot_id": "%s"}]' % ANOTHER, '{not json'):
            self.glance.create(None, {'name': 'stray', 'properties': {
                'owner': self.api.project_id,
                'block_device_mapping': mapping}})
        self._assert_good(self.create_image(server))

    def test_record_that_glance_would_lose(self) -> None:
        """nova-api's upload ends after the record could be written."""
        create = nova_fixtures.GlanceFixture.create
        written: list[str] = []

        def create_late(glance: typing.Any, context: object,
                        metadata: dict[str, object],
                        data: object = None) -> object:
            image = create(glance, context, {**metadata, 'status': 'saving'})
            threading.Timer(1, image.update, kwargs={
                'status': 'active',
                'properties': dict(image['properties'])}).start()
            return image

        server = self.boot_from_volume(base.PREFERRED)
        self.guest.connected = False
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.GlanceFixture.create', create_late))
        self.on_record = lambda image_id: written.append(
            self.glance.images[image_id]['status'])
        record = self.record_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self._assert_nothing_owed()
        self.assertEqual(['active'], written)

    def test_record_that_glance_does_not_take_at_first(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        refused: list[str] = []

        def refuse_once(image_id: str) -> None:
            if not refused:
                refused.append(image_id)
                raise glanceclient.exc.HTTPServiceUnavailable()

        self.on_record = refuse_once
        image_id = self.create_image(server)
        self._assert_good(image_id)
        self.assertEqual([image_id], refused)

    def test_lapsed_and_owner_makes_it_active_again(self) -> None:
        """It is put away once, whatever cannot be recorded."""
        self._stick()
        server = self.boot_from_volume(SHORT)
        tried: list[str] = []

        def refuse(image_id: str) -> None:
            tried.append(image_id)
            raise glanceclient.exc.HTTPOverLimit()

        self.on_record = refuse
        image_id = self.ask_for_image(server)
        self.wait_until(lambda: self.glance.images[image_id]['status'] ==
                        'deactivated', 'the image can still be booted')
        self.glance.images[image_id]['status'] = 'active'
        before = len(tried)
        self.wait_until(lambda: len(tried) > before + 1, 'nothing is tried')
        self.assertEqual('active', self.glance.images[image_id]['status'])

    def test_deactivation_is_forbidden(self) -> None:
        self.may_deactivate = False
        self._stick()
        server = self.boot_from_volume(SHORT)
        image_id = self.ask_for_image(server)
        self._assert_nothing_owed()
        self.assertTrue(self.glance.images[image_id]['os_hidden'])
        self.assertEqual('crash', self.properties_of(image_id)[
            'quiesce_consistency'])
        self.assertIn('image %s is hidden' % image_id, self.fault_of(server))

    def test_lapsed_and_not_recorded(self) -> None:
        """The operator wants no records; inherited ones go as well."""
        self.flags(record=False, group='quiesce')
        self._stick()
        server = self.boot_from_volume(SHORT)
        self.set_on_parent(**base.PARENT)
        image_id = self.ask_for_image(server)
        self.glance.images[image_id]['properties'].update(base.PARENT)
        self._assert_nothing_owed()
        self.assertEqual('deactivated', self.glance.images[image_id]['status'])
        self.assertEqual({}, self.properties_of(image_id))
        self.assertEqual({}, self.cinder.labels)

    def test_lapsed_request_and_the_next_one(self) -> None:
        """A newer request does not end what an older one owes."""
        self._stick()
        server = self.boot_from_volume(SHORT)
        lapsed = self.ask_for_image(server, 'lapsed')
        hidden = self.glance.images.pop(lapsed)
        self.assert_released()
        self.cinder.is_stuck = False
        self._assert_good(self.create_image(server, 'next'))
        self.assertEqual(1, len(self.duties()))
        self.glance.images[lapsed] = hidden
        self.assert_put_away(server, lapsed, LAPSED)
        self._assert_nothing_owed()

    # What outlives the process

    def _lose_memory(self) -> None:
        """Leave undone what a nova-compute that is killed leaves undone."""
        requests = self.driver._compute_host.requests
        requests.__dict__['judge'] = lambda *args: None
        requests._is_over.set()

    def _restart(self) -> None:
        self.restart_compute_service('compute1')

    def _snapshot_and_die(self, properties: dict[str, str],
                          ) -> tuple[dict[str, typing.Any], str]:
        server = self.boot_from_volume(properties)
        self._lose_memory()
        image_id = self.create_image(server)
        self.assert_released()
        self.assertEqual({}, self.properties_of(image_id))
        self._restart()
        self.assertEqual(1, len(self.duties()))
        return server, image_id

    def test_nova_compute_dies(self) -> None:
        """Nothing is proven then; the next request lends its authority."""
        server, image_id = self._snapshot_and_die(base.QUIESCED)
        self.wait_until(lambda: 'is not written yet' in self.fault_of(server),
                        'the tenant is not told')
        self.assertEqual('active', self.glance.images[image_id]['status'])
        self.assertIn('is not written yet', self.stdlog.logger.output)
        self._assert_good(self.create_image(server, 'next'))
        self._assert_put_away_at_last(image_id)

    def _assert_put_away_at_last(self, image_id: str) -> None:
        self.wait_until(lambda: self.glance.images[image_id]['status'] ==
                        'deactivated', 'the image can still be booted')
        self.assertIn('nova-compute was stopped',
                      self.record_of(image_id)['quiesce_reason'])
        self._assert_nothing_owed()

    def test_nova_compute_dies_and_another_server_asks(self) -> None:
        other = self.boot(base.QUIESCED)
        _, image_id = self._snapshot_and_die(base.QUIESCED)
        self.create_image(other, 'other')
        self._assert_put_away_at_last(image_id)

    def test_nova_compute_dies_and_a_server_is_rebooted(self) -> None:
        server, image_id = self._snapshot_and_die(base.QUIESCED)
        self._reboot_server(server)
        self._assert_put_away_at_last(image_id)

    def test_nova_compute_dies_where_it_is_only_preferred(self) -> None:
        server, image_id = self._snapshot_and_die(base.PREFERRED)
        self.create_image(server, 'next')
        record = self.record_of(image_id)
        self.assertEqual('crash', record['quiesce_consistency'])
        self._assert_nothing_owed()
        self.assertEqual('active', self.glance.images[image_id]['status'])

    def test_nova_compute_is_restarted_before_the_cast(self) -> None:
        """The cast that still comes has the list, and the authority."""
        casts: list[abc.Callable[[], object]] = []
        self._stick()
        server = self.boot_from_volume(base.QUIESCED)
        with fixtures.MonkeyPatch(
                'nova.compute.rpcapi.ComputeAPI.unquiesce_instance',
                lambda api, context, instance, mapping=None: casts.append(
                    lambda: api.unquiesce_instance(
                        context, instance, mapping))):
            image_id = self.ask_for_image(server)
        self.cinder.is_stuck = False
        self._restart()
        self.assert_released()
        cast, = casts
        cast()
        self.wait_until(lambda: self.glance.images[image_id]['status'] ==
                        'deactivated', 'the image can still be booted')
        self.assertIn('nova-compute was stopped',
                      self.record_of(image_id)['quiesce_reason'])
        self._assert_nothing_owed()

    def test_nova_api_gives_up_before_the_freeze(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        manager = self.computes['compute1'].manager
        quiesce = manager.driver._volume_backed.quiesce

        def remember(context: typing.Any, instance: typing.Any) -> None:
            self.guest.after['fsInfo'] = lambda: manager.unquiesce_instance(
                context, instance, mapping=None)
            quiesce(context, instance)

        manager.driver._volume_backed.quiesce = remember
        self.assertIn('gave up', self.assert_answered(409, server))
        self.assertEqual(['fsInfo'], self.guest.calls)
        self._assert_nothing_owed()
