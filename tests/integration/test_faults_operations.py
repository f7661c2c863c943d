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

"""Requests and faults that meet a frozen guest, on real parts."""

import time


from tests.integration import faults


class OperationsTest(faults.HeldFreezeTestCase):
    """The image requires quiesce; freezes may last for a minute."""

    shares_server = True

    def test_pause(self) -> None:
        image_id = self.hold_freeze()
        self.user.act(self.server, 'pause')
        self.wait_for_status('PAUSED')
        self.user.act(self.server, 'unpause')
        self.wait_for_status('ACTIVE')
        self.assert_lapsed(image_id, 'paused')

    def test_suspend(self) -> None:
        image_id = self.hold_freeze()
        self.user.act(self.server, 'suspend')
        self.wait_for_status('SUSPENDED')
        self.lab.go_on('cinder-volume')
        self.user.act(self.server, 'resume')
        self.wait_for_status('ACTIVE')
        self.assert_lapsed(image_id, 'suspended')

    def test_stop(self) -> None:
        shutdowns = self._clean_shutdowns()
        image_id = self.hold_freeze()
        self.user.act(self.server, 'os-stop')
        began = time.monotonic()
        self.wait_for_status('SHUTOFF')
        self.measured('a soft stop of a frozen guest', time.monotonic() -
                      began, faults.SHUTDOWN_TIMEOUT / 2)
        self.lab.go_on('cinder-volume')
        self.user.act(self.server, 'os-start')
        self.user.ready(self.server)
        self.assertEqual(shutdowns + 1, self._clean_shutdowns())
        self.assert_lapsed(image_id, 'stopped')

    def test_hard_reboot(self) -> None:
        image_id = self.hold_freeze()
        self.user.act(self.server, 'reboot', {'type': 'HARD'})
        began = time.monotonic()
        self.wait_for_status('HARD_REBOOT')
        self.wait_until_lease_ends()
        self.measured('a hard reboot of a frozen guest: lease ends',
                      time.monotonic() - began)
        self.lab.go_on('cinder-volume')
        self.wait_for_status('ACTIVE')
        self.user.ready(self.server)
        self.assertNotIn(self.server['id'], self.leases())
        self.assert_put_away(image_id, 'during the snapshot')

    def test_soft_reboot(self) -> None:
        shutdowns = self._clean_shutdowns()
        image_id = self.hold_freeze()
        self.user.act(self.server, 'reboot', {'type': 'SOFT'})
        began = time.monotonic()
        self.wait_until_lease_ends()
        self.measured('a soft reboot of a frozen guest: thawed',
                      time.monotonic() - began)
        self.lab.go_on('cinder-volume')
        self.wait_for_status('ACTIVE')
        self.user.ready(self.server)
        self.assertEqual(shutdowns + 1, self._clean_shutdowns())
        self.assert_lapsed(image_id, 'rebooted')

    def test_two_requests_at_once(self) -> None:
        self.set_hook(freeze_delay=2)
        calls = self.agent_calls()
        first = self.in_background(self.create_image, self.new_name())
        self.wait_until_freeze_is_sent(calls)
        self.assert_conflict(self.new_name(), 'another snapshot of this '
                             'instance')
        self.assert_healthy_image(first.result(), calls)

    def test_agent_is_killed_and_comes_back(self) -> None:
        image_id = self.hold_freeze()
        self.guest.hold_agent(120)
        self.guest.release_agent()
        self.assertTrue(self.guest.frozen())
        self.lab.go_on('cinder-volume')
        self.seconds_until_thawed()
        self.assert_healthy_image(image_id, None)

    def test_libvirtd_is_killed(self) -> None:
        image_id = self.hold_freeze()
        self.restart_libvirtd()
        self.assertTrue(self.guest.frozen())
        self.lab.go_on('cinder-volume')
        self.seconds_until_thawed()
        self.assert_healthy_image(image_id, None)

    def test_libvirtd_is_killed_while_it_freezes(self) -> None:
        self.set_hook(freeze_delay=3)
        calls = self.agent_calls()
        name = self.new_name()
        request = self.in_background(self.create_image, name)
        self.wait_until_freeze_is_sent(calls)
        self.restart_libvirtd()
        self.assert_is_conflict(request.exception(), 'it is not known whether')
        self.assertEqual([], self.user.images_named(name))
        self.seconds_until_thawed()
        self.wait_until_lease_ends()
        self.measured('libvirtd is killed while it freezes: frozen for',
                      self.seconds_frozen())
        self.assert_no_response_timeout()

    def assert_lapsed(self, image_id: str, operation: str) -> None:
        """The freeze is over, and the tenant is told what ended it."""
        self.assertFalse(self.guest.frozen())
        self.assertNotIn(self.server['id'], self.leases())
        self.assert_put_away(
            image_id, 'the instance was %s during the snapshot' % operation)

    def _clean_shutdowns(self) -> int:
        # The guest writes a line as its init shuts it down.
        return int(self.guest.run(
            'touch /var/log/shutdown && wc -l < /var/log/shutdown'))


class DeletedTest(faults.HeldFreezeTestCase):
    """A server is deleted while it is frozen."""

    def assert_thawed_and_writing(self) -> None:
        """There is nobody left to thaw."""
        self.assertNotIn(self.server['id'], self.leases())

    def test_delete(self) -> None:
        image_id = self.hold_freeze()
        self.user.api.call('DELETE', 'nova',
                           '/v2.1/servers/%s' % self.server['id'])
        began = time.monotonic()
        self.wait_until_lease_ends()
        self.measured('a frozen guest is deleted: lease ends',
                      time.monotonic() - began)
        self.lab.go_on('cinder-volume')
        self.user.delete(self.server)
        self.assert_nothing_claimed(image_id)
