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

"""One image-backed snapshot, from policy to record, under each fault."""

import contextlib
import gc
import time
import unittest
from unittest import mock
import weakref

from nova_quiesce import consistency
from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import thawing
from nova_quiesce import policy
from nova_quiesce import snapshots
from tests.unit.freeze import test_windows

HOOK_FAILED = fixture.hook_failure('freeze')


class SnapshotTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.frozen_at_cut: list[bool] = []
        self.addCleanup(test_windows.wait_until_thawed, self.domain)
        self.enterContext(mock.patch.object(thawing, 'LOST_COMMAND', 0.05))

    def _snapshot(self, wanted: policy.Policy,
                  remark: str = '') -> snapshots.Snapshot:
        return snapshots.Snapshot(
            policy.Decision(
                wanted, policy.Limits(1, 1),
                reason=('the image asks for no quiesce'
                        if wanted is policy.Policy.SKIP else None)),
            guest_agent.Agent(
                lambda: self.domain, guest_agent.Timeouts(1, 1, 1)),
            lambda is_saved: test_windows.new_window(self.domain), remark)

    def _make(self) -> None:
        self.frozen_at_cut.append(self.domain.frozen)

    def _take(self, wanted: policy.Policy) -> consistency.Record:
        taking = self._snapshot(wanted)
        taking.prepare()
        taking.cut(self._make)
        taking.check()
        return taking.record


class RequireTest(SnapshotTestCase):

    def test_healthy(self) -> None:
        record = self._take(policy.Policy.REQUIRE)
        self.assertIs(consistency.Level.FILESYSTEM, record.level)
        self.assertEqual([True], self.frozen_at_cut)
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'],
                         self.domain.calls)

    def test_dead_agent_fails_before_the_copy(self) -> None:
        self.domain.connected = False
        taking = self._snapshot(policy.Policy.REQUIRE)
        with self.assertRaisesRegex(errors.QuiesceError,
                                    'not connected'):
            taking.prepare()
        self.assertIs(consistency.Level.CRASH, taking.record.level)

    def test_failed_freeze_makes_the_cut_and_fails(self) -> None:
        # The cut ends the mirror, which must not be left running.
        taking = self._snapshot(policy.Policy.REQUIRE)
        taking.prepare()
        self.domain.errors['fsFreeze'] = [HOOK_FAILED]
        taking.cut_anyway(self._make)
        self.assertEqual([False], self.frozen_at_cut)
        with self.assertRaisesRegex(errors.QuiesceError, 'status 1'):
            taking.check()

    def test_failed_freeze_keeps_the_cut_from_being_made(self) -> None:
        taking = self._snapshot(policy.Policy.REQUIRE)
        taking.prepare()
        self.domain.errors['fsFreeze'] = [HOOK_FAILED]
        with self.assertRaisesRegex(errors.QuiesceError, 'status 1'):
            taking.cut(self._make)
        self.assertEqual([], self.frozen_at_cut)

    def test_lost_freeze_leaves_a_cut_for_good(self) -> None:
        taking = self._snapshot(policy.Policy.REQUIRE)
        taking.prepare()
        self.domain.thaw_answer = 1
        taking.cut(self._make)
        self.assertEqual([True], self.frozen_at_cut)
        with self.assertRaisesRegex(errors.QuiesceError, 'only 1'):
            taking.check()

    def test_lost_freeze_fails(self) -> None:
        self.domain.thaw_answer = 1
        with self.assertRaisesRegex(errors.QuiesceError, 'only 1'):
            self._take(policy.Policy.REQUIRE)

    def test_shut_off_is_good_enough(self) -> None:
        taking = self._snapshot(policy.Policy.REQUIRE)
        taking.find_offline()
        taking.check()
        self.assertIs(consistency.Level.OFFLINE, taking.record.level)

    def test_each_record_has_the_remark(self) -> None:
        taking = self._snapshot(policy.Policy.PREFER, '; and a remark')
        taking.find_offline()
        self.assertIn('down; and a', taking.record.properties()[
            'quiesce_reason'])
        taking.prepare()
        taking.cut(self._make)
        self.assertIs(consistency.Level.FILESYSTEM, taking.record.level)
        self.assertTrue(taking.record.properties()['quiesce_reason'].endswith(
            '; and a remark'))

    def test_path_without_a_window_fails(self) -> None:
        taking = self._snapshot(policy.Policy.REQUIRE)
        with self.assertRaisesRegex(errors.QuiesceError, 'cold'):
            taking.find_unfreezable('this is a cold snapshot')

    def test_path_that_was_not_foreseen_fails(self) -> None:
        with self.assertRaises(errors.QuiesceError):
            self._snapshot(policy.Policy.REQUIRE).check()


class PreferTest(SnapshotTestCase):

    def test_healthy(self) -> None:
        self.assertIs(consistency.Level.FILESYSTEM,
                      self._take(policy.Policy.PREFER).level)

    def test_dead_agent_is_labelled(self) -> None:
        self.domain.connected = False
        record = self._take(policy.Policy.PREFER)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn('not connected', record.reason)
        self.assertEqual([False], self.frozen_at_cut)

    def test_failed_freeze_is_labelled(self) -> None:
        self.domain.errors['fsFreeze'] = [HOOK_FAILED]
        record = self._take(policy.Policy.PREFER)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertEqual([False], self.frozen_at_cut)

    def test_timed_out_freeze_is_labelled_and_thawed(self) -> None:
        taking = self._snapshot(policy.Policy.PREFER)
        taking.prepare()
        self.domain.hanging = True
        taking.cut(self._make)
        self.assertIs(consistency.Level.CRASH, taking.record.level)
        self.domain.land()
        test_windows.wait_until_thawed(self.domain)

    def test_zero_frozen_is_labelled(self) -> None:
        self.domain.filesystems = 0
        record = self._take(policy.Policy.PREFER)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn('froze no filesystem', record.reason)

    def test_cut_is_made_whatever_keeps_the_window_shut(self) -> None:
        taking = self._snapshot(policy.Policy.PREFER)
        taking.prepare()
        self.domain.errors['fsFreeze'] = [OSError('/a/path of the host')]
        taking.cut(self._make)
        self.assertEqual([False], self.frozen_at_cut)
        self.assertIn('cannot be read', taking.record.reason)
        self.assertNotIn('/a/path', taking.record.reason)
        self.assertFalse(self.domain.frozen)

    def test_failed_cut_is_not_repeated(self) -> None:
        taking = self._snapshot(policy.Policy.PREFER)
        taking.prepare()

        def fail() -> None:
            self._make()
            raise RuntimeError('no active block job')

        with self.assertRaisesRegex(RuntimeError, 'no active block job'):
            taking.cut(fail)
        self.assertEqual([True], self.frozen_at_cut)
        self.assertFalse(self.domain.frozen)


class SkipTest(SnapshotTestCase):

    def test_guest_is_left_alone(self) -> None:
        record = self._take(policy.Policy.SKIP)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn('asks for no quiesce', record.reason)
        self.assertEqual([], self.domain.calls)
        self.assertEqual([False], self.frozen_at_cut)


class EndTest(SnapshotTestCase):
    """What a snapshot used is gone with it: an agent has a connection."""

    def setUp(self) -> None:
        super().setUp()
        gc.disable()
        self.addCleanup(gc.enable)

    def _see_it_go(self, fault: str) -> None:
        agent = self._fail()
        deadline = time.monotonic() + 5
        # A thread may be about to end.
        while agent() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertIsNone(agent(), fault)

    def _fail(self) -> weakref.ref[guest_agent.Agent]:
        taking = self._snapshot(policy.Policy.REQUIRE)
        agent = weakref.ref(taking._agent)
        with contextlib.suppress(errors.QuiesceError):
            taking.prepare()
            taking.cut(self._make)
            taking.check()
        return agent

    def test_healthy(self) -> None:
        self._see_it_go('none')

    def test_dead_agent(self) -> None:
        self.domain.connected = False
        self._see_it_go('not connected')

    def test_calls_that_fail(self) -> None:
        for call in ('fsInfo', 'fsFreeze', 'fsThaw'):
            self.domain.errors[call] = [fixture.hook_failure('freeze')]
            self._see_it_go(call)
