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

"""Faults while a disk is copied, on real parts."""

from quiescelab import servers
from quiescelab.services import nova
from quiescelab import waiting

from tests.integration import base
from tests.integration import copies
from tests.integration import faults


class CopyFaultsTest(copies.CopyTestCase, faults.FaultTestCase):
    """The image prefers quiesce."""

    shares_server = True

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.lab.start, nova.COMPUTE)

    def test_libvirtd_is_restarted(self) -> None:
        """The hypervisor goes on with the job, and so does the copy."""
        with self.held_copy() as copy:
            self.restart_libvirtd()
            self.assertTrue(self.has_job())
        self.wait_until_done()
        waiting.wait(lambda: not self.left_over(), base.SOON,
                     'the files to go')
        self.assert_healthy_image(copy.image_id, None)

    def test_nova_compute_is_killed(self) -> None:
        """The guard ends the job, and leaves its files to nova-compute."""
        with self.held_copy() as copy:
            self.lab.kill(nova.COMPUTE)
            self.measured('nova-compute is killed: its backup job ends',
                          waiting.wait(lambda: not self.has_job(), base.SOON,
                                       'the job to end', base.LOOK))
            self.assert_writing()
            self.assertEqual(1, len(self.left_over()))
            self.assertEqual(1, len(self.duties()))
        self.lab.start(nova.COMPUTE)
        waiting.wait(lambda: not self.left_over() and not self.duties(),
                     servers.BOOT_SECONDS, 'the files to go')
        self.assert_nothing_left()
        self.user.remove_image(self.user.image(copy.image_id))
        self.wait_until_done()
