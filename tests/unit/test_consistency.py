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

"""The judgement of a window, and the record as it is written."""

import dataclasses
import datetime
import unittest

from nova_quiesce import consistency
from nova_quiesce.freeze import filesystems
from nova_quiesce.freeze import proof

LISTED = (filesystems.Filesystem('/', 'vda1', 'ext4'),
          filesystems.Filesystem('/data', 'vdb', 'ext4'))
FROZEN_AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC)


def evidence(frozen: int = 2, thawed: int | None = 2,
             lapse: str | None = None) -> proof.Evidence:
    return proof.Evidence(
        FROZEN_AT, 0.0427, frozen, thawed, lapse, listed=LISTED)


class JudgeTest(unittest.TestCase):

    def _assert_crash(self, reason: str,
                      seen: proof.Evidence) -> None:
        record = consistency.judge(seen)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn(reason, record.reason)

    def test_all_thawed(self) -> None:
        record = consistency.judge(evidence())
        self.assertIs(consistency.Level.FILESYSTEM, record.level)
        self.assertEqual((43, 2), (record.window_ms, record.filesystems))

    def test_more_thawed_than_frozen_is_good(self) -> None:
        # Somebody else's freeze inside the guest is thawed, too.
        self.assertIs(consistency.Level.FILESYSTEM,
                      consistency.judge(evidence(2, 3)).level)

    def test_fewer_thawed(self) -> None:
        self._assert_crash('only 1 were still frozen', evidence(2, 1))

    def test_nothing_thawed(self) -> None:
        self._assert_crash('only 0 were still frozen', evidence(2, 0))

    def test_thaw_not_confirmed(self) -> None:
        self._assert_crash('not confirmed', evidence(2, None))

    def test_nothing_frozen(self) -> None:
        self._assert_crash('froze no filesystem', evidence(0, 0))

    def test_one_that_is_listed_was_not_frozen(self) -> None:
        # What somebody else froze is thawed with the rest.
        for thawed in (1, 2):
            self._assert_crash('only 1 of these 2', evidence(1, thawed))

    def test_lapse(self) -> None:
        self._assert_crash('deadline', evidence(lapse='the deadline passed'))

    def test_lapse_without_a_reason(self) -> None:
        self._assert_crash('before the cut was complete', evidence(lapse=''))


class PropertiesTest(unittest.TestCase):

    def test_window(self) -> None:
        self.assertEqual(
            {'quiesce_consistency': 'filesystem',
             'quiesce_reason': 'all filesystems that the guest agent lists '
             'stayed frozen during the cut',
             'quiesce_frozen_at': '2026-01-02T03:04:05.678+00:00',
             'quiesce_window_ms': '43',
             'quiesce_filesystems': '2'},
            consistency.judge(evidence()).properties())

    def test_each_level_overwrites_each_property(self) -> None:
        keys = set(consistency.judge(evidence()).properties())
        for record in (consistency.offline(), consistency.crash('why')):
            self.assertEqual(keys, set(record.properties()))

    def test_no_window(self) -> None:
        properties = consistency.crash('the agent is dead').properties()
        self.assertEqual('crash', properties['quiesce_consistency'])
        self.assertEqual('the agent is dead', properties['quiesce_reason'])
        self.assertEqual('', properties['quiesce_frozen_at'])
        self.assertEqual('0', properties['quiesce_filesystems'])
        self.assertEqual('offline', consistency.offline().properties()[
            'quiesce_consistency'])

    def test_some_filesystems_are_named(self) -> None:
        record = consistency.judge(proof.Evidence(
            FROZEN_AT, 0.05, 1, 1, mountpoints=('/data',), listed=LISTED))
        self.assertIs(consistency.Level.FILESYSTEM, record.level)
        self.assertIn('/data', record.reason)

    def test_reason_and_remark_fit_into_what_cinder_stores(self) -> None:
        for reason in ('why', 'x' * 240, 'x' * 1000):
            record = dataclasses.replace(
                consistency.crash(reason), remark='; and a remark')
            text = record.properties()['quiesce_reason']
            self.assertTrue(text.startswith(reason[:200]))
            self.assertTrue(text.endswith('; and a remark'))
            self.assertLessEqual(len(text), consistency.MAX_REASON)
