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

"""Freezes that nobody ends before their deadline, on real parts."""

import signal
import time

from quiescelab import errors
from quiescelab import logs
from quiescelab import waiting

from tests.integration import base
from tests.integration import faults

#: Seconds from the moment that a late freeze lands, or that a guest can be
#: reached again, to its thaw.
PROMISED = 2
#: Seconds by which a deadline may be missed.
LATE = 1


class DeadlineTest(faults.HeldFreezeTestCase):
    """The image requires quiesce, and allows freezes of a few seconds."""

    image = faults.LIMITED
    properties = faults.LIMITED_PROPERTIES

    def setUp(self) -> None:
        super().setUp()
        self._log = logs.NewLines(self.lab.log('nova-compute'))

    def assert_thawed_at_deadline(self, what: str) -> None:
        """The guest is thawed neither early nor late."""
        self.seconds_until_thawed()
        self.wait_until_lease_ends()
        seconds = self.seconds_frozen()
        self.assertGreaterEqual(seconds, faults.LIMIT)
        self.measured('%s: thawed after the deadline' % what,
                      seconds - faults.LIMIT, LATE)

    def test_cinder_volume_stops(self) -> None:
        image_id = self.hold_freeze()
        self.assert_thawed_at_deadline('cinder-volume stops')
        self.assert_put_away(image_id, faults.DEADLINE)

    def test_nova_compute_stalls(self) -> None:
        image_id = self.hold_freeze()
        self.addCleanup(self.lab.go_on, 'nova-compute')
        # Not its guard.
        self.lab.kill('nova-compute', signal.SIGSTOP)
        self.assert_thawed_at_deadline('nova-compute stalls')
        self.lab.go_on('nova-compute')
        self.assert_put_away(image_id, faults.DEADLINE)

    def test_nova_api_is_killed(self) -> None:
        request, name = self._freeze_while_stopped('cinder-api')
        self.assertTrue(self.guest.frozen())
        self.lab.kill_all('nova-api')
        self.assertIsInstance(request.exception(), errors.LabError)
        self.assert_thawed_at_deadline('nova-api is killed')
        self.lab.go_on('cinder-api')
        self.lab.start('nova-api')
        self.assertEqual([], self.user.images_named(name))

    def test_broker_stops(self) -> None:
        request, _ = self._freeze_while_stopped('rabbitmq')
        self.assert_thawed_at_deadline('RabbitMQ stops')
        self.assertFalse(request.done())
        self.lab.go_on('rabbitmq')
        self.assert_put_away(request.result(), faults.DEADLINE)

    def _freeze_while_stopped(
            self, service: str) -> tuple[faults.Pending, str]:
        # A service stops after it was asked for what precedes the freeze,
        # and before it is asked for what comes next.
        name = self.new_name()
        self.addCleanup(self.lab.start, 'nova-api')
        self.set_hook(freeze_delay=1)
        calls = self.agent_calls()
        request = self.in_background(self.create_image, name)
        self.wait_until_freeze_is_sent(calls)
        self.stop_for_a_while(service)
        waiting.wait(self.guest.frozen, base.SOON, 'the freeze', base.LOOK)
        return request, name

    def test_freeze_that_lands_after_its_time_limit(self) -> None:
        self.set_hook(freeze_delay=faults.LIMIT + 4)
        self.assert_conflict(self.new_name(),
                             'not frozen within %d s' % faults.LIMIT)
        self.seconds_until_thawed()
        self.wait_until_lease_ends()
        self.measured('volume-backed, a freeze lands after its time limit: '
                      'thawed', self.seconds_frozen(), PROMISED)
        self.assert_no_response_timeout()

    def test_agent_dies_until_after_the_deadline(self) -> None:
        image_id = self.hold_freeze()
        self.guest.hold_agent(120)
        self._wait_for_deadline()
        self.assertIn(self.server['id'], self.leases())
        self.guest.release_agent()
        self.measured('the agent is dead at the deadline: thawed after its '
                      'return', self.seconds_until_thawed(), PROMISED)
        self.wait_until_lease_ends()
        self.assert_put_away(image_id, faults.DEADLINE)

    def test_suspended_by_hand(self) -> None:
        image_id = self.hold_freeze()
        self.guest.virsh('suspend')
        self.addCleanup(self._resume)
        self._wait_for_deadline()
        self.guest.virsh('resume')
        self.measured('stopped in libvirt at the deadline: thawed after the '
                      'resume', self.seconds_until_thawed(), PROMISED)
        self.wait_until_lease_ends()
        self.assert_put_away(image_id, faults.DEADLINE)

    def _wait_for_deadline(self) -> None:
        waiting.wait(lambda: 'may still be frozen' in self._log.text(),
                     base.SOON, 'the deadline')

    def _resume(self) -> None:
        if self.guest.virsh('domstate').strip() == 'paused':
            self.guest.virsh('resume')

    def test_reset_by_hand(self) -> None:
        image_id = self.hold_freeze()
        self.guest.virsh('reset')
        began = time.monotonic()
        self.wait_until_lease_ends()
        self.measured('guest reset in libvirt: lease ends',
                      time.monotonic() - began)
        self.assert_put_away(image_id, faults.DEADLINE)
        self.user.ready(self.server)

    def test_libvirtd_is_down_until_after_the_deadline(self) -> None:
        image_id = self.hold_freeze()
        self.addCleanup(self.lab.start, 'libvirtd')
        self.lab.kill('libvirtd')
        self._wait_for_deadline()
        self.lab.start('libvirtd')
        self.measured('libvirtd is down at the deadline: thawed after its '
                      'start', self.seconds_until_thawed(), PROMISED)
        self.wait_until_lease_ends()
        self.assert_put_away(image_id, faults.DEADLINE)
