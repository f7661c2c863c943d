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

"""``nova image-create`` of volume-backed servers, on real parts."""

import time
import typing

from tests.integration import snapshots

#: A record that was written at once was lost in one of eight.
TRIES = 5


class RequiredTest(snapshots.SnapshotTestCase):
    """The volume's image sets both properties."""

    shares_server = True

    from_volume = True

    def test_healthy(self) -> None:
        self.assert_healthy(self.snapshot_by_command())

    def test_dead_agent(self) -> None:
        name = self.new_name()
        with self.dead_agent():
            self.assert_conflict(name, 'install and start qemu-guest-agent')

    def test_failing_hook(self) -> None:
        self.set_hook(freeze_fail=7)
        self.assert_conflict(self.new_name(), 'status 7')

    def test_one_is_frozen_by_somebody_else(self) -> None:
        where = self.mount_another()
        self.guest.run('fsfreeze --freeze %s' % where)
        self.assert_conflict(self.new_name(), 'froze only 1 of these 2')


class PreferredTest(snapshots.SnapshotTestCase):
    """The volume's image sets hw_qemu_guest_agent alone."""

    image = 'test-volume-preferred'
    properties: typing.ClassVar = {'hw_qemu_guest_agent': 'yes'}
    from_volume = True

    def test_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_crash(taken, 'not connected')

    def test_record_stays_where_it_comes_early(self) -> None:
        """nova-api still ends its upload as the record could be written."""
        self.guest.hold_agent(120)
        self.addCleanup(self.guest.release_agent)
        for _ in range(TRIES):
            taken = self.snapshot()
            record = self.record_of(taken)
            time.sleep(0.5)
            self.assertEqual(record, self.record_of(taken))
