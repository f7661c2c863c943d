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

import unittest
from unittest import mock

from nova_quiesce.cuts import suspension


class Snapshot:
    """A snapshot in progress that tells what was done with it.

    :ivar did: what happened, in order
    """

    def __init__(self) -> None:
        self.did: list[str] = []
        self.restart_error: Exception | None = None
        self.refusal: Exception | None = None

    def freeze(self, is_saved: bool = False) -> None:
        assert is_saved
        if self.refusal is not None:
            raise self.refusal
        self.did.append('freeze')

    def restart(self) -> None:
        if self.restart_error is not None:
            raise self.restart_error
        self.did.append('restart')

    def thaw(self) -> None:
        self.did.append('thaw')


class SuspensionTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.snapshot = Snapshot()
        self.did = self.snapshot.did
        self.suspension = suspension.Suspension(
            self.snapshot, lambda: self.did.append('resume'))

    def _suspend(self) -> None:
        self.did.append('suspend')

    def test_frozen_until_it_runs_again(self) -> None:
        self.suspension.begin(self._suspend)
        self.assertEqual(['freeze', 'suspend'], self.did)
        self.suspension.end()
        self.assertEqual(['restart', 'resume', 'thaw'], self.did[2:])

    def test_without_the_freeze_that_is_required(self) -> None:
        self.snapshot.refusal = KeyError()
        with self.assertRaises(KeyError):
            self.suspension.begin(self._suspend)
        self.suspension.end()
        self.assertEqual(['thaw'], self.did)

    def test_suspend_that_fails(self) -> None:
        with self.assertRaises(KeyError):
            self.suspension.begin(mock.Mock(side_effect=KeyError))
        self.assertEqual(['freeze', 'thaw'], self.did)
        self.suspension.end()
        self.assertEqual(['freeze', 'thaw'], self.did)

    def test_restart_that_fails_before_the_resume(self) -> None:
        self.suspension.begin(self._suspend)
        self.snapshot.restart_error = KeyError()
        with self.assertRaises(KeyError):
            self.suspension.end()
        self.assertEqual(['resume', 'thaw'], self.did[-2:])

    def test_resume_that_fails(self) -> None:
        failing = suspension.Suspension(
            self.snapshot, mock.Mock(side_effect=KeyError))
        failing.begin(self._suspend)
        with self.assertRaises(KeyError):
            failing.end()
        self.assertEqual('thaw', self.did[-1])

    def test_end_counts_once(self) -> None:
        self.suspension.begin(self._suspend)
        self.suspension.end()
        self.suspension.end()
        self.assertEqual(1, self.did.count('resume'))
        self.assertEqual(1, self.did.count('thaw'))
