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

"""Thawing until it is proven: what ends it, and how often hooks run."""

import typing
import unittest

from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import thawing

#: More seconds than any of these needs.
MANY = 200


class ThawingTest(unittest.TestCase):

    replies = fixture.OLDER

    def setUp(self) -> None:
        super().setUp()
        self.guest = fixture.FakeDomain()
        self.guest.replies = self.replies
        self.guest.frozen = True
        self.now = 0.0
        self.stale: str | None = None
        self.told: list[Exception] = []

    def _new(self, frozen: int | None = 2,
             settling: float = 0.0) -> thawing.Thawing:
        return thawing.Thawing(
            guest_agent.Agent(
                lambda: self.guest, guest_agent.Timeouts(1, 1, 1)),
            lambda: self.stale, frozen, 0.5, lambda: self.now, settling,
            is_fresh=True)

    def _run(self, thaw: thawing.Thawing) -> thawing.Outcome:
        outcome = thaw.run(self.told.append, self._wait)
        assert outcome is not None, 'it does not end'
        return outcome

    def _wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.now < MANY

    def _fail(self, *failures: typing.Any) -> None:
        self.guest.errors['fsThaw'] = list(failures)

    def _thaws(self) -> int:
        return self.guest.calls.count('fsThaw')

    def test_as_many_as_were_frozen(self) -> None:
        thaw = self._new()
        self.assertIn('all filesystems', self._run(thaw).reason)
        self.assertEqual((2, ['fsThaw']), (thaw.count, self.guest.calls))

    def test_fewer_than_were_frozen(self) -> None:
        """The second thaw shows that nothing is left."""
        self._run(self._new(frozen=3))
        self.assertEqual(2, self._thaws())

    def test_none_of_those_that_were_frozen(self) -> None:
        """Somebody else thawed it: its hooks do not run once more."""
        self.guest.frozen = False
        self._run(self._new())
        self.assertEqual(['fsThaw', 'getTime'], self.guest.calls)

    def test_freeze_of_which_nothing_is_known(self) -> None:
        self.guest.frozen = False
        self._run(self._new(frozen=None))
        self.assertEqual(1, self._thaws())
        self.assertEqual(2, self.guest.calls.count('getTime'))

    def test_freeze_that_is_overtaken(self) -> None:
        self.guest.frozen = False
        thaw = self._new(frozen=None, settling=45)
        self.assertIsNone(thaw.attempt())
        self.guest.frozen = True
        self._run(thaw)
        self.assertFalse(self.guest.frozen)
        self.assertEqual(2, self._thaws())

    def test_freeze_that_waits_for_the_thaw(self) -> None:
        """libvirt sends it before anything that is asked after the thaw."""
        def freeze() -> None:
            self.guest.after.clear()
            self.guest.frozen = True

        self.guest.frozen = False
        self.guest.after['fsThaw'] = freeze
        self._run(self._new(frozen=None, settling=45))
        self.assertFalse(self.guest.frozen)
        self.assertEqual(2, self._thaws())
        self.assertLess(self.now, 1)

    def test_freeze_that_may_be_overtaken_for_a_while(self) -> None:
        self.guest.frozen = False
        self._run(self._new(frozen=None, settling=45))
        self.assertGreaterEqual(self.now, 45)
        self.assertEqual(1, self._thaws())

    def test_hook_that_hangs_after_the_thaw(self) -> None:
        def hang() -> None:
            self.guest.after.clear()
            raise self.replies.no_answer(1)

        self.guest.after['fsThaw'] = hang
        thaw = self._new()
        self._run(thaw)
        self.assertEqual(1, self._thaws())
        self.assertIsNone(thaw.count)

    def test_thaw_that_was_not_sent_is_sent(self) -> None:
        self._fail(*[fixture.libvirt_error(
            86, 'QEMU guest agent is not connected')] * 3)
        self._run(self._new())
        self.assertEqual(['fsThaw'] * 4, self.guest.calls)
        # Said once.
        self.assertEqual(1, len(self.told))

    def test_agent_that_never_comes_back(self) -> None:
        self.guest.connected = False
        self.assertIsNone(self._new().run(self.told.append, self._wait))
        self.assertEqual(1, len(self.told))
        self.assertLess(self._thaws(), 100)

    def test_thaw_that_was_refused(self) -> None:
        self._fail(self.replies.refusal('guest-fsfreeze-thaw', 'mtab'))
        thaw = self._new()
        self._run(thaw)
        self.assertFalse(self.guest.frozen)
        self.assertIn('mtab', str(thaw.refusal))

    def _forbid_questions(self) -> None:
        # As agents since 9.1 do while they are frozen, and say no more.
        self.guest.forbidden = {'guest-get-time', 'guest-get-fsinfo',
                                'guest-network-get-interfaces'}

    def test_refusal_of_an_agent_that_does_not_tell(self) -> None:
        """It is no proof: the guest may be frozen still."""
        self._forbid_questions()
        self._fail(self.replies.refusal('guest-fsfreeze-thaw', 'mtab'))
        self._run(self._new())
        self.assertFalse(self.guest.frozen)
        self.assertEqual(2, self._thaws())

    def test_hook_that_fails_with_an_agent_that_does_not_tell(self) -> None:
        def fail() -> None:
            raise fixture.hook_failure('thaw', self.replies)

        self._forbid_questions()
        self.guest.after['fsThaw'] = fail
        self._run(self._new())
        self.assertEqual(1, self._thaws())

    def test_hooks_run_once_with_an_agent_that_does_not_tell(self) -> None:
        self._forbid_questions()
        self._run(self._new())
        self.assertEqual(1, self._thaws())

    def test_unknown_freeze_and_an_agent_that_does_not_tell(self) -> None:
        """It may be frozen since the thaw, and so it is thawed once more."""
        self._forbid_questions()
        self.guest.frozen = False
        self._run(self._new(frozen=None, settling=45))
        self.assertEqual(2, self._thaws())

    def test_hook_that_always_fails(self) -> None:
        def fail() -> None:
            raise fixture.hook_failure('thaw', self.replies)

        self.guest.after['fsThaw'] = fail
        thaw = self._new(frozen=None)
        self._run(thaw)
        self.assertEqual(1, self._thaws())
        self.assertIn('status 1', str(thaw.refusal))

    def test_guest_that_was_restarted(self) -> None:
        self._fail(fixture.libvirt_error(86, 'Guest agent not available'))
        thaw = self._new()
        with self.assertRaises(errors.ThawFailed):
            thaw.attempt()
        self.stale = 'the guest was restarted since'
        self.assertTrue(self._run(thaw).is_gone)
        self.assertEqual(1, self._thaws())

    def test_guest_that_is_gone(self) -> None:
        self.guest.defined = False
        self.assertTrue(self._run(self._new()).is_gone)

    def test_pauses_grow(self) -> None:
        thaw = self._new()
        pauses = []
        for _ in range(MANY):
            pauses.append(thaw.pause())
            self.now += pauses[-1]
        self.assertEqual(sorted(pauses), pauses)
        self.assertEqual(0.5, pauses[0])
        self.assertEqual(thawing.LONGEST_PAUSE, pauses[-1])
        # What returns soon is seen soon.
        self.assertTrue(all(pause <= 1.5 for pause in pauses[:15]))


class NewerThawingTest(ThawingTest):
    """The same, of a newer libvirt and a newer agent."""

    replies = fixture.NEWER
