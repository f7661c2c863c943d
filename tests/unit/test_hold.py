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

"""What outlives nova-compute: the lease on the disk, and the guard's watch."""

import os
import tempfile
import unittest
from unittest import mock

from nova_quiesce.guard import handle
from nova_quiesce import hold
from nova_quiesce import lease as leases
from nova_quiesce import lease_directory

UUID = '11111111-2222-4333-8444-555555555555'


class HoldTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = lease_directory.LeaseDirectory(
            scratch.name + '/leases')
        self.directory.prepare()
        self.guard = mock.create_autospec(handle.Guard, instance=True)

    def _hold(self, guard: handle.Guard | None = None,
              is_guard_required: bool = True) -> hold.Hold:
        return hold.Hold(
            self.directory, guard or self.guard, is_guard_required,
            lambda: leases.Lease.new(UUID, 'req-1', 'a test', 60, 1))

    def _on_disk(self) -> leases.Lease | None:
        return self.directory.read(UUID)

    def test_on_disk_before_the_guard_is_told(self) -> None:
        seen: list[leases.Lease | None] = []
        self.guard.watch.side_effect = (
            lambda lease: seen.append(self._on_disk()))
        self._hold().take()
        self.assertEqual([self._on_disk()], seen)
        self.assertIsNotNone(seen[0])

    def test_drop(self) -> None:
        held = self._hold()
        held.take()
        held.drop()
        held.drop()
        self.assertIsNone(self._on_disk())
        self.guard.release.assert_called_once_with(UUID)

    def test_deadline_is_brought_forward(self) -> None:
        held = self._hold()
        held.take()
        held.limit(1)
        first, second = [call.args[0] for call in
                         self.guard.watch.call_args_list]
        self.assertLess(second.deadline, first.deadline)
        self.assertTrue(second.is_same(first))

    def test_one_per_instance(self) -> None:
        first = self._hold()
        first.take()
        second = self._hold()
        with self.assertRaisesRegex(leases.LeaseHeld, 'req-1'):
            second.take()
        second.drop()
        self.assertIsNotNone(self._on_disk())

    def test_required_guard_that_does_not_work(self) -> None:
        self.guard.watch.side_effect = handle.GuardUnavailable()
        with self.assertRaises(handle.GuardUnavailable):
            self._hold().take()
        self.assertIsNone(self._on_disk())

    def test_preferred_guard_that_does_not_work(self) -> None:
        self.guard.watch.side_effect = handle.GuardUnavailable()
        with self.assertLogs('nova_quiesce.hold', 'ERROR'):
            self._hold(is_guard_required=False).take()
        self.assertIsNotNone(self._on_disk())

    def test_lease_that_cannot_be_written(self) -> None:
        os.rmdir(self.directory.path)
        held = self._hold()
        with self.assertLogs('nova_quiesce.hold', 'ERROR'):
            with self.assertRaisesRegex(hold.NoLease, 'operator') as caught:
                held.take()
        self.assertNotIn(self.directory.path, str(caught.exception))
        self.guard.watch.assert_not_called()

    def test_directory_that_is_gone(self) -> None:
        held = self._hold()
        held.take()
        broken = mock.create_autospec(
            lease_directory.LeaseDirectory, instance=True)
        broken.release.side_effect = leases.LeaseError('disk full')
        held._directory = broken
        with self.assertLogs('nova_quiesce.hold', 'ERROR') as logged:
            held.drop()
        self.assertIn('stays behind', logged.output[0])
