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

"""Disks in Ceph, which are snapshotted there wherever that can be done."""

import subprocess
import time
import unittest

from quiescelab import lab as running
from quiescelab import waiting

from nova_quiesce.freeze import watched_lease
from tests.integration import base
from tests.integration import copies
from tests.integration import faults
from tests.integration import snapshots


def setUpModule() -> None:
    """Have the disks of both classes in Ceph."""
    lab = running.Lab.from_env()
    unittest.addModuleCleanup(lab.end_disturbance)
    unittest.enterModuleContext(lab.compute_options(lab.disks_with_volumes))


class CephTestCase(copies.CopyTestCase):
    """The disk is in Ceph."""

    def rbd(self, *command: str) -> list[str]:
        """Ask Ceph's own client."""
        return subprocess.run(
            ['rbd', *command], env=self.lab.env('admin'), check=True,
            capture_output=True, text=True).stdout.splitlines()

    @property
    def disk(self) -> str:
        """The RBD image of the server."""
        return 'vms/%s_disk' % self.server['id']

    def assert_no_snapshot(self) -> None:
        """The disk has no snapshot."""
        self.assertEqual([], self.rbd('snap', 'ls', self.disk))


class DirectTestCase(CephTestCase):
    """The image was in Ceph, too, so nothing has to be copied."""

    @classmethod
    def upload(cls) -> None:
        """Make the image, in Glance's store in Ceph."""
        cls.user.upload_raw(cls.image, 'ceph', **cls.properties)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.assert_no_snapshot)


class DirectTest(DirectTestCase):
    """Quiesce is preferred, or required."""

    def test_required_and_healthy(self) -> None:
        self.require()
        taken = self.snapshot()
        self.assert_healthy(taken)
        image = self.lab.client('admin').get(
            'glance', '/v2/images/%s' % self.image_of(taken)['id'])
        location, = [one['url'] for one in image['locations']]
        self.assertTrue(location.startswith('rbd://'), location)
        self.assertTrue(location.endswith('/images/%s/snap' % image['id']))

    def test_shut_off(self) -> None:
        self.require()
        with self.shut_off():
            # The first one leaves the disk as it was.
            for _ in range(2):
                self.assert_offline(self.snapshot())
            self.assertTrue(self.note.exists())
        self.assertFalse(self.note.exists())

    def test_required_and_dead_agent(self) -> None:
        self.require()
        images = self.rbd('ls', 'images')
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_refused(taken, 'install and start qemu-guest-agent')
        self.assertEqual(snapshots.NO_CALLS, taken.sent)
        self.assertEqual(images, self.rbd('ls', 'images'))

    def test_required_and_failing_hook(self) -> None:
        self.require()
        self.set_hook(freeze_fail=7)
        images = self.rbd('ls', 'images')
        self.assert_refused(self.snapshot(), 'status 7')
        self.assertEqual(images, self.rbd('ls', 'images'))

    def test_preferred_and_dead_agent(self) -> None:
        with self.dead_agent():
            taken = self.snapshot()
        self.assert_crash(taken, 'not connected')


class HangingTest(faults.FaultTestCase, DirectTestCase):
    """Guests may be frozen for a few seconds."""

    properties = faults.LIMITED_PROPERTIES

    def test_cut_that_hangs(self) -> None:
        """A new snapshot needs a number of Ceph's monitor; writes do not.

        But the guest's own client makes it, and holds its writes back until
        it has: the thaw is sent at the deadline, and ends with that.
        """
        self.set_hook(freeze_delay=2)
        calls = self.agent_calls()
        hanging = self.in_background(self.snapshot)
        self.wait_until_freeze_is_sent(calls)
        self.stop_for_a_while('ceph-mon')
        waiting.wait(self.guest.frozen, base.SOON, 'the freeze', base.LOOK)
        began = time.monotonic()
        waiting.wait(lambda: calls.sent['thaw'] > 0, base.SOON, 'the thaw',
                     base.LOOK)
        late = time.monotonic() - began - faults.LIMIT
        # Neither early nor, as the guard's, later.
        self.assertGreater(late, -1)
        self.measured('image-backed in Ceph, the cut hangs: thaw sent after '
                      'the deadline', late, watched_lease.GRACE)
        self.lab.go_on('ceph-mon')
        self.measured('image-backed in Ceph, the cut hangs: thawed after '
                      'Ceph answers again', self.seconds_until_thawed())
        self.wait_until_lease_ends()
        self.assert_refused(hanging.result(), faults.DEADLINE)
        self.assertEqual(['freeze', 'thaw'], [
            call.action for call in self.guest.hook_log()[-2:]])


class CopiedTest(CephTestCase):
    """The image was not in Ceph, so the disk has to be copied."""

    def test_is_not_suspended(self) -> None:
        self.require()
        domain_id = self.domain_id()
        with self.held_copy() as held:
            self.assert_writing()
            self.assertTrue(self.has_job())
        self.wait_until_done()
        self.assert_healthy_image(held.image_id, held.calls)
        self.assertEqual(domain_id, self.domain_id())
        self.assert_no_snapshot()
