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

"""A few thousand answers, and what they are judged by."""

import unittest

from nova_quiesce import consistency
from nova_quiesce.freeze import errors
from tests.hostile import judgement
from tests.hostile import runs

ANSWERS = 2000
#: Of one run in so many, the memory is measured.
MEASURED = 20


class HostileTest(unittest.TestCase):

    def test_any_answers(self) -> None:
        """``python -m tests.hostile`` does the same for as long as it may."""
        count = seed = 0
        outcomes: set[str] = set()
        while count < ANSWERS:
            run = runs.Run(seed, is_traced=seed % MEASURED == 0).go()
            self.assertEqual([], run.problems, 'seed %d:\n%s' % (
                seed, '\n'.join(run.story)))
            count += run.count
            outcomes.update(run.outcomes)
            seed += 1
        self.assertEqual({'filesystem', 'crash', 'refused', 'arrived'},
                         outcomes)

    def test_honest_agent(self) -> None:
        for seed in range(20):
            run = runs.Run(seed, is_hostile=False).go()
            self.assertEqual([], run.problems)


class JudgementTest(unittest.TestCase):
    """What is judged is noticed."""

    def test_texts(self) -> None:
        for text in ('x' * 1000, 'a\nb', '\x1b[2J', '\ud800', '\U0001f600'):
            self.assertTrue(list(judgement.judge_text('here', text)))
        self.assertEqual([], list(judgement.judge_text('here', 'größe')))

    def test_error_that_leads_back_to_a_text_of_the_guests(self) -> None:
        try:
            try:
                raise ValueError('\n\x1b[2J')
            except ValueError as error:
                raise errors.QuiesceError('why') from error
        except errors.QuiesceError as error:
            self.assertTrue(list(judgement.judge_error(error)))

    def test_record_that_lies(self) -> None:
        claimed = consistency.Record(consistency.Level.FILESYSTEM, 'why')
        self.assertEqual([], list(judgement.judge_record(claimed, True, True)))
        self.assertTrue(list(judgement.judge_record(claimed, False, False)))
        self.assertTrue(list(judgement.judge_record(
            consistency.crash('why'), False, True)))
