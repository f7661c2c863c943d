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
import unittest
from unittest import mock

import libvirt

from nova_quiesce.cuts import suspension
from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import machines


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
        self.is_suspended = False
        self.machine = mock.create_autospec(
            machines.RealMachine, instance=True)
        self.machine.monotonic.return_value = 100.0
        self.machine.sleep.side_effect = self._go_by
        self.suspension = self._new(self._resume)

    def _new(self, resume: abc.Callable[[], object]) -> suspension.Suspension:
        return suspension.Suspension(
            self.snapshot, resume, lambda: self.is_suspended, self.machine)

    def _go_by(self, seconds: float) -> None:
        self.machine.monotonic.return_value += seconds

    def _suspend(self) -> None:
        self.did.append('suspend')
        self.is_suspended = True

    def _resume(self) -> None:
        self.did.append('resume')
        self.is_suspended = False

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
        self.assertEqual(['freeze', 'restart', 'thaw'], self.did)
        self.suspension.end()
        self.assertEqual(['freeze', 'restart', 'thaw'], self.did)

    def test_suspend_that_failed_after_it_came_about(self) -> None:
        def suspend() -> None:
            self._suspend()
            raise KeyError()

        with self.assertRaises(KeyError):
            self.suspension.begin(suspend)
        self.assertEqual(
            ['freeze', 'suspend', 'restart', 'resume', 'thaw'], self.did)

    def test_what_another_has_suspended_stays_so(self) -> None:
        self.is_suspended = True
        with self.assertRaises(libvirt.libvirtError):
            self.suspension.begin(mock.Mock(side_effect=fixture.libvirt_error(
                libvirt.VIR_ERR_OPERATION_INVALID, 'domain is not running')))
        self.assertEqual(['freeze', 'restart', 'thaw'], self.did)

    def test_resume_that_fails_once_it_runs(self) -> None:
        def resume() -> None:
            self._resume()
            raise KeyError()

        suspended = self._new(resume)
        suspended.begin(self._suspend)
        with self.assertRaises(KeyError), self.assertLogs(
                'nova_quiesce.cuts', 'WARNING'):
            suspended.end()
        self.assertEqual(['restart', 'resume', 'thaw'], self.did[2:])

    def test_hypervisor_that_is_away_for_a_moment(self) -> None:
        away = iter([errors.HypervisorUnreachable()])

        def is_suspended() -> bool:
            for error in away:
                raise error
            return self.is_suspended

        suspended = suspension.Suspension(
            self.snapshot, self._resume, is_suspended, self.machine)
        suspended.begin(self._suspend)
        with self.assertLogs('nova_quiesce.cuts', 'WARNING'):
            suspended.end()
        self.assertEqual(['restart', 'resume', 'thaw'], self.did[2:])

    def test_restart_that_fails_before_the_resume(self) -> None:
        self.suspension.begin(self._suspend)
        self.snapshot.restart_error = KeyError()
        with self.assertRaises(KeyError):
            self.suspension.end()
        self.assertEqual(['resume', 'thaw'], self.did[-2:])

    def test_resume_that_fails(self) -> None:
        failing = self._new(mock.Mock(side_effect=KeyError))
        failing.begin(self._suspend)
        with self.assertRaises(KeyError), self.assertLogs(
                'nova_quiesce.cuts', 'WARNING'):
            failing.end()
        self.assertEqual('thaw', self.did[-1])

    def test_end_counts_once(self) -> None:
        self.suspension.begin(self._suspend)
        self.suspension.end()
        self.suspension.end()
        self.assertEqual(1, self.did.count('resume'))
        self.assertEqual(1, self.did.count('thaw'))
