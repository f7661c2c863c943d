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

from nova_quiesce.freeze import errors
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import watched_lease
from tests.unit.freeze import test_guard

UUID = '11111111-2222-4333-8444-555555555555'


class WatchedLeaseTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = lease_directory.LeaseDirectory(
            scratch.name + '/leases')
        self.directory.prepare()
        self.guard = mock.create_autospec(
            guard_client.GuardClient, instance=True)
        self.guard.let_go_at = None
        self.guard.defer.side_effect = lambda call, *given: call(*given)
        self.admit = mock.Mock()

    def _new(self, guard: guard_client.GuardClient | None = None,
              is_guard_required: bool = True) -> watched_lease.WatchedLease:
        return watched_lease.WatchedLease(
            self.directory, guard or self.guard, is_guard_required,
            lambda: leases.Lease.new(
                machines.REAL, UUID, 'req-1', 'a test', 60, 1), 5,
            machines.REAL, self.admit)

    def _on_disk(self) -> leases.Lease | None:
        return self.directory.read(UUID)

    def test_on_disk_before_the_guard_is_told(self) -> None:
        seen: list[leases.Lease | None] = []
        self.guard.watch.side_effect = (
            lambda lease: seen.append(self._on_disk()))
        self._new().take()
        self.assertEqual(seen, [self._on_disk()])
        self.assertIsNotNone(seen[0])

    def test_drop(self) -> None:
        watched = self._new()
        watched.take()
        watched.drop()
        watched.drop()
        self.assertIsNone(self._on_disk())
        self.guard.release.assert_called_once_with(
            self.guard.watch.call_args.args[0].id)

    def test_deadline_is_brought_forward(self) -> None:
        watched = self._new()
        watched.take()
        watched.limit(machines.REAL.monotonic() + 1)
        first, second = [call.args[0] for call in
                         self.guard.watch.call_args_list]
        self.assertLess(second.deadline, first.deadline)
        self.assertTrue(second.is_same(first))

    def test_guard_waits_for_no_more_than_the_answer(self) -> None:
        """The file has the latest that may be; the guard is told less."""
        watched = self._new()
        watched.take()
        told, = [call.args[0] for call in self.guard.watch.call_args_list]
        self.assertTrue(told.is_same(watched.lease))
        self.assertLess(told.deadline, machines.REAL.monotonic() + 6)
        on_disk = self._on_disk()
        assert on_disk is not None
        self.assertGreater(on_disk.deadline, told.deadline + 50)

    def test_guard_that_took_its_time(self) -> None:
        """That is none of the freeze's."""
        clock = mock.create_autospec(machines.RealMachine, instance=True)
        clock.monotonic.side_effect = [100.0, 117.0, 117.0]
        watched = self._new()
        watched._machine = clock
        watched.take()
        first, second = [call.args[0] for call in
                         self.guard.watch.call_args_list]
        self.assertAlmostEqual(17, second.deadline - first.deadline)

    def test_guard_is_kept_off(self) -> None:
        watched = self._new()
        watched.keep_guard_off(1e9)
        watched.take()
        began = machines.REAL.monotonic()
        watched.keep_guard_off(began)
        self.guard.defer.assert_not_called()
        watched.keep_guard_off(began + 1000)
        told = self.guard.watch.call_args[0][0]
        self.assertEqual(began + 1000 + watched_lease.GRACE, told.deadline)

    def test_guard_that_may_have_begun_to_thaw(self) -> None:
        """It is told of another deadline, and ends what it is at."""
        clock = mock.create_autospec(machines.RealMachine, instance=True)
        clock.monotonic.return_value = 100.0
        watched = self._new()
        watched._machine = clock
        watched.take()
        self.assertIsNone(watched.latest_call())
        clock.monotonic.return_value = 105.0
        self.assertEqual(105.0, watched.latest_call())
        watched.limit(200.0)
        clock.monotonic.return_value = 106.0
        self.assertEqual(106.0, watched.latest_call())
        watched.drop()
        clock.monotonic.return_value = 300.0
        self.assertEqual(106.0, watched.latest_call())

    def test_guard_that_was_let_go_thaws(self) -> None:
        clock = mock.create_autospec(machines.RealMachine, instance=True)
        clock.monotonic.return_value = 100.0
        # That was another one.
        self.guard.let_go_at = 99.0
        watched = self._new()
        watched._machine = clock
        watched.take()
        self.assertIsNone(watched.latest_call())
        self.guard.let_go_at = 101.0
        clock.monotonic.return_value = 102.0
        self.assertEqual(102.0, watched.latest_call())

    def test_guard_that_was_told_in_time_does_not_begin(self) -> None:
        clock = mock.create_autospec(machines.RealMachine, instance=True)
        clock.monotonic.return_value = 100.0
        watched = self._new()
        watched._machine = clock
        watched.take()
        watched.drop()
        clock.monotonic.return_value = 200.0
        self.assertIsNone(watched.latest_call())

    def test_what_was_given_up_is_not_watched_again(self) -> None:
        watched = self._new()
        watched.take()
        watched.drop()
        watched.limit(machines.REAL.monotonic() + 1)
        self.assertEqual(1, self.guard.watch.call_count)

    def test_one_per_instance(self) -> None:
        first = self._new()
        first.take()
        second = self._new()
        with self.assertRaisesRegex(leases.LeaseHeld, 'req-1'):
            second.take()
        second.drop()
        self.assertIsNotNone(self._on_disk())

    def test_required_guard_that_does_not_work(self) -> None:
        self.guard.watch.side_effect = guard_client.GuardUnavailable()
        with self.assertRaises(guard_client.GuardUnavailable):
            self._new().take()
        self.assertIsNone(self._on_disk())

    def test_preferred_guard_that_does_not_work(self) -> None:
        self.guard.watch.side_effect = guard_client.GuardUnavailable()
        with self.assertLogs('nova_quiesce.freeze.watched_lease', 'ERROR'):
            self._new(is_guard_required=False).take()
        self.assertIsNotNone(self._on_disk())

    def test_lease_that_cannot_be_written(self) -> None:
        os.rmdir(self.directory.path)
        watched = self._new()
        with self.assertLogs('nova_quiesce.freeze.watched_lease', 'ERROR'):
            with self.assertRaisesRegex(
                    watched_lease.NoLease, 'operator') as caught:
                watched.take()
        self.assertNotIn(self.directory.path, str(caught.exception))
        self.guard.watch.assert_not_called()

    def test_lease_that_cannot_be_removed_is_removed_later(self) -> None:
        watched = self._new()
        watched.take()
        release = self.directory.release
        outcomes: list[Exception | None] = [leases.LeaseError('disk full'),
                                            leases.LeaseError('disk full')]

        def fail_first(lease: leases.Lease) -> bool:
            if outcomes:
                raise outcomes.pop()  # type: ignore[misc]
            return release(lease)

        self.enterContext(mock.patch.object(
            watched_lease, '_RELEASE_PAUSE', 0.01))
        self.enterContext(mock.patch.object(
            self.directory, 'release', fail_first))
        with self.assertLogs(
                'nova_quiesce.freeze.watched_lease', 'ERROR') as logged:
            watched.drop()
            test_guard.wait_until(lambda: self._on_disk() is None)
        self.assertIn('stays behind', logged.output[0])

    def test_no_freeze_that_must_not_begin(self) -> None:
        self.admit.side_effect = errors.Barred('is being live-migrated')
        with self.assertRaisesRegex(errors.Barred, 'live-migrated'):
            self._new().take()
        self.assertIsNone(self._on_disk())
