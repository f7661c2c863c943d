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

"""The duty of a request: as it is known, and as it is on the disk."""

import datetime
import json
import unittest

from nova_quiesce import consistency
from nova_quiesce.freeze import duties
from nova_quiesce.record import record_duty
from tests.unit.freeze import test_duties

NOW = datetime.datetime.now(datetime.UTC)
HELD = record_duty.Verdict(
    {**consistency.crash('all well').properties(),
     'quiesce_consistency': 'filesystem'}, frozenset({'s1', 's2'}))
CRASH = record_duty.Verdict.of(consistency.crash('a lapse'))


def new(is_required: bool = True) -> record_duty.RecordDuty:
    """Make the duty of a request that has just arrived."""
    return record_duty.RecordDuty.begin(
        test_duties.UUID, 'req-1', 'project', is_required,
        datetime.datetime.now(datetime.UTC))


class RecordDutyTest(unittest.TestCase):

    def test_as_it_goes_on(self) -> None:
        duty = new()
        self.assertIsNone(duty.snapshot_ids)
        self.assertIsNone(duty.verdict)
        self.assertFalse(duty.is_told)
        duty = duty.with_snapshots(
            ('s1', 's2'), NOW).with_verdict(HELD).with_told()
        again = record_duty.RecordDuty.of(duties.Duty(**json.loads(json.dumps(
            vars(duty.stored)))))
        self.assertEqual(duty, again)
        self.assertEqual(('s1', 's2'), again.snapshot_ids)
        self.assertEqual(HELD, again.verdict)
        self.assertTrue(again.is_told)
        self.assertTrue(again.is_required)
        self.assertEqual(('req-1', 'project', test_duties.UUID), (
            again.request_id, again.project_id, again.instance_uuid))

    def test_it_holds_no_token(self) -> None:
        self.assertEqual(
            {'request_id', 'project_id', 'is_required', 'snapshot_ids',
             'listed_at', 'properties', 'cut', 'image_id', 'put_away',
             'is_told'}, new().stored.content.keys())

    def test_what_is_none(self) -> None:
        good = new().stored
        wrongs: tuple[dict[str, object], ...] = (
                {'request_id': 5}, {'snapshot_ids': 's1'}, {'cut': None},
                {'is_required': 'yes'}, {'more': 1}, {'properties': []},
                {'listed_at': 'soon'}, {'listed_at': '2026-01-01T00:00:00'},
                {'properties': {'quiesce_reason': 'alone'}})
        for wrong in wrongs:
            with self.assertRaises(record_duty.NotARecordDuty):
                record_duty.RecordDuty.of(good.with_content(**wrong))


class VerdictTest(unittest.TestCase):

    def test_what_was_seen_complete(self) -> None:
        self.assertIs(HELD, HELD.on(('s1', 's2')))
        self.assertIs(HELD, HELD.on(('s1',)))

    def test_what_was_not(self) -> None:
        verdict = HELD.on(('s1', 's3'))
        self.assertEqual('crash', verdict.level)
        self.assertIn('not seen to be complete', verdict.reason)

    def test_crash_stays_what_it_is(self) -> None:
        self.assertIs(CRASH, CRASH.on(('s1',)))
