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

"""What holds for each image, each setting and each freeze window."""

import datetime
import unittest

import hypothesis
from hypothesis import strategies

from nova_quiesce import consistency
from nova_quiesce.freeze import filesystems
from nova_quiesce.freeze import proof
from nova_quiesce import policy
from nova_quiesce import properties
from tests.unit import any_input
from tests.unit import test_policy

_ANY = any_input.VALUES
_BOOLEANS = strategies.sampled_from(
    ('yes', 'no', 'True', 'false', '1', '', ' yes ', 'maybe', True, None))
_PATHS = strategies.sampled_from(
    ('/', '/data', '/b', ' /c ', '', 'data', '/\n', '/größe'))
_LISTS = strategies.lists(_PATHS, max_size=20).map(','.join)
_IMAGES = strategies.fixed_dictionaries({}, optional={
    policy.REQUIRE_PROPERTY: _BOOLEANS | _ANY,
    policy.AGENT_PROPERTY: _BOOLEANS | _ANY,
    policy.SKIP_PROPERTY: _BOOLEANS | _ANY,
    policy.SPECIFIED_PROPERTY: _BOOLEANS | _ANY,
    policy.LIMIT_PROPERTY: strategies.integers(-2, 100).map(str) | _ANY,
    policy.MOUNTPOINTS_PROPERTY: _LISTS | _ANY,
    policy.OS_PROPERTY: strategies.sampled_from(
        ('windows', ' Windows', 'linux')) | _ANY})
_SECONDS = strategies.integers(1, 3600)
_OPTIONS = strategies.builds(
    test_policy.Options,
    mode=strategies.sampled_from(
        (policy.MODE_ASKED, policy.MODE_REQUIRED, policy.MODE_OFF)),
    allow_opt_out=strategies.booleans(),
    allow_mountpoints=strategies.booleans(),
    guard=strategies.sampled_from(
        (policy.GUARD_REQUIRED, policy.GUARD_PREFERRED, policy.GUARD_OFF)),
    freeze_timeout=_SECONDS, max_freeze_time=_SECONDS,
    max_freeze_time_windows=_SECONDS)
_STATES = strategies.builds(
    policy.State, power=strategies.sampled_from(policy.Power),
    agent_channel=strategies.none() | strategies.booleans(),
    guarded=strategies.booleans())
_COUNTS = strategies.integers(0, filesystems.MAX_LISTED)
_EVIDENCE = strategies.builds(
    proof.Evidence,
    frozen_at=strategies.datetimes(
        timezones=strategies.just(datetime.UTC)),
    seconds=strategies.floats(0, 1e6), frozen=_COUNTS,
    thawed=strategies.none() | _COUNTS,
    lapse=strategies.none() | strategies.text('abc'),
    listed=strategies.none() | strategies.lists(strategies.builds(
        filesystems.Filesystem, any_input.TEXTS, any_input.TEXTS,
        strategies.sampled_from(('ext4', 'vfat', 'tmpfs')))).map(tuple),
    refusal=strategies.none() | strategies.text('abc'))

Image = dict[str, object]
_ORDER = [policy.Policy.SKIP, policy.Policy.PREFER, policy.Policy.REQUIRE]


class AnyPolicyTest(unittest.TestCase):

    @hypothesis.given(_IMAGES, _OPTIONS, _STATES)
    def test_limits_are_the_operators_at_most(
            self, image: Image, options: test_policy.Options,
            state: policy.State) -> None:
        limits = policy.decide(image, options, state).limits
        self.assertLessEqual(1, limits.freeze_timeout)
        self.assertLessEqual(limits.freeze_timeout, options.freeze_timeout)
        self.assertLessEqual(1, limits.max_freeze_time)
        self.assertLessEqual(limits.max_freeze_time, options.max_freeze_time)
        if policy.is_windows(image):
            self.assertLessEqual(
                limits.max_freeze_time, options.max_freeze_time_windows)
        asked = policy.image_limit(image)
        if asked is not None:
            self.assertLessEqual(limits.max_freeze_time, asked)

    @hypothesis.given(_IMAGES, _OPTIONS, _STATES)
    def test_what_is_required_stays_so(
            self, image: Image, options: test_policy.Options,
            state: policy.State) -> None:
        decision = policy.decide(image, options, state)
        self.assertEqual(
            policy.asked(image, options) is policy.Policy.REQUIRE,
            decision.policy is policy.Policy.REQUIRE)
        if decision.reason is None:
            self.assertIsNot(policy.Policy.SKIP, decision.policy)
            self.assertNotIn(state.power, (
                policy.Power.PAUSED, policy.Power.SUSPENDED,
                policy.Power.SHUT_OFF))
            self.assertNotEqual(policy.MODE_OFF, options.mode)
        else:
            self.assertIsNot(policy.Policy.PREFER, decision.policy)
        for text in (*decision.remarks, decision.reason or 'none'):
            self.assertTrue(text and text.isprintable())
        for path in decision.mountpoints:
            self.assertTrue(options.allow_mountpoints)
            self.assertTrue(path.startswith('/') and path.isprintable())


class AnyStricterTest(unittest.TestCase):
    """Of an image and its instance's copy of it, the stricter counts."""

    @hypothesis.given(_IMAGES, _IMAGES, _OPTIONS)
    def test_wish(self, copy: Image, current: Image,
                    options: test_policy.Options) -> None:
        merged = properties.stricter(copy, current, options)
        self.assertIs(
            max((policy.asked(one, options) for one in (copy, current)),
                key=_ORDER.index), policy.asked(merged, options))

    @hypothesis.given(_IMAGES, _IMAGES, _OPTIONS)
    def test_limits(self, copy: Image, current: Image,
                    options: test_policy.Options) -> None:
        merged = properties.stricter(copy, current, options)
        limits = [limit for one in (copy, current)
                  if (limit := policy.image_limit(one)) is not None]
        self.assertEqual(min(limits, default=None), policy.image_limit(merged))
        self.assertEqual(
            policy.is_windows(copy) or policy.is_windows(current),
            policy.is_windows(merged))

    @hypothesis.given(_IMAGES, _IMAGES, _OPTIONS)
    def test_no_filesystem_is_left_out(
            self, copy: Image, current: Image,
            options: test_policy.Options) -> None:
        merged = policy.mountpoints(
            properties.stricter(copy, current, options))
        both = [policy.mountpoints(one) for one in (copy, current)]
        if () in both:
            # One of them has all filesystems frozen.
            self.assertEqual((), merged)
        elif None in both:
            self.assertIsNone(merged)
        elif merged:
            self.assertEqual(
                set(merged), {path for paths in both for path in paths or ()})
        else:
            self.assertEqual((), merged)

    @hypothesis.given(_IMAGES, _OPTIONS)
    def test_of_two_that_are_the_same(
            self, image: Image, options: test_policy.Options) -> None:
        merged = properties.stricter(image, image, options)
        both = [policy.mountpoints(one) for one in (image, merged)]
        self.assertEqual(*(None if one is None else set(one) for one in both))
        self.assertEqual(policy.asked(image, options),
                         policy.asked(merged, options))


class AnyWindowTest(unittest.TestCase):

    @hypothesis.given(_EVIDENCE)
    def test_claim_is_proven(self, evidence: proof.Evidence) -> None:
        is_proven = (
            evidence.lapse is None and evidence.frozen > 0 and
            evidence.tally.shortfall() is None and
            evidence.thawed is not None and
            evidence.thawed >= evidence.frozen)
        record = consistency.judge(evidence)
        self.assertIs(consistency.Level.FILESYSTEM if is_proven
                      else consistency.Level.CRASH, record.level)
        self.assertTrue(record.reason)

    @hypothesis.given(_EVIDENCE, strategies.text(max_size=80))
    def test_record_fits_where_it_is_stored(
            self, evidence: proof.Evidence, remark: str) -> None:
        record = consistency.Record(
            consistency.Level.CRASH, consistency.judge(evidence).reason,
            evidence.frozen_at, remark=remark)
        self.assertEqual(
            set(consistency.PROPERTIES), set(record.properties()))
        for value in record.properties().values():
            self.assertLessEqual(len(value), consistency.MAX_REASON)
