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

"""What a campaign of faults plans, and how it judges."""

import os
import pathlib
import random
import sys
import threading
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab.campaign import disturbances
from quiescelab.campaign import judgement
from quiescelab.campaign import moments
from quiescelab.campaign import resources
from quiescelab.campaign import soak
from quiescelab.campaign import subjects
from quiescelab import guestctl
from quiescelab import proc


def _call(action: str, begin: float, end: float,
          status: int = 0) -> guestctl.HookCall:
    return guestctl.HookCall(action, begin, end, status)


class PlanTest(unittest.TestCase):

    def _plans(self, seed: int) -> list[soak.Plan]:
        return [soak.plan(random.Random('%d-%d' % (seed, number)), 5)
                for number in range(200)]

    def test_a_seed_repeats_it(self) -> None:
        self.assertEqual(self._plans(1), self._plans(1))
        self.assertNotEqual(self._plans(1), self._plans(2))

    def test_all_comes_about(self) -> None:
        plans = self._plans(1)
        self.assertEqual(set(disturbances.ALL), {
            fault.name for one in plans for fault in one.faults})
        self.assertEqual(set(disturbances.HOOKS), {
            one.hook for one in plans if one.hook is not None})

    def test_some_rounds_are_calm(self) -> None:
        calm = sum(one.is_calm for one in self._plans(1))
        self.assertGreater(calm, 30)
        self.assertLess(calm, 80)

    def test_it_is_told(self) -> None:
        self.assertEqual('nothing fails', str(soak.Plan((), None, 0)))
        self.assertEqual(
            'a (at 1.0 s for 2.0 s); b',
            str(soak.Plan([soak.Fault('a', 0, 1, 2)], 'b', 0)))


class MomentsTest(unittest.TestCase):

    def test_all_are_of_kinds_that_there_are(self) -> None:
        kinds = {kind.name for kind in subjects.KINDS}
        for name, (_moment, whose) in moments.ALL.items():
            self.assertLessEqual(set(whose), kinds, name)


class HooksTest(unittest.TestCase):

    def _judge(self, *calls: guestctl.HookCall) -> list[str]:
        return list(judgement._judge_hooks(calls))

    def test_one_each(self) -> None:
        self.assertEqual([], self._judge(
            _call('freeze', 0, 1), _call('thaw', 2, 3),
            _call('freeze', 4, 5), _call('thaw', 6, 7)))

    def test_frozen_for_too_long(self) -> None:
        self.assertEqual(['frozen for 200 s'], self._judge(
            _call('freeze', 0, 1), _call('thaw', 201, 202)))

    def test_a_freeze_that_failed_is_none(self) -> None:
        self.assertEqual([], self._judge(
            _call('freeze', 0, 1, 7), _call('thaw', 201, 202)))

    def test_too_many_thaws(self) -> None:
        self.assertEqual(['13 thaws of one freeze'], self._judge(
            _call('freeze', 0, 1),
            *(_call('thaw', second, second) for second in range(2, 15))))


class ResourcesTest(unittest.TestCase):
    """Of this very process."""

    def setUp(self) -> None:
        super().setUp()
        me = proc.Process.of(os.getpid())
        lab = mock.Mock(**{'process.return_value': me,
                           'family.return_value': []})
        self.watch = resources.Watch(lab)

    def _look(self, times: int) -> None:
        for _ in range(times):
            self.watch.look()

    def test_nothing_leaks(self) -> None:
        self._look(4)
        self.assertEqual([], list(self.watch.leaks()))
        self.assertIn('nova-compute: ', self.watch.latest())

    def test_files(self) -> None:
        self._look(2)
        for _ in range(resources.MORE_FILES + 1):
            self.addCleanup(os.close, os.open(os.devnull, os.O_RDONLY))
        self._look(1)
        self.assertEqual(1, len(list(self.watch.leaks())))

    def test_threads(self) -> None:
        over = threading.Event()
        self._look(2)
        for _ in range(resources.MORE_THREADS + 1):
            thread = threading.Thread(target=over.wait)
            thread.start()
            self.addCleanup(thread.join)
        self.addCleanup(over.set)
        self._look(1)
        self.assertEqual(1, len(list(self.watch.leaks())))

    def test_memory(self) -> None:
        self._look(1)
        kept = bytearray(os.urandom(32 << 20))
        self._look(1)
        self.assertEqual(1, len(list(self.watch.growth(16))))
        self.assertEqual(32 << 20, len(kept))
