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

"""Things that guests do around a freeze, without a fault of a service.

Each was first seen on a real guest.
"""

import threading

import libvirt

from nova_quiesce import fixture
from tests.functional import base

CALLS = ['fsInfo', 'fsFreeze', 'fsThaw']


class GuestTest(base.QuiesceTestBase):

    def test_failing_hook(self) -> None:
        """A freeze hook says no, and the agent has undone the freeze."""
        server = self.boot(base.QUIESCED)
        self.guest.errors['fsFreeze'] = [fixture.hook_failure('freeze')]
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'status 1')
        # The mirror was ended and the domain is defined again all the same.
        self.assertEqual([False, False], self.frozen_at_cut)
        self.assertEqual(1, self.persistent_domains())
        self.assert_released()

    def test_frozen_from_inside(self) -> None:
        """More is thawed than was frozen: one was frozen by its owner."""
        server = self.boot(base.QUIESCED)
        self.guest.thaw_answer = 3
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual('2', record['quiesce_filesystems'])
        self.assert_released()

    def test_thawed_from_inside(self) -> None:
        """Less is thawed than was frozen: somebody was quicker."""
        server = self.boot(base.QUIESCED)
        self.guest.thaw_answer = 1
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'only 1 were still frozen')
        self.assert_released()

    def test_hanging_thaw_hook(self) -> None:
        """A thaw hook hangs: the thaw times out, and has worked."""
        errors = [fixture.libvirt_error(
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
            'Guest agent is not responding: Guest agent not available for '
            'now')]

        def hang() -> None:
            if errors:
                raise errors.pop()

        server = self.boot(base.PREFERRED)
        self.guest.after['fsThaw'] = hang
        record = self.properties_of(self.create_image(server))
        # The agent shows that it is not frozen, so that its hook is not run
        # again; which proves nothing of the time before.
        self.assertEqual([*CALLS, 'getTime'], self.guest.calls)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('not confirmed', record['quiesce_reason'])
        self.assert_released()

    def test_reset_during_the_cut(self) -> None:
        """A reset ends the freeze before the cut is complete."""
        def reset() -> None:
            self.guest.frozen = False

        server = self.boot(base.QUIESCED)
        self.on_abort = reset
        image_id = self.create_image(server)
        self.assertEqual([False, True], self.frozen_at_cut)
        self.assert_failed(server, image_id, 'only 0 were still frozen')
        self.assert_released()

    def test_hanging_neighbour(self) -> None:
        """The agent of one instance hangs, and another is snapshotted."""
        hanging = self.boot(base.QUIESCED)
        guest = self.guests[hanging['id']] = fixture.FakeDomain()
        is_hanging, is_over = threading.Event(), threading.Event()

        def hang() -> None:
            is_hanging.set()
            is_over.wait(base.SOON)

        guest.after['fsFreeze'] = hang
        guest.has_backup_jobs = False
        other = self.boot_from_volume(base.QUIESCED)
        image_id = self.ask_for_image(hanging)
        self.addCleanup(is_over.set)
        self.assertTrue(is_hanging.wait(base.SOON))
        record = self.record_of(self.ask_for_image(other, 'other'))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(CALLS, self.guest.calls)
        self.assertFalse(self.guest.frozen)
        self.assertTrue(guest.frozen)
        is_over.set()
        self._wait_for_server_parameter(
            hanging, {'OS-EXT-STS:task_state': None})
        self.assertEqual('filesystem', self.properties_of(image_id)[
            'quiesce_consistency'])
        self.assertEqual(CALLS, guest.calls)
        self.assert_released(guest)
