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

"""Images told apart by their requests, and their end, on real parts."""

from quiescelab import errors
from quiescelab import imaging
from quiescelab import logs
from quiescelab import volumes
from quiescelab import waiting

from tests.integration import base
from tests.integration import faults

MAINTENANCE = 'maintenance'


class DutiesTest(faults.HeldFreezeTestCase):
    """A server with two volumes, whose image requires quiesce.

    Its freezes may last for a few seconds.
    """

    image = faults.LIMITED
    properties = faults.LIMITED_PROPERTIES
    second: str

    @classmethod
    def prepare(cls) -> None:
        """Give the server a second volume."""
        super().prepare()
        cls.second = cls.user.make_volume('test-second')
        cls.addClassCleanup(cls._remove_second)
        cls.user.attach_volume(cls.server, cls.second)

    @classmethod
    def _remove_second(cls) -> None:
        cls.user.remove_volume_snapshots()
        cls.user.delete(cls.server)
        cls.user.remove_volume(cls.second)

    def assert_good(self, image_id: str,
                    calls: logs.AgentCalls | None = None) -> None:
        """An image is healthy, and so are its volume snapshots."""
        self.assert_healthy_image(image_id, calls)
        image = self.user.image(image_id)
        self.assertEqual('active', image['status'])
        for snapshot_id in volumes.of_image(image):
            snapshot = self.user.volume_snapshot(snapshot_id)
            self.assertEqual('available', snapshot['status'])
            self.assertEqual('filesystem', snapshot['metadata'][
                'quiesce_consistency'])

    def _refuse_second_volume(self) -> None:
        self._set_status_of_second(MAINTENANCE)
        self.addCleanup(self._accept_second_volume)
        with self.assertRaises(errors.LabError):
            self.create_image(self.new_name())
        self.seconds_until_thawed()

    def _accept_second_volume(self) -> None:
        self._set_status_of_second('in-use')

    def _set_status_of_second(self, status: str) -> None:
        volumes.Owner(self.lab.client('admin')).set_volume_status(
            self.second, status)

    def test_failed_request_owes_nothing_to_the_next_image(self) -> None:
        before = len(self.user.all_volume_snapshots())
        self._refuse_second_volume()
        self._accept_second_volume()
        self.user.act(self.server, 'os-stop')
        self.wait_for_status('SHUTOFF')
        self.addCleanup(self._start_again)
        image_id = self.create_image(self.new_name())
        for snapshot_id in volumes.of_image(self.user.image(image_id)):
            self.user.complete(snapshot_id)
        self.wait_until_nothing_is_owed()
        self.assertEqual([], self.leases())
        image = self.user.image(image_id)
        self.assertEqual('active', image['status'])
        self.assertEqual({}, imaging.record_of(image))
        # One that the failed request left behind, and those of the image.
        self.assertEqual(before + 3, len(self.user.all_volume_snapshots()))

    def _start_again(self) -> None:
        self.user.act(self.server, 'os-start')
        self.user.ready(self.server)

    def test_failed_request_and_a_retry(self) -> None:
        self._refuse_second_volume()
        self._accept_second_volume()
        self.assert_good(self.create_image(self.new_name()))

    def test_lapsed_request_and_the_next_one(self) -> None:
        lapsed = self.hold_freeze()
        # Nobody can record until it goes on.
        self.stop_for_a_while('glance-api')
        self.seconds_until_thawed()
        self.wait_until_lease_ends()
        self.lab.go_on('cinder-volume')
        following = self.in_background(self.create_image, self.new_name())
        waiting.wait(lambda: len(self.duties()) == 2, base.SOON,
                     'the next request')
        self.lab.go_on('glance-api')
        self.assert_good(following.result())
        self.assert_put_away(lapsed, faults.DEADLINE)
        self.wait_until_nothing_is_owed()

    def test_volume_snapshot_of_somebody_else(self) -> None:
        """The other one is complete first, and counts for nothing."""
        self.set_hook(freeze_delay=2)
        calls = self.agent_calls()
        request = self.in_background(self.create_image, self.new_name())
        self.wait_until_freeze_is_sent(calls)
        other = self.user.snapshot_volume(self.second)
        self.assert_good(request.result(), calls)
        self.assertEqual({}, self.user.volume_snapshot(other['id'])[
            'metadata'])
