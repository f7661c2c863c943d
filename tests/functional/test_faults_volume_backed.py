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

"""Faults of nova-api, Cinder and the broker while a guest is frozen.

Nova's API service asks for the freeze, has Cinder make the snapshots, and
asks for the thaw. Whatever goes wrong in between, the guest is thawed, at its
deadline at the latest.
"""

from collections import abc
import typing

import fixtures
from nova.compute import utils as compute_utils
from nova import exception

from tests.functional import base
from tests.functional import cinder

CALLS = ['fsInfo', 'fsFreeze', 'fsThaw']
#: The guest is thawed soon, where only the deadline thaws it.
SHORT = {**base.QUIESCED, 'os_quiesce_max_freeze_time': '1'}
LAPSED = 'thawed at its deadline of 1 s'
UNQUIESCE = 'nova.compute.rpcapi.ComputeAPI.unquiesce_instance'


def fail(*args: object, **kwargs: object) -> typing.NoReturn:
    """Fail, as what Nova's code meets is made to."""
    raise exception.NovaException('planned')


class VolumeBackedFaultTest(base.QuiesceTestBase):

    # nova-api does not wait for the thaw that it asks for.
    CAST_AS_CALL = False

    def _replace(self, name: str, new: abc.Callable[..., object]) -> None:
        self.useFixture(fixtures.MonkeyPatch(name, new))

    def _assert_lapsed(self) -> None:
        """Nobody asked for the thaw: the deadline did it."""
        self.wait_until(
            lambda: 'before its cut is complete' in self.stdlog.logger.output,
            'the deadline passed without a thaw')
        self.assert_released()
        self.assertEqual(CALLS, self.guest.calls)

    def test_failing_action_record(self) -> None:
        """nova-api fails to note the action, after the freeze."""
        server = self.boot_from_volume(SHORT)
        self._replace('nova.compute.api.API._record_action_start', fail)
        self.assert_answered(500, server)
        self.assertEqual({}, self.cinder.volume_snapshots)
        self._assert_lapsed()

    def _fail_event(self, method: str) -> None:
        original = getattr(compute_utils.EventReporter, method)

        def fail_one(reporter: typing.Any, *args: object) -> object:
            if reporter.event_name == 'api_snapshot_instance':
                fail()
            return original(reporter, *args)

        self._replace('nova.compute.utils.EventReporter.%s' % method,
                      fail_one)

    def test_failing_event_start(self) -> None:
        """nova-api fails to note the start of the volume snapshots."""
        server = self.boot_from_volume(SHORT)
        self._fail_event('__enter__')
        self.assert_answered(500, server)
        self.assertEqual({}, self.cinder.volume_snapshots)
        self._assert_lapsed()

    def test_failing_event_end(self) -> None:
        """nova-api fails to note the end of the volume snapshots."""
        server = self.boot_from_volume(SHORT)
        self._fail_event('__exit__')
        self.assert_answered(500, server)
        # Nova leaves them behind; no image refers to them.
        self.assertEqual(1, len(self.cinder.volume_snapshots))
        self._assert_lapsed()

    def test_failing_cast(self) -> None:
        """The broker does not take the request to thaw."""
        server = self.boot_from_volume(SHORT)
        self._replace(UNQUIESCE, fail)
        self.assert_answered(500, server)
        self._assert_lapsed()

    def test_lost_cast(self) -> None:
        """The broker loses the request to thaw, and an image is made.

        Nobody knows whose it is: nothing is done to it, and it is told.
        """
        self.flags(record_timeout=1, group='quiesce')
        server = self.boot_from_volume(SHORT)
        self._replace(UNQUIESCE, lambda *args, **kwargs: None)
        image_id = self.ask_for_image(server)
        self._assert_lapsed()
        self.wait_until(lambda: 'is not written yet' in self.fault_of(server),
                        'nobody was told')
        self.assertEqual({}, self.properties_of(image_id))
        self.assertEqual('active', self.glance.images[image_id]['status'])
        self.assertEqual(1, len(self.duties()))

    def test_api_that_dies(self) -> None:
        """nova-api is killed after the freeze: no image, and no request."""
        server = self.boot_from_volume(SHORT)
        self._replace(UNQUIESCE, lambda *args, **kwargs: None)
        self.cinder.on_snapshot = fail
        self.assert_answered(500, server)
        self.assertEqual({}, self.cinder.volume_snapshots)
        self._assert_lapsed()

    def test_failing_cinder(self) -> None:
        """Cinder refuses the snapshot of the only volume."""
        server = self.boot_from_volume(base.QUIESCED)
        self.cinder.on_snapshot = fail
        self.assert_answered(500, server)
        self.assertEqual({}, self.cinder.volume_snapshots)
        self.assert_released()
        self.assertEqual(CALLS, self.guest.calls)

    def _fail_second_volume(self) -> None:
        frozen: list[bool] = []

        def fail_second() -> None:
            frozen.append(self.guest.frozen)
            if len(frozen) == 2:
                fail()

        server = self.boot_from_volume(SHORT, cinder.DATA_VOLUME)
        self.cinder.on_snapshot = fail_second
        self.assert_answered(500, server)
        self.assertEqual([True, True], frozen)
        self.assertEqual(1, len(self.cinder.volume_snapshots))

    def test_failing_second_volume(self) -> None:
        """Cinder refuses the snapshot of the second of two volumes."""
        self._fail_second_volume()
        self.assert_released()
        self.assertEqual(CALLS, self.guest.calls)

    def _stick(self) -> None:
        self.cinder.is_stuck = True
        # Nova's service does not stop before.
        self.addCleanup(setattr, self.cinder, 'is_stuck', False)

    def test_failing_second_volume_and_stuck_first(self) -> None:
        """The same, and the first one's snapshot is never available.

        Nova waits for that before it thaws, without limit.
        """
        self._stick()
        self._fail_second_volume()
        self._assert_lapsed()

    def test_stuck_snapshot(self) -> None:
        """The snapshot of a volume is never available, and has an image."""
        self._stick()
        server = self.boot_from_volume(SHORT)
        image_id = self.ask_for_image(server)
        self._assert_lapsed()
        self.cinder.is_stuck = False
        self.assert_put_away(server, image_id, LAPSED)
        # The request to thaw comes at last, and finds nothing to do.
        self.wait_until(
            lambda: 'there is nothing to thaw' in self.stdlog.logger.output,
            'Nova goes on waiting')
        self.assertEqual(CALLS, self.guest.calls)

    # Two requests at once

    def _snapshot_meanwhile(
            self, server: dict[str, typing.Any],
            act: abc.Callable[[], None]) -> str:
        """Act in the freeze window of a snapshot.

        :returns: the id of its image
        """
        def act_once() -> None:
            self.cinder.on_snapshot = lambda: None
            act()
            # The other request left the freeze of this one alone.
            self.assertTrue(self.guest.frozen)
            self.assertEqual(1, len(self.leases.read_all()[0]))

        # So that the image is there as the record is written.
        self._stick()
        self.cinder.on_snapshot = act_once
        image_id = self.ask_for_image(server)
        self.assertTrue(self.guest.frozen)
        self.cinder.is_stuck = False
        self.assert_released()
        self.assertEqual(1, self.guest.calls.count('fsFreeze'))
        self.assertEqual(1, self.guest.calls.count('fsThaw'))
        return image_id

    def test_required_and_concurrent_request(self) -> None:
        """A second request is refused during the first one's freeze."""
        server = self.boot_from_volume(base.QUIESCED)
        image_id = self._snapshot_meanwhile(
            server, lambda: self.assertTrue(self.assert_answered(409, server)))
        record = self.record_of(image_id)
        self.assertEqual('filesystem', record['quiesce_consistency'])

    def test_preferred_and_concurrent_request(self) -> None:
        """A second request makes an image that claims nothing.

        Each has its own list, so that they are told apart.
        """
        server = self.boot_from_volume(base.PREFERRED)
        loser: list[str] = []

        def snapshot() -> None:
            loser.append(self.ask_for_image(server, 'loser'))
            self.record_of(loser[0])

        image_id = self._snapshot_meanwhile(server, snapshot)
        record = self.record_of(image_id)
        self.assertEqual('filesystem', record['quiesce_consistency'])
        record = self.properties_of(loser[0])
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('in its freeze window', record['quiesce_reason'])
