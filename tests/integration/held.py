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

"""Freezes that tests hold open, and what they look at meanwhile."""

from collections.abc import Callable
import concurrent.futures
import os
import pathlib
import tempfile
from typing import Any
import uuid
from xml.etree import ElementTree

from quiescelab import errors
from quiescelab import guestctl
from quiescelab import lab as running
from quiescelab import proc
from quiescelab import tenant
from quiescelab import volumes

from tests.integration import base

#: What :meth:`FaultTestCase.in_background` returns.
Pending = concurrent.futures.Future[Any]
#: VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, libvirt's default.
WITHOUT_LIMIT = '-2'
#: Seconds between two looks at a guest whose thaw is measured.
LOOK = 0.02
#: An image whose guests may be frozen for this many seconds.
LIMITED = 'test-limited'
LIMIT = 5
DEADLINE = 'thawed at its deadline of %d s' % LIMIT
#: Seconds that Nova gives a guest to shut down.
SHUTDOWN_TIMEOUT = 60


class FaultTestCase(base.LabTestCase):
    """Tests of what happens when something fails."""

    def setUp(self) -> None:
        super().setUp()
        self._owed_before = set(self._all_duties())

    def seconds_until_thawed(self) -> float:
        """Wait until the guest's agent says that it is thawed."""
        return tenant.wait(self._thawed, base.SOON, 'the thaw', LOOK)

    def _thawed(self) -> bool:
        try:
            return not self.guest.frozen()
        except guestctl.ControlError:
            # The agent, or libvirtd, is down.
            return False

    def seconds_frozen(self) -> float:
        """How long the latest freeze lasted, by the guest's own clock.

        From the end of its freeze hook, after which the agent freezes, to the
        begin of its thaw hook, before which it thawed.
        """
        calls = self.guest.hook_log()
        last = max(number for number, call in enumerate(calls)
                   if call.action == 'freeze')
        return calls[last + 1].begin - calls[last].end

    def leases(self) -> list[str]:
        """The instances that may be frozen, by the directories of leases."""
        return [name.partition('.')[0] for host in self.hosts
                for name in os.listdir(_notes_of(host))
                if name.endswith('.lease')]

    def duties(self) -> list[str]:
        """What requests of this test still owe, by their files.

        An image that another test deleted before it was found is looked for
        some minutes more.
        """
        return [name for name in self._all_duties()
                if name not in self._owed_before]

    def _all_duties(self) -> list[str]:
        return [name for host in self.hosts
                for name in os.listdir(_notes_of(host) / 'duties')]

    def wait_for_status(self, status: str) -> None:
        """Wait until Nova says that the server has a status."""
        tenant.wait(lambda: self.user.show(self.server)['status'] == status,
                    2 * SHUTDOWN_TIMEOUT, status)

    def wait_until_lease_ends(self) -> None:
        """Wait until nobody holds the guest frozen, or thinks so."""
        tenant.wait(lambda: self.server['id'] not in self.leases(),
                    base.SOON, 'the lease to end', LOOK)

    def in_background(self, call: Callable[..., Any],
                      *arguments: object) -> Pending:
        """Do something that lasts while the test goes on."""
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        return pool.submit(call, *arguments)

    def wait_until_freeze_is_sent(self, offset: int) -> None:
        """Wait until libvirtd has sent the agent a freeze.

        :param offset: of libvirtd's log, where to begin
        """
        tenant.wait(lambda: tenant.agent_commands(
            self.host.paths.agent_log, offset)['freeze'] > 0, base.SOON,
            'the freeze to be sent', LOOK)

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

    def set_hook(self, **knobs: float) -> None:
        """Have the guest's freeze hook misbehave until the test ends."""
        self.guest.set_hook(**knobs)  # type: ignore[arg-type]
        self.addCleanup(self._quiet_hook)

    def _quiet_hook(self) -> None:
        # It may be on another host by now.
        self.guest.set_hook()

    def assert_no_response_timeout(self) -> None:
        """Calls of the guest's agent by others have no time limit."""
        name = self.guest.virsh('domname').strip()
        status = self.host.paths.run / 'libvirt' / 'qemu' / f'{name}.xml'
        self.assertIn(ElementTree.parse(status).findtext('agentTimeout'),
                      (None, WITHOUT_LIMIT))


class HeldTestCase(FaultTestCase):
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

    def new_name(self) -> str:
        """A name for an image, which goes when the test ends."""
        name = 'test-%s' % uuid.uuid4()
        self.addCleanup(self._remove, name)
        return name

    def create_image(self, name: str) -> str:
        """Ask for a snapshot; the id of its image."""
        return str(self.user.act(
            self.server, 'createImage', {'name': name})['image_id'])

    def assert_conflict(self, name: str, reason: str) -> None:
        """A snapshot is refused with the reason, and leaves no image."""
        with self.assertRaises(errors.LabError) as caught:
            self.create_image(name)
        self.assert_is_conflict(caught.exception, reason)
        self.assertEqual([], self.user.images_named(name))

    def assert_is_conflict(self, error: BaseException | None,
                           reason: str) -> None:
        """The tenant was told 409, and why."""
        self.assertIn(': 409 ', str(error))
        self.assertIn(reason, str(error))

    def assert_recorded(self, image_id: str, level: str,
                        reason: str) -> None:
        """An image gets a record, and it is this one."""
        record = self.user.record(image_id)
        self.assertEqual(level, record['consistency'], record)
        self.assertIn(reason, record['reason'])

    def assert_put_away(self, image_id: str, reason: str) -> None:
        """An image is labelled and cannot be booted, and nothing is gone."""
        tenant.wait(lambda: self.user.image(image_id)['status'] ==
                    'deactivated', base.SOON, 'the image to be deactivated')
        self.assert_recorded(image_id, 'crash', reason)
        for snapshot_id in volumes.of_image(self.user.image(image_id)):
            self.user.volume_snapshot(snapshot_id)
        tenant.wait(lambda: reason in str([
            event for event in self.user.failures(self.server)
            if image_id in event]), base.SOON, 'an event of the image')

    def assert_consistent(self, image_id: str) -> None:
        """An image is recorded as consistent, and is."""
        self.assert_recorded(image_id, 'filesystem', 'stayed frozen')
        with tempfile.TemporaryDirectory(dir=self.lab.paths.run) as scratch:
            self.assertFalse(self.user.needs_recovery(
                image_id, pathlib.Path(scratch)))

    def assert_nothing_claimed(self, image_id: str) -> None:
        """An image does not pass for a consistent one."""
        # In one call: it may be on its way to be withdrawn.
        image = self.user.find_image(image_id)
        self.assertNotEqual(
            'filesystem', tenant.record_of(image or {}).get('consistency'))

    def _remove(self, name: str) -> None:
        for image in self.user.images_named(name):
            self.user.delete_image(image['id'])
        self.user.remove_volume_snapshots()


def _notes_of(host: running.Host) -> pathlib.Path:
    return host.paths.data('nova') / 'quiesce'


def upload_limited(user: tenant.Tenant) -> None:
    """Make the image whose guests may be frozen for a short time."""
    user.upload(LIMITED, hw_qemu_guest_agent='yes', os_require_quiesce='yes',
                os_quiesce_max_freeze_time=str(LIMIT))
