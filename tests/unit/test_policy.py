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

"""The policy: one test per row of the documented tables."""

import dataclasses
import unittest

from nova_quiesce import policy

REQUIRE = {'os_require_quiesce': 'yes'}
PREFER = {'hw_qemu_guest_agent': 'yes'}
OPT_OUT = {'os_skip_quiesce': 'yes'}


@dataclasses.dataclass
class Options:
    """The operator's options, with their defaults."""

    mode: str = policy.MODE_ASKED
    allow_opt_out: bool = True
    allow_mountpoints: bool = False
    guard: str = policy.GUARD_REQUIRED
    freeze_timeout: int = 30
    max_freeze_time: int = 60
    max_freeze_time_windows: int = 10


class PolicyTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.options = Options()
        self.state = policy.State(agent_channel=True)

    def _decide(self, properties: dict[str, str]) -> policy.Decision:
        return policy.decide(properties, self.options, self.state)

    def _assert_tried(self, wanted: policy.Policy,
                      properties: dict[str, str]) -> policy.Decision:
        decision = self._decide(properties)
        self.assertIs(wanted, decision.policy)
        self.assertIsNone(decision.reason)
        return decision

    def _assert_skipped(self, reason: str,
                        properties: dict[str, str]) -> policy.Decision:
        decision = self._decide(properties)
        self.assertIs(policy.Policy.SKIP, decision.policy)
        self.assertIn(reason, decision.reason or '')
        return decision


class WishTest(PolicyTestCase):
    """The wishes of an image."""

    def _assert_remark(self, remark: str, decision: policy.Decision) -> None:
        said, = decision.remarks
        self.assertIn(remark, said)

    def test_required(self) -> None:
        for yes in ('yes', 'true', '1', 'on', 'True', ' y '):
            decision = self._assert_tried(
                policy.Policy.REQUIRE, {'os_require_quiesce': yes})
            self.assertEqual((), decision.remarks)

    def test_required_and_agent(self) -> None:
        self._assert_tried(policy.Policy.REQUIRE, {**REQUIRE, **PREFER})

    def test_misspelt_requirement_requires(self) -> None:
        for value in ('ture', '', 'maybe', '2'):
            decision = self._assert_tried(
                policy.Policy.REQUIRE, {'os_require_quiesce': value})
            self._assert_remark('counts as yes', decision)

    def test_required_and_opted_out_requires(self) -> None:
        decision = self._assert_tried(
            policy.Policy.REQUIRE, {**REQUIRE, **OPT_OUT})
        self._assert_remark('os_require_quiesce wins', decision)

    def test_misspelt_requirement_wins_over_an_opt_out(self) -> None:
        decision = self._assert_tried(
            policy.Policy.REQUIRE, {'os_require_quiesce': 'ture', **OPT_OUT})
        self.assertEqual(2, len(decision.remarks))

    def test_opted_out_skips(self) -> None:
        decision = self._assert_skipped('opts out', {**PREFER, **OPT_OUT})
        self.assertEqual((), decision.remarks)

    def test_opted_out_where_that_is_not_allowed(self) -> None:
        self.options.allow_opt_out = False
        decision = self._assert_tried(
            policy.Policy.PREFER, {**PREFER, **OPT_OUT})
        self._assert_remark('allow_opt_out', decision)

    def test_opted_out_of_nothing_where_that_is_not_allowed(self) -> None:
        self.options.allow_opt_out = False
        self._assert_skipped('asks for no quiesce', OPT_OUT)

    def test_misspelt_opt_out_is_none(self) -> None:
        decision = self._assert_tried(
            policy.Policy.PREFER, {**PREFER, 'os_skip_quiesce': 'ture'})
        self._assert_remark('counts as no', decision)

    def test_agent_prefers(self) -> None:
        for no in (None, 'no', 'false', '0', 'off', 'False'):
            properties = {} if no is None else {'os_require_quiesce': no}
            self._assert_tried(
                policy.Policy.PREFER, {**PREFER, **properties})

    def test_nothing_set_skips(self) -> None:
        for properties in ({}, {'hw_qemu_guest_agent': 'no'}):
            self._assert_skipped('asks for no quiesce', properties)

    def test_unknown_agent_value_is_no_agent_as_in_nova(self) -> None:
        decision = self._assert_skipped('asks for no quiesce',
                                        {'hw_qemu_guest_agent': 'banana'})
        self._assert_remark('counts as no, as it does for Nova', decision)

    def test_wish_under_the_name_that_nova_never_read(self) -> None:
        for value in ('yes', 'true', 'ture'):
            wish = {'hw_require_fsfreeze': value}
            decision = self._assert_tried(
                policy.Policy.PREFER, {**PREFER, **wish})
            self._assert_remark('os_require_quiesce=yes is what', decision)
            decision = self._assert_skipped('asks for no quiesce', wish)
            self._assert_remark('os_require_quiesce=yes is what', decision)

    def test_wish_under_both_names(self) -> None:
        decision = self._assert_tried(policy.Policy.REQUIRE, {
            **REQUIRE, 'hw_require_fsfreeze': 'yes'})
        self.assertEqual((), decision.remarks)

    def test_no_wish_under_that_name(self) -> None:
        decision = self._assert_tried(policy.Policy.PREFER, {
            **PREFER, 'hw_require_fsfreeze': 'no'})
        self.assertEqual((), decision.remarks)


class ObstacleTest(PolicyTestCase):
    """The obstacles to a freeze."""

    def _assert_obstacle(self, reason: str) -> None:
        decision = self._decide(REQUIRE)
        self.assertIs(policy.Policy.REQUIRE, decision.policy)
        self.assertIn(reason, decision.reason or '')
        self._assert_skipped(reason, PREFER)

    def _assert_none(self) -> None:
        self._assert_tried(policy.Policy.REQUIRE, REQUIRE)
        self._assert_tried(policy.Policy.PREFER, PREFER)

    def test_running(self) -> None:
        self._assert_none()

    def test_state_not_known(self) -> None:
        self.state = policy.State(power=policy.Power.UNKNOWN)
        self._assert_none()

    def test_no_agent_channel(self) -> None:
        self.state = policy.State(agent_channel=False)
        self._assert_obstacle('no guest agent channel')

    def test_shut_off(self) -> None:
        self.state = policy.State(policy.Power.SHUT_OFF)
        self._assert_obstacle('nothing to freeze')

    def test_paused(self) -> None:
        self.state = policy.State(policy.Power.PAUSED)
        self._assert_obstacle('resume it first')

    def test_suspended(self) -> None:
        self.state = policy.State(policy.Power.SUSPENDED)
        self._assert_obstacle('suspended')

    def test_host_quiesces_required_ones_only(self) -> None:
        self.options.mode = policy.MODE_REQUIRED
        self._assert_tried(policy.Policy.REQUIRE, REQUIRE)
        self._assert_skipped('only instances whose image', PREFER)

    def test_host_is_switched_off(self) -> None:
        self.options.mode = policy.MODE_OFF
        self._assert_obstacle('switched off on this compute host')

    def test_guard_is_required_and_gone(self) -> None:
        self.state = policy.State(guarded=False)
        self._assert_obstacle('thaw guard')

    def test_guard_is_not_required_and_gone(self) -> None:
        self.state = policy.State(guarded=False)
        for guard in (policy.GUARD_PREFERRED, policy.GUARD_OFF):
            self.options.guard = guard
            self._assert_none()

    def test_the_owners_own_obstacle_is_told_first(self) -> None:
        self.options.mode = policy.MODE_OFF
        self.state = policy.State(policy.Power.SHUT_OFF, agent_channel=False)
        self._assert_obstacle('shut off')

    def test_what_is_not_asked_for_has_no_obstacle(self) -> None:
        self.options.mode = policy.MODE_OFF
        self.state = policy.State(policy.Power.PAUSED)
        self._assert_skipped('asks for no quiesce', {})


class LimitsTest(PolicyTestCase):
    """The limits of a freeze."""

    def _assert_limits(self, freeze_timeout: int, max_freeze_time: int,
                       **properties: str) -> policy.Decision:
        decision = self._decide(properties)
        self.assertEqual(policy.Limits(freeze_timeout, max_freeze_time),
                         decision.limits)
        return decision

    def test_operators(self) -> None:
        self._assert_limits(30, 60)

    def test_freeze_has_no_longer_than_the_longest_freeze(self) -> None:
        self.options.max_freeze_time = 20
        self._assert_limits(20, 20)

    def test_image_asks_for_less(self) -> None:
        self._assert_limits(30, 45, os_quiesce_max_freeze_time='45')
        self._assert_limits(5, 5, os_quiesce_max_freeze_time=' 5 ')

    def test_image_asks_for_more(self) -> None:
        decision = self._assert_limits(
            30, 60, os_quiesce_max_freeze_time='999999999')
        self.assertEqual((), decision.remarks)

    def test_image_asks_for_what_is_no_time(self) -> None:
        for value in ('', '0', '-5', '2.5', 'banana', '5 s', '1_0', '٣',
                      '9' * 5000):
            decision = self._assert_limits(
                30, 60, os_quiesce_max_freeze_time=value)
            said, = decision.remarks
            self.assertIn("operator's limit counts", said)

    def test_windows(self) -> None:
        for name in ('windows', 'Windows'):
            # Its writers may take longer to prepare for the freeze.
            self._assert_limits(30, 10, os_type=name)

    def test_windows_and_image_asks_for_less(self) -> None:
        self._assert_limits(
            5, 5, os_type='windows', os_quiesce_max_freeze_time='5')

    def test_windows_and_image_asks_for_more(self) -> None:
        self._assert_limits(
            30, 10, os_type='windows', os_quiesce_max_freeze_time='40')

    def test_windows_and_operator_allows_less(self) -> None:
        self.options.max_freeze_time = 8
        self._assert_limits(8, 8, os_type='windows')

    def test_other_systems_have_no_limit_of_their_own(self) -> None:
        self._assert_limits(30, 60, os_type='linux')


class MountpointsTest(PolicyTestCase):
    """The filesystems that are frozen."""

    def setUp(self) -> None:
        super().setUp()
        self.options = dataclasses.replace(
            self.options, allow_mountpoints=True)

    def _name(self, value: str) -> dict[str, str]:
        return {**REQUIRE, 'os_quiesce_mountpoints': value}

    def test_all_by_default(self) -> None:
        self.assertEqual((), self._decide(REQUIRE).mountpoints)

    def test_those_that_the_image_names(self) -> None:
        decision = self._decide(self._name('/, /data'))
        self.assertIsNone(decision.reason)
        self.assertEqual(('/', '/data'), decision.mountpoints)

    def test_without_the_operators_leave(self) -> None:
        self.options = dataclasses.replace(
            self.options, allow_mountpoints=False)
        decision = self._decide(self._name('/data'))
        self.assertIsNone(decision.reason)
        self.assertEqual((), decision.mountpoints)
        self.assertIn('allow_mountpoints is off', decision.remarks[0])

    def test_what_cannot_be_read(self) -> None:
        for value in ('data', '/data,', '/da\nta', ',',
                      ','.join(['/data'] * 17)):
            decision = self._decide(self._name(value))
            self.assertIs(policy.Policy.REQUIRE, decision.policy, value)
            self.assertIn('os_quiesce_mountpoints', decision.reason or '')
