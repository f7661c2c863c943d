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

"""Faults of the guest agent around the cut of an image-backed snapshot.

What is required fails, and what is preferred becomes an image that is
labelled for what it is.
"""

from collections import abc

import libvirt
from nova import conf

from nova_quiesce import fixture
from tests.functional import base

CALLS = ['fsInfo', 'fsFreeze', 'fsThaw']
UNCONFIRMED = 'the thaw was not confirmed'
TIMED_OUT = 'not frozen within'


class AgentFaultTest(base.QuiesceTestBase):

    replies = fixture.OLDER

    def setUp(self) -> None:
        super().setUp()
        self.guest.replies = self.replies
        #: Called before the guest is frozen, once the agent was found alive.
        self.inject: abc.Callable[[], None] = lambda: None
        self.guest.after['fsInfo'] = lambda: self.inject()

    def _refuse(self, reason: str) -> None:
        server = self.boot(base.QUIESCED)
        self.assert_failed_with(server, self.create_image(server), reason)

    def assert_failed_with(self, server: dict[str, str], image_id: str,
                           reason: str) -> None:
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn(reason, self.fault_of(server))
        # The mirror was ended all the same.
        self.assertEqual(2, len(self.frozen_at_cut))

    def _label(self, level: str, reason: str,
               properties: dict[str, str] = base.PREFERRED) -> None:
        server = self.boot(properties)
        record = self.properties_of(self.create_image(server))
        self.assertEqual(level, record['quiesce_consistency'])
        self.assertIn(reason, record['quiesce_reason'])
        self.assertEqual(2, len(self.frozen_at_cut))

    # E6: the thaw raises

    def test_thaw_that_fails_at_first(self) -> None:
        """E6: the thaw raises, and works a moment later."""
        self.guest.errors['fsThaw'] = [self.replies.no_answer(1)] * 2
        self._label('filesystem', 'stayed frozen', base.QUIESCED)
        self.assertEqual([*CALLS[:2], *['fsThaw'] * 3], self.commands())
        self.assert_released()

    def _fail_thaw(self) -> None:
        # More often than it can be tried while a test runs.
        self.guest.errors['fsThaw'] = [self.replies.no_answer(1)] * 10000

    def _let_thaw(self) -> None:
        self.assertTrue(self.guest.frozen)
        self.assertEqual(1, len(self.leases.read_all()[0]))
        self.guest.errors['fsThaw'].clear()
        self.assert_released()

    def test_required_and_failing_thaw(self) -> None:
        """E6: the thaw raises for longer than a snapshot waits for it."""
        self._fail_thaw()
        self._refuse(UNCONFIRMED)
        self._let_thaw()

    def test_preferred_and_failing_thaw(self) -> None:
        """E6: the same, where an image is made in any case."""
        self._fail_thaw()
        self._label('crash', UNCONFIRMED)
        self._let_thaw()

    # E7: the outcome of the freeze is not known

    def _land(self) -> None:
        """Let the freeze land that timed out before."""
        self.assertFalse(self.guest.frozen)
        self.assertEqual(1, len(self.leases.read_all()[0]))
        self.guest.land()
        self.assert_released()
        self.assertEqual(['fsInfo', 'fsFreeze'], self.guest.calls[:2])
        self.assertEqual({'fsThaw'}, set(self.commands()[2:]))

    def _hang(self) -> None:
        self.guest.hanging = True

    def test_required_and_freeze_that_lands_late(self) -> None:
        """E7: the freeze times out, and lands after the snapshot failed."""
        self.inject = self._hang
        self._refuse(TIMED_OUT)
        self._land()

    def test_preferred_and_freeze_that_lands_late(self) -> None:
        """E7: the freeze times out, and lands after the cut."""
        self.inject = self._hang
        self._label('crash', TIMED_OUT)
        self._land()

    def _lose_answer(self, error: libvirt.libvirtError) -> None:
        def fail() -> None:
            raise error

        self.guest.after['fsFreeze'] = fail

    def _assert_undone(self) -> None:
        self.assertEqual([False, False], self.frozen_at_cut)
        self.assert_released()
        self.assertEqual(CALLS, self.commands())

    def _lose_libvirtd(self) -> None:
        self._lose_answer(fixture.libvirt_error(
            libvirt.VIR_ERR_SYSTEM_ERROR,
            'Cannot recv data: client socket is closed'))

    def test_required_and_libvirtd_restarted(self) -> None:
        """E7: libvirtd is restarted while the guest freezes."""
        self._lose_libvirtd()
        self._refuse('client socket is closed')
        self._assert_undone()

    def test_preferred_and_libvirtd_restarted(self) -> None:
        """E7: the same, where an image is made in any case."""
        self._lose_libvirtd()
        self._label('crash', 'client socket is closed')
        self._assert_undone()

    def _lose_agent(self) -> None:
        self._lose_answer(self.replies.disappearance())

    def test_required_and_agent_that_disappears(self) -> None:
        """E7: the agent dies after it froze the guest."""
        self._lose_agent()
        self._refuse('froze')
        self._assert_undone()

    def test_preferred_and_agent_that_disappears(self) -> None:
        """E7: the same, where an image is made in any case."""
        self._lose_agent()
        self._label('crash', 'froze')
        self._assert_undone()

    # E8: the freeze hangs

    def _assert_limited(self) -> None:
        """Each call had a time limit, and the mirror was not left running."""
        limits = dict(zip(self.guest.calls, self.guest.limits, strict=True))
        options = conf.CONF.quiesce
        expected = {'fsInfo': options.agent_timeout,
                    'fsFreeze': options.freeze_timeout,
                    'fsThaw': options.thaw_timeout}
        if self.replies.not_taken is None:
            # That thaw may have been sent, so that the guest is asked.
            expected['getTime'] = options.agent_timeout
        self.assertEqual(expected, limits)
        self.assertEqual([False, False], self.frozen_at_cut)
        # The agent is restarted, and forgets what it was asked before.
        self.guest.hanging = False
        self.assert_released()

    def test_required_and_hanging_freeze(self) -> None:
        """E8: the freeze hangs for ever."""
        self.inject = self._hang
        self._refuse(TIMED_OUT)
        self._assert_limited()

    def test_preferred_and_hanging_freeze(self) -> None:
        """E8: the same, where an image is made in any case."""
        self.inject = self._hang
        self._label('crash', TIMED_OUT)
        self._assert_limited()

    # E9: the freeze freezes nothing

    def test_required_and_zero_frozen(self) -> None:
        """E9: the agent reports success, and no filesystem."""
        self.guest.filesystems = 0
        self._refuse('no filesystem')
        self._assert_undone()

    def test_preferred_and_zero_frozen(self) -> None:
        """E9: the same, where an image is made in any case."""
        self.guest.filesystems = 0
        self._label('crash', 'no filesystem')
        self._assert_undone()


class NewerAgentFaultTest(AgentFaultTest):
    """The same, of a newer libvirt and a newer agent."""

    replies = fixture.NEWER
