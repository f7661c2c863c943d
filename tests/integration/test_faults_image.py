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

"""Faults around image-backed snapshots, on real parts."""

import time

from nova_quiesce.freeze import watched_lease
from quiescelab import api
from quiescelab import guestctl
from quiescelab import waiting

from tests.integration import base
from tests.integration import faults
from tests.integration import foreign

#: Seconds from the moment that a late freeze lands to its thaw.
PROMISED = 2


class ImageBackedFaultsTest(faults.FaultTestCase):
    """The image requires quiesce, and allows freezes of a few seconds."""

    image = faults.LIMITED
    properties = faults.LIMITED_PROPERTIES

    other: api.Json
    other_guest: guestctl.Guest

    @classmethod
    def prepare(cls) -> None:
        """Have another guest of the same image."""
        cls.other = cls.user.boot('test-other', cls.image)
        cls.addClassCleanup(cls.user.delete, cls.other)
        super().prepare()
        cls.other_guest = cls.user.ready(cls.other)

    def test_freeze_that_lands_after_its_time_limit(self) -> None:
        self.set_hook(freeze_delay=faults.LIMIT + 4)
        taken = self.snapshot()
        self.assert_refused(taken, 'not frozen within %d s' % faults.LIMIT)
        self._wait_for_end_of_freeze()
        self.measured('image-backed, a freeze lands after its time limit: '
                      'thawed', self.seconds_frozen(), PROMISED)
        self.wait_until_lease_ends()
        self.assert_no_response_timeout()

    def _wait_for_end_of_freeze(self) -> None:
        # The hook logs the freeze as it ends, and the thaw after that.
        waiting.wait(
            lambda: self.guest.agent_alive() and not self.guest.frozen(),
            base.SOON, 'the late freeze to be thawed')

    def test_hanging_agent_delays_no_other_instance(self) -> None:
        self.set_hook(freeze_delay=faults.LIMIT)
        calls = self.agent_calls()
        hanging = self.in_background(self.snapshot)
        self.wait_until_freeze_is_sent(calls)
        began = time.monotonic()
        image = self._snapshot_other()
        self.measured('the agent of another instance hangs: snapshot taken',
                      time.monotonic() - began)
        self.assertFalse(hanging.done())
        self.assertEqual('filesystem', image['quiesce_consistency'])
        # Not held for as long as the other agent takes.
        self.assertLess(int(image['quiesce_window_ms']), faults.LIMIT * 500)
        self.assert_refused(hanging.result(), 'not frozen within')
        self._wait_for_end_of_freeze()
        self.assertFalse(self.other_guest.frozen())
        self.wait_until_lease_ends()

    def _snapshot_other(self) -> api.Json:
        image_id = self.user.begin_snapshot(self.other, 'test-other')
        waiting.wait(lambda: self.user.image(image_id)['status'] == 'active',
                     base.SOON, 'the snapshot of the other instance')
        image = self.user.image(image_id)
        self.user.remove_image(image)
        return image

    def test_cut_that_hangs(self) -> None:
        """Another job begins after all looks, and libvirt waits for it."""
        self.set_hook(freeze_delay=2)
        calls = self.agent_calls()
        hanging = self.in_background(self.snapshot)
        self.wait_until_freeze_is_sent(calls)
        with self.domain() as domain, foreign.backup(
                domain, self.lab.paths.run) as see:
            waiting.wait(self.guest.frozen, base.SOON, 'the freeze', base.LOOK)
            self.seconds_until_thawed()
            self.wait_until_lease_ends()
            # By nova-compute itself: the guard would be later.
            late = self.seconds_frozen() - faults.LIMIT
            self.assertGreaterEqual(late, 0)
            self.measured('image-backed, the cut hangs: thawed after the '
                          'deadline', late, watched_lease.GRACE)
            self.assert_refused(hanging.result(), 'under way')
            see()
        self.assertEqual(['freeze', 'thaw'], [
            call.action for call in self.guest.hook_log()[-2:]])

    def test_thaw_hook_that_hangs(self) -> None:
        self.set_hook(thaw_delay=120)
        taken = self.snapshot()
        self.assert_refused(taken, 'the thaw was not confirmed')
        # The agent answers to nobody, and yet the guest is thawed.
        self.assert_writing()
        self.assertIn(self.server['id'], self.leases())
        self.guest.console('echo 0 > %s/thaw-delay' % guestctl.KNOBS)
        self.guest.end_hook()
        self.measured('a thaw hook hangs: its freeze is over after the hook '
                      'is', waiting.wait(
                          lambda: self.server['id'] not in self.leases(),
                          base.SOON, 'the lease to end', base.LOOK))
        self.assert_no_response_timeout()

    def test_response_timeout_is_put_back(self) -> None:
        self.assert_healthy(self.snapshot())
        self.assert_no_response_timeout()
        self.set_hook(freeze_fail=7)
        self.assert_refused(self.snapshot(), 'status 7')
        self.assert_no_response_timeout()
