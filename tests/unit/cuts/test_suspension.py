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

from collections import abc
import contextlib
import typing
import unittest
from unittest import mock

from nova_quiesce.cuts import suspension
from nova_quiesce.freeze import windows


class SuspensionTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        #: What happened, in order.
        self.did: list[typing.Any] = []
        self.window: mock.Mock | None = mock.create_autospec(
            windows.Window, instance=True)
        self.window.restart.side_effect = lambda: self.did.append('restart')
        self.suspension = suspension.Suspension(
            mock.Mock(frozen=self._frozen), lambda: self.did.append('resume'))

    @contextlib.contextmanager
    def _frozen(self, is_saved: bool = False
                ) -> abc.Iterator[mock.Mock | None]:
        self.assertTrue(is_saved)
        self.did.append('freeze')
        try:
            yield self.window
        finally:
            self.did.append('thaw')

    def _suspend(self) -> None:
        self.did.append('suspend')

    def test_frozen_until_it_runs_again(self) -> None:
        self.suspension.begin(self._suspend)
        self.assertEqual(['freeze', 'suspend'], self.did)
        self.suspension.end()
        self.assertEqual(['restart', 'resume', 'thaw'], self.did[2:])

    def test_without_a_freeze(self) -> None:
        self.window = None
        self.suspension.begin(self._suspend)
        self.suspension.end()
        self.assertEqual(['freeze', 'suspend', 'resume', 'thaw'], self.did)

    def test_suspend_that_fails(self) -> None:
        with self.assertRaises(KeyError):
            self.suspension.begin(mock.Mock(side_effect=KeyError))
        self.assertEqual(['freeze', 'thaw'], self.did)
        self.suspension.end()
        self.assertEqual(['freeze', 'thaw'], self.did)

    def test_restart_that_fails_before_the_resume(self) -> None:
        assert self.window is not None
        self.suspension.begin(self._suspend)
        self.window.restart.side_effect = KeyError
        with self.assertRaises(KeyError):
            self.suspension.end()
        self.assertEqual(['resume', 'thaw'], self.did[-2:])

    def test_resume_that_fails(self) -> None:
        failing = suspension.Suspension(
            mock.Mock(frozen=self._frozen), mock.Mock(side_effect=KeyError))
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
