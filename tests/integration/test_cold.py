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

"""Instances that are suspended for their snapshot, or were before."""

import typing

import libvirt

from quiescelab import proc
from quiescelab import waiting

from tests.integration import base
from tests.integration import copies
from tests.integration import foreign
from tests.integration import snapshots


class ForcedColdTest(copies.CopyTestCase):
    """The operator has live snapshots switched off."""

    shares_server = True
    options: typing.ClassVar = {
        'workarounds': {'disable_libvirt_livesnapshot': True}}

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self._assert_running)

    def _assert_running(self) -> None:
        with self.domain() as domain:
            self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, domain.state()[0])
            self.assertEqual(0, domain.hasManagedSaveImage(0))
        self.assertEqual([], self.leases())

    def test_required_and_healthy(self) -> None:
        self.require()
        domain_id = self.domain_id()
        self.assert_healthy(self.snapshot())
        self.assertNotEqual(domain_id, self.domain_id())

    def test_backup_job_of_somebody_else(self) -> None:
        """libvirt would let the suspend wait for 30 s, and refuse it."""
        domain_id = self.domain_id()
        with self.domain() as domain:
            with foreign.backup(domain, self.lab.paths.run) as see:
                taken = self.snapshot()
                see()
        self.assert_refused(taken, "another program's backup job")
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
        self.assertEqual(domain_id, self.domain_id())

    def test_required_and_dead_agent(self) -> None:
        self.require()
        domain_id = self.domain_id()
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_refused(taken, 'install and start qemu-guest-agent')
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
        # It was not suspended, either.
        self.assertEqual(domain_id, self.domain_id())

    def test_preferred_and_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_crash(taken, 'not connected')

    def test_nova_compute_killed_while_the_guest_is_suspended(self) -> None:
        self.addCleanup(self.lab.start, 'nova-compute')
        with self.held_copy() as held:
            with self.domain() as domain:
                self.assertFalse(domain.isActive())
            self.assertEqual(1, len(self.leases()))
            self.lab.kill('nova-compute')
        # The guest cannot run while another process has its disk.
        self.assertTrue(proc.wait_for_end([held.process], base.SOON))
        self.lab.start('nova-compute')
        waiting.wait(lambda: not self.leases(), base.SOON, 'the thaw')
        self.assertEqual('ACTIVE', self.wait_until_done()['status'])


class StatesTest(copies.CopyTestCase):
    """The instance is suspended, shelved, or backed up."""

    def test_suspended(self) -> None:
        self.user.act(self.server, 'suspend')
        self.wait_for_status('SUSPENDED')
        try:
            taken = self.snapshot()
            self.assertEqual('SUSPENDED', self.status())
            self.require()
            refused = self.snapshot()
            self.assertEqual('SUSPENDED', self.status())
            self.assert_refused(refused, 'resume it first')
        finally:
            self.user.act(self.server, 'resume')
            self.wait_for_status('ACTIVE')
        self.assert_crash(taken, 'resume it first')
        self.assertEqual(snapshots.NO_CALLS, refused.sent)

    def test_backup(self) -> None:
        self.require()
        calls = self.agent_calls()
        answer = self.user.act(self.server, 'createBackup', {
            'name': 'test-backup', 'backup_type': 'daily', 'rotation': 99})
        self.addCleanup(self.remove_images, 'test-backup')
        self.wait_until_done()
        self.assert_healthy_image(answer['image_id'], calls)

    def test_shelve(self) -> None:
        self.require()
        self.user.act(self.server, 'shelve')
        self.wait_for_status('SHELVED_OFFLOADED')
        name = '%s-shelved' % self.user.show(self.server)['name']
        try:
            image_id = self.user.image_named(name)['id']
            record = self.user.record(image_id)
            self.assertEqual('offline', record['consistency'], record)
            self.assertFalse(self.needs_recovery(image_id))
        finally:
            self.user.act(self.server, 'unshelve')
            self.wait_for_status('ACTIVE')
        type(self).guest = self.user.ready(self.server)
