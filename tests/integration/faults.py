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

"""Faults that tests bring about, while a guest is frozen above all."""

from collections.abc import Callable
import concurrent.futures
from typing import Any
from xml.etree import ElementTree

from quiescelab import guestctl
from quiescelab import imaging
from quiescelab import logs
from quiescelab import proc
from quiescelab import volumes
from quiescelab import waiting

from tests.integration import base
from tests.integration import snapshots

#: What :meth:`FaultTestCase.in_background` returns.
Pending = concurrent.futures.Future[Any]
#: VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, libvirt's default.
WITHOUT_LIMIT = '-2'
#: An image whose guests may be frozen for this many seconds.
LIMITED = 'test-limited'
LIMIT = 5
LIMITED_PROPERTIES = {
    'hw_qemu_guest_agent': 'yes', 'os_require_quiesce': 'yes',
    'os_quiesce_max_freeze_time': str(LIMIT)}
DEADLINE = 'thawed at its deadline of %d s' % LIMIT
#: Seconds that Nova gives a guest to shut down.
SHUTDOWN_TIMEOUT = 60


class FaultTestCase(snapshots.SnapshotTestCase):
    """Tests of what happens when something fails."""

    def seconds_until_thawed(self) -> float:
        """Wait until the guest's agent says that it is thawed."""
        return waiting.wait(self._thawed, base.SOON, 'the thaw', base.LOOK)

    def _thawed(self) -> bool:
        try:
            return not self.guest.frozen()
        except guestctl.ControlError:
            # The agent, or libvirtd, is down.
            return False

    def seconds_frozen(self) -> float:
        """Return how long the latest freeze lasted, by the guest's own clock.

        From the end of its freeze hook, after which the agent freezes, to the
        begin of its thaw hook, before which it thawed.
        """
        calls = self.guest.hook_log()
        last = max(number for number, call in enumerate(calls)
                   if call.action == 'freeze')
        return calls[last + 1].begin - calls[last].end

    def in_background(self, call: Callable[..., Any],
                      *arguments: object) -> Pending:
        """Do something that lasts while the test goes on."""
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        return pool.submit(call, *arguments)

    def wait_until_freeze_is_sent(self, calls: logs.AgentCalls) -> None:
        """Wait until libvirtd has sent the agent a freeze."""
        waiting.wait(lambda: calls.sent['freeze'] > 0, base.SOON,
                     'the freeze to be sent', base.LOOK)

    def stop_for_a_while(self, service: str) -> None:
        """Have a service and its children stand still."""
        self.addCleanup(self.lab.go_on, service)
        self.lab.hold(service)

    def restart_libvirtd(self) -> None:
        """Kill libvirtd, and start it again at once."""
        self.addCleanup(self.lab.start, 'libvirtd')
        main = self.lab.process('libvirtd')
        assert main is not None
        self.lab.kill('libvirtd')
        self.assertTrue(proc.wait_for_end([main], base.SOON))
        self.lab.start('libvirtd')

    def guards(self) -> list[proc.Process]:
        """The thaw guards that nova-compute has started."""
        return [one for one in self.lab.family('nova-compute')
                if 'nova_quiesce.freeze.guard' in proc.arguments(one)]

    def assert_no_response_timeout(self) -> None:
        """Calls of the guest's agent by others have no time limit.

        It stays for as long as a call of the guard's may be waiting.
        """
        name = self.guest.virsh('domname').strip()
        status = self.host.paths.run / 'libvirt' / 'qemu' / f'{name}.xml'
        waiting.wait(lambda: ElementTree.parse(status).findtext(
            'agentTimeout') in (None, WITHOUT_LIMIT), 2 * base.SOON,
            'the end of the time limit')


class HeldFreezeTestCase(FaultTestCase):
    """The guest is frozen for volume snapshots while something fails.

    Cinder's volume service stands still meanwhile, so that the freeze lasts.
    """

    from_volume = True

    def hold_freeze(self) -> str:
        """Begin a snapshot, and see that the guest is frozen.

        :returns: the id of its image
        """
        name = self.new_name()
        self.stop_for_a_while('cinder-volume')
        # nova-api answers as soon as Cinder has accepted the snapshot.
        image_id = self.create_image(name)
        self.assertTrue(self.guest.frozen())
        self.assertIn(self.server['id'], self.leases())
        return image_id

    def assert_put_away(self, image_id: str, reason: str) -> None:
        """An image is labelled and cannot be booted, and nothing is gone."""
        waiting.wait(lambda: self.user.image(image_id)['status'] ==
                     'deactivated', base.SOON, 'the image to be deactivated')
        record = self.user.record(image_id)
        self.assertEqual('crash', record['consistency'], record)
        self.assertIn(reason, record['reason'])
        for snapshot_id in volumes.of_image(self.user.image(image_id)):
            self.user.volume_snapshot(snapshot_id)
        waiting.wait(lambda: reason in str([
            event for event in self.user.failures(self.server)
            if image_id in event]), base.SOON, 'an event of the image')

    def assert_nothing_claimed(self, image_id: str) -> None:
        """An image does not pass for a consistent one."""
        # In one call: it may be on its way to be withdrawn.
        image = self.user.find_image(image_id)
        self.assertNotEqual(
            'filesystem', imaging.record_of(image or {}).get('consistency'))
