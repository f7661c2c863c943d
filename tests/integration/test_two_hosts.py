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

"""Servers that leave their host, with a freeze or a copy under way."""

import concurrent.futures
import contextlib
import signal
import typing

from quiescelab import errors
from quiescelab import guestctl
from quiescelab import logs
from quiescelab import proc
from quiescelab import servers
from quiescelab import waiting

from tests.integration import base
from tests.integration import copies
from tests.integration import faults
from tests.integration import hosts
from tests.integration import snapshots

#: Seconds that the agent has for a freeze, and for a thaw, on the second host.
FREEZE_TIMEOUT, THAW_TIMEOUT = 4, 3
#: In these, Nova may go on with a migration that it does not refuse.
PATIENCE = 15


class VolumeBackedTest(hosts.TwoHostsTestCase, faults.HeldFreezeTestCase):
    """The image requires quiesce; freezes may last for a minute."""

    second_options: typing.ClassVar = {'quiesce': {
        'freeze_timeout': FREEZE_TIMEOUT, 'thaw_timeout': THAW_TIMEOUT}}

    def test_migrated_there_and_back(self) -> None:
        for _ in range(2):
            calls = self._hook_calls()
            self.move_to(self.other_host)
            self.assert_thawed_and_writing()
            self.assertEqual(calls, self._hook_calls())
        sent = self.agent_calls()
        self.assert_healthy_image(self.create_image(self.new_name()), sent)

    def test_held_freeze(self) -> None:
        """The guest is thawed before it leaves, and the request is told."""
        here, there = self.host, self.other_host
        sent = [logs.AgentCalls(host.paths.agent_log)
                for host in (here, there)]
        calls = self._hook_calls()
        image_id, worker = self._freeze_for_an_api_that_stops()
        self.move_to(there)
        self.assert_thawed_and_writing()
        self.assertEqual([], self.leases())
        self.assertEqual([*calls, 'freeze', 'thaw'], self._hook_calls())
        worker.signal(signal.SIGCONT)
        self.assert_put_away(image_id.result(), 'the instance was migrated '
                             'during the snapshot')
        self.wait_until_nothing_is_owed()
        self.assertEqual([snapshots.ONE_EACH, snapshots.NO_CALLS],
                         [calls.sent for calls in sent])

    def _freeze_for_an_api_that_stops(
            self) -> tuple[faults.Pending, proc.Process]:
        # The other one of nova-api's workers still takes requests, and Cinder
        # and Glance can do what the migration asks of them.
        self.set_hook(freeze_delay=1)
        sent = self.agent_calls()
        image_id = self.in_background(self.create_image, self.new_name())
        self.wait_until_freeze_is_sent(sent)
        worker, = self.lab.serving('nova')
        worker.signal(signal.SIGSTOP)
        self.addCleanup(worker.signal, signal.SIGCONT)
        waiting.wait(self.guest.frozen, base.SOON, 'the freeze', base.LOOK)
        self.assertEqual([self.server['id']], self.leases())
        return image_id, worker

    def test_late_freeze(self) -> None:
        """Whoever thaws it has to be there when it lands."""
        self.be_on(self.second)
        calls = self._hook_calls()
        self.set_hook(freeze_delay=servers.BOOT_SECONDS)
        self.addCleanup(self._thaw_what_nobody_thaws)
        self.assert_conflict(self.new_name(), 'not frozen within %d s'
                             % FREEZE_TIMEOUT)
        attempt = self.in_background(self.try_to_move_to, self.lab.host)
        concurrent.futures.wait([attempt], PATIENCE)
        self._let_freeze_land()
        refusal = attempt.result()
        if refusal is not None:
            self.assertIn(hosts.REFUSED, refusal)
            self.assertIn('their thaw is not confirmed', refusal)
            self.wait_until_lease_ends()
            self.move_to(self.lab.host)
        self.assert_thawed_and_writing()
        self.assertEqual([], self.leases())
        self.assertEqual([], self.duties())
        self.assertEqual([*calls, 'freeze', 'thaw'], self._hook_calls())
        self.assert_no_response_timeout()

    def _let_freeze_land(self) -> None:
        # Where Nova went on, the guest may be on either host.
        for guest in self.guests:
            with contextlib.suppress(guestctl.ControlError):
                guest.console('killall sleep')

    def _thaw_what_nobody_thaws(self) -> None:
        self._let_freeze_land()
        waiting.wait(self.guest.agent_alive, base.SOON, 'the agent')
        if self.guest.frozen():
            self.guest.agent('guest-fsfreeze-thaw')

    def test_host_fails_in_a_held_freeze(self) -> None:
        """The guest is evacuated, and its host comes back later."""
        self.be_on(self.second)
        image_id = self.hold_freeze()
        self.lab.fail_second_host()
        self.lab.go_on('cinder-volume')
        self.force_down(self.second, True)
        self.evacuate_to(self.lab.host)
        type(self).guest = self.user.ready(self.server)
        self.assert_thawed_and_writing()
        self.assertEqual([self.server['id']], self.leases())
        self.assert_nothing_claimed(image_id)
        self.lab.restore_second_host()
        self.force_down(self.second, False)
        self.wait_until_lease_ends()
        self.assert_thawed_and_writing()
        self.assertEqual(1, len(self.duties()))
        self._see_it_judged_with_the_next_request(image_id)

    def _see_it_judged_with_the_next_request(self, image_id: str) -> None:
        # The project's next request to the host that owes it.
        self.move_to(self.second)
        sent = self.agent_calls()
        self.assert_healthy_image(self.create_image(self.new_name()), sent)
        self.assert_put_away(image_id, 'nova-compute was stopped')

    def _hook_calls(self) -> list[str]:
        return [call.action for call in self.guest.hook_log()]


class ImageBackedTest(hosts.TwoHostsTestCase, copies.CopyTestCase):
    """The disk is a file of its host, which goes with the guest."""

    def test_copy_under_way(self) -> None:
        self.require()
        with self.held_copy() as copy:
            with self.assertRaises(errors.LabError) as caught:
                self.ask_to_move_to(self.other_host)
            self.assertIn(': 409 ', str(caught.exception))
        self.wait_until_done()
        self.assert_healthy_image(copy.image_id, copy.calls)
        self.move_to(self.other_host)
        self.assert_thawed_and_writing()
        self.assert_healthy(self.snapshot())
