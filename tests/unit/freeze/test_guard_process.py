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

"""The guard as a process of its own, which is killed and which kills."""

import dataclasses
import fcntl
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from tests.unit.freeze import guard_program
from tests.unit.freeze import test_guard

wait_until = test_guard.wait_until


class ProcessTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.state = pathlib.Path(scratch.name)
        self.stderr = self.state / 'stderr'
        self.directory = lease_directory.LeaseDirectory(
            str(self.state / 'leases'))
        self.directory.prepare()

    def _frozen(self) -> list[pathlib.Path]:
        return list(self.state.glob('*/frozen'))

    def _thaws(self) -> list[str]:
        log = self.state / 'log'
        return log.read_text().splitlines() if log.exists() else []

    def _hang(self, lease: leases.Lease) -> pathlib.Path:
        path = self.state / lease.instance_uuid / 'hanging'
        path.touch()
        return path

    def _has_lease(self, lease: leases.Lease) -> bool:
        return self.directory.read(lease.instance_uuid) is not None

    def _assert_all_thawed(self, count: int) -> None:
        wait_until(lambda: self.directory.read_all() == ([], []))
        self.assertEqual([], self._frozen())
        self.assertEqual(count, len(self._thaws()))


class ClientTestCase(ProcessTestCase):
    """With a client in this process, and the guard as its child."""

    def setUp(self) -> None:
        super().setUp()
        self.guard = guard_program.new_client(self.state, what='quiet')
        self.addCleanup(self.guard.stop)

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        return self.guard._children[-1]

    def _freeze(self, number: int = 1,
                seconds: float = 3600) -> leases.Lease:
        return guard_program.freeze(
            self.state, self.guard, number, seconds)

    def _thaw(self, lease: leases.Lease) -> None:
        guard_program.Guest(self.state / lease.instance_uuid).fsThaw()
        self.directory.release(lease)
        self.guard.release(lease.id)


class ClientTest(ClientTestCase):

    def test_what_is_deferred_is_told_before_it_ends(self) -> None:
        self.guard.start()
        lease = self._freeze()
        guard_program.Guest(self.state / lease.instance_uuid).fsThaw()
        self.guard.defer(self.guard.release, lease.id)
        self.guard.stop()
        self.assertEqual(1, len(self._thaws()))

    def test_what_is_deferred_keeps_its_order(self) -> None:
        """Also where it is first deferred by several at once."""
        told: list[int] = []
        barrier = threading.Barrier(8)

        def defer() -> None:
            barrier.wait()
            self.guard.defer(told.append, 0)

        threads = [threading.Thread(target=defer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(1, 100):
            self.guard.defer(told.append, number)
        wait_until(lambda: len(told) == 107)
        self.assertEqual(sorted(told), told)
        self.assertEqual(1, sum(thread.name == 'tell-guard' and
                                thread is self.guard._deferred._worker
                                for thread in threading.enumerate()))

    def test_guard_that_hangs_keeps_nobody_waiting(self) -> None:
        self.guard.start()
        lease = self._freeze()
        self._child.send_signal(signal.SIGSTOP)
        self.addCleanup(self._child.send_signal, signal.SIGCONT)
        began = time.monotonic()
        for _ in range(4):
            self.guard.defer(self.guard.watch, lease)
        self.assertLess(time.monotonic() - began, guard_client.ANSWER_TIMEOUT)
        self._thaw(lease)

    def test_a_snapshot(self) -> None:
        self.guard.start()
        self.assertTrue(guard_program.answers(self.guard))
        self._thaw(self._freeze())
        child = self._child
        self.guard.stop()
        self.assertEqual(0, child.returncode)
        self.assertFalse(guard_program.answers(self.guard))
        self.assertEqual(1, len(self._thaws()))

    def test_stop_thaws_what_is_left(self) -> None:
        self.guard.start()
        self._freeze(1)
        self._freeze(2)
        self.guard.stop()
        self._assert_all_thawed(2)

    def test_stop_waits_no_longer_than_asked(self) -> None:
        self.guard.start()
        hanging = self._hang(self._freeze())
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            self.guard.stop(timeout=0.1)
        self.assertIn('goes on thawing', logs.output[0])
        self.assertIsNone(self._child.poll())
        hanging.unlink()
        self.assertEqual(0, self._child.wait(test_guard.LIMIT))
        self._assert_all_thawed(1)

    def test_failed_update_leaves_the_lease_watched(self) -> None:
        lease = self._freeze()
        with mock.patch.object(wire.MessageSocket, 'ask', autospec=True,
                               side_effect=wire.RequestRefused('no')):
            with self.assertLogs(
                    'nova_quiesce.freeze.guard'), self.assertRaises(
                    guard_client.GuardUnavailable):
                self.guard.watch(dataclasses.replace(
                    lease, owners=('req-1', 'req-2')))
        self._thaw(lease)
        self.guard.stop()
        self.assertEqual(1, len(self._thaws()))

    def test_nothing_is_watched_after_stop(self) -> None:
        self.guard.start()
        self.guard.stop()
        with self.assertRaises(guard_client.GuardUnavailable):
            self._freeze()
        self.guard.release('0e5a17e4-2d32-4f1b-8a55-000000000001')
        self.guard.stop()
        self.assertEqual([], self._frozen())

    def test_started_by_need(self) -> None:
        self._freeze()
        self.assertTrue(guard_program.answers(self.guard))

    def test_killed_guard_is_replaced(self) -> None:
        first = self._freeze(1)
        child = self._child
        child.kill()
        child.wait()
        self.assertFalse(guard_program.answers(self.guard))
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            self._freeze(2)
        self.assertIn('lost', logs.output[0])
        self.assertEqual([], self._thaws())
        # The new one knows of both.
        self.guard.stop()
        self._assert_all_thawed(2)
        self.assertFalse(self._has_lease(first))

    def test_killed_guard_is_replaced_for_those_that_stay(self) -> None:
        first, second = self._freeze(1), self._freeze(2)
        self._child.kill()
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._thaw(second)
        self.assertTrue(guard_program.answers(self.guard))
        self.assertTrue(self._has_lease(first))

    def test_killed_guard_without_leases_is_not_replaced(self) -> None:
        lease = self._freeze()
        self._child.kill()
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._thaw(lease)
        self.assertFalse(guard_program.answers(self.guard))

    def test_usable_guard_is_left_as_it_is(self) -> None:
        self.guard.start()
        child = self._child
        self.assertTrue(self.guard.is_usable())
        self.assertIs(child, self._child)

    def test_lost_guard_is_usable_once_replaced(self) -> None:
        self.guard.start()
        self._child.kill()
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self.assertTrue(self.guard.is_usable())
        self.assertTrue(guard_program.answers(self.guard))

    def test_guard_that_cannot_be_started_is_not_usable(self) -> None:
        guard = guard_client.GuardClient(
            self.guard._settings, command=('/nonexistent',))
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self.assertFalse(guard.is_usable())

    def test_stopped_guard_is_not_usable(self) -> None:
        self.guard.start()
        self.guard.stop()
        self.assertFalse(self.guard.is_usable())
        self.assertFalse(guard_program.answers(self.guard))

    def test_stopped_guard_is_replaced(self) -> None:
        hanging = self._hang(self._freeze(1))
        child = self._child
        child.send_signal(signal.SIGTERM)
        wait_until(lambda: not guard_program.answers(self.guard))
        # Also where the end of the first was not noticed yet.
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._freeze(2)
        self.assertIsNot(child, self._child)
        hanging.unlink()
        self.assertEqual(0, child.wait(test_guard.LIMIT))

    def test_silent_guard_is_killed_and_replaced(self) -> None:
        self._freeze(1)
        child = self._child
        self.addCleanup(child.kill)
        child.send_signal(signal.SIGSTOP)
        with mock.patch.object(guard_client, 'ANSWER_TIMEOUT', 0.2):
            wait_until(lambda: not guard_program.answers(self.guard))
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._freeze(2)
        self.assertEqual(-signal.SIGKILL, child.wait())
        self.assertEqual([], self._thaws())
        self.guard.stop()
        self._assert_all_thawed(2)

    def test_guard_that_never_answers(self) -> None:
        self.guard._command = guard_program.guard_command(self.state, 'mute')
        with mock.patch.object(guard_client, 'START_TIMEOUT', 0.1):
            with self.assertLogs(
                    'nova_quiesce.freeze.guard'), self.assertRaises(
                    guard_client.GuardUnavailable):
                self._freeze()
        self.assertEqual(-signal.SIGKILL, self._child.wait())
        self.assertEqual([], self._frozen())

    def test_guard_that_cannot_start(self) -> None:
        for command in (['/nowhere/guard'],
                        [sys.executable, '-c', 'raise SystemExit(3)']):
            self.guard._command = command
            with self.assertLogs('nova_quiesce.freeze.guard') as logs:
                with self.assertRaisesRegex(guard_client.GuardUnavailable,
                                            'the log of nova-compute'):
                    self.guard.start()
            self.assertIn('cannot be used', logs.output[0])

    def test_guard_that_does_not_reach_libvirt(self) -> None:
        (self.state / 'down').touch()
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            with self.assertRaises(guard_client.GuardUnavailable):
                self.guard.start()
        self.assertIn('Failed to connect socket', logs.output[0])
        (self.state / 'down').unlink()
        # On a machine full of tests, starting it took long as well.
        self.guard._refused_until = 0
        self._freeze()

    def test_many_threads(self) -> None:
        def freeze_and_thaw(number: int) -> None:
            for _ in range(5):
                self._thaw(self._freeze(number))

        threads = [threading.Thread(target=freeze_and_thaw, args=(number,))
                   for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.guard.stop()
        self.assertEqual(40, len(self._thaws()))


class ManyGuestsTest(ClientTestCase):

    def test_fifty_deadlines_at_once(self) -> None:
        # However long the freezes take, nobody is late before the deadline.
        frozen = [self._freeze(number) for number in range(50)]
        deadline = time.monotonic() + 5
        for lease in frozen:
            self.guard.watch(dataclasses.replace(lease, deadline=deadline))
        self._assert_all_thawed(50)
        times = [float(line.split()[0]) for line in self._thaws()]
        self.assertGreaterEqual(min(times), deadline - 0.001)
        # The limit is 1 s; this one allows for a machine full of tests.
        self.assertLess(max(times), deadline + 10)
        self.assertTrue(guard_program.answers(self.guard))

    def test_hanging_guests_delay_no_other(self) -> None:
        hanging = [self._hang(self._freeze(number)) for number in range(30)]
        self._freeze(30)
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self.guard.stop(timeout=0)
        wait_until(self._thaws)
        self.assertIn('000000000030', self._thaws()[0])
        for path in hanging:
            path.unlink()
        self._assert_all_thawed(31)


class ServiceTest(ProcessTestCase):
    """The guard as a service of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.socket = self.state / 'guard.sock'
        self.service = self._start_service()

    def _start_service(self) -> subprocess.Popen[bytes]:
        with self.stderr.open('ab') as stderr:
            service = subprocess.Popen(
                [*guard_program.guard_command(self.state),
                 '--socket', str(self.socket)], stderr=stderr)
        self.addCleanup(service.wait)
        self.addCleanup(service.kill)
        wait_until(lambda: self.socket.exists()
                   or service.poll() is not None)
        return service

    def _new_client(self) -> guard_client.GuardClient:
        guard = guard_program.new_client(self.state, str(self.socket))
        self.addCleanup(guard.stop)
        return guard

    def test_serves_one_after_the_other(self) -> None:
        for number in range(3):
            guard = self._new_client()
            guard_program.freeze(self.state, guard, number)
            guard.stop()
            self._assert_all_thawed(number + 1)
        self.assertIsNone(self.service.poll())

    def test_one_end_spares_the_others(self) -> None:
        first, second = self._new_client(), self._new_client()
        guard_program.freeze(self.state, first, 1)
        lease = guard_program.freeze(self.state, second, 2)
        first.stop()
        wait_until(self._thaws)
        self.assertEqual(
            [self.state / lease.instance_uuid / 'frozen'], self._frozen())

    def test_sigterm_thaws_all(self) -> None:
        guards = [self._new_client(), self._new_client()]
        for number, guard in enumerate(guards):
            guard_program.freeze(self.state, guard, number)
        self.service.terminate()
        self.assertEqual(0, self.service.wait(test_guard.LIMIT))
        self._assert_all_thawed(2)
        self.assertFalse(self.socket.exists())

    def test_killed_and_started_again(self) -> None:
        guard = self._new_client()
        first = guard_program.freeze(self.state, guard, 1)
        self.service.kill()
        self.service.wait()
        with self.assertLogs('nova_quiesce.freeze.guard'), self.assertRaises(
                guard_client.GuardUnavailable):
            guard_program.freeze(self.state, guard, 2)
        self.socket.unlink()
        self._start_service()
        guard.watch(first)
        guard.stop()
        wait_until(lambda: not self._has_lease(first))

    def test_socket_left_by_a_killed_one(self) -> None:
        self.service.kill()
        self.service.wait()
        self.assertTrue(self.socket.exists())
        self._start_service()
        with self.assertLogs('nova_quiesce.freeze.guard'):
            guard = self._new_client()
            wait_until(lambda: _starts(guard))

    def test_only_for_its_user(self) -> None:
        self.assertEqual(0o600, stat.S_IMODE(self.socket.stat().st_mode))

    def test_one_service_a_socket(self) -> None:
        self.assertEqual(1, self._start_service().wait(test_guard.LIMIT))
        self.assertIn('another guard listens', self.stderr.read_text())
        self._new_client().start()

    def test_file_in_the_way(self) -> None:
        self.socket = self.state / 'precious'
        self.socket.write_text('data')
        self.assertEqual(1, self._start_service().wait(test_guard.LIMIT))
        self.assertEqual('data', self.socket.read_text())


def _starts(guard: guard_client.GuardClient) -> bool:
    try:
        guard.start()
    except guard_client.GuardUnavailable:
        return False
    return True


class DeathTest(ProcessTestCase):
    """With nova-compute as a process that is killed."""

    def _compute(self, count: int, *rest: str) -> subprocess.Popen[str]:
        with self.stderr.open('w') as stderr:
            compute = subprocess.Popen(
                [*guard_program.guard_command(self.state, 'compute'),
                 str(count), *rest], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert compute.stdin is not None
        assert compute.stdout is not None
        # The end of its input ends also what it has forked.
        self.addCleanup(compute.wait)
        self.addCleanup(compute.kill)
        self.addCleanup(compute.stdout.close)
        self.addCleanup(compute.stdin.close)
        self.assertEqual('frozen\n', compute.stdout.readline())
        self.assertEqual(count, len(self._frozen()))
        return compute

    def _guard_of(self, compute: subprocess.Popen[str]) -> int:
        children = pathlib.Path(
            '/proc/%d/task/%d/children' % (compute.pid, compute.pid))
        for child in children.read_text().split():
            if b'--fd' in pathlib.Path(
                    '/proc', child, 'cmdline').read_bytes():
                return int(child)
        raise AssertionError('no guard')

    def _assert_ends(self, guard: int) -> None:
        # It belongs to init by now, which may leave a zombie.
        def has_ended() -> bool:
            try:
                return ') Z ' in pathlib.Path(
                    '/proc/%d/stat' % guard).read_text()
            except (FileNotFoundError, ProcessLookupError):
                return True

        wait_until(has_ended)

    def test_killed(self) -> None:
        compute = self._compute(3)
        guard = self._guard_of(compute)
        compute.kill()
        compute.wait()
        self._assert_all_thawed(3)
        self._assert_ends(guard)
        self.assertIn('nova-compute (pid %d) is gone' % compute.pid,
                      self.stderr.read_text())

    def test_killed_while_a_guest_hangs(self) -> None:
        compute = self._compute(2)
        guard = self._guard_of(compute)
        hanging = self._frozen()[0].with_name('hanging')
        hanging.touch()
        compute.kill()
        compute.wait()
        wait_until(self._thaws)
        self.assertEqual([hanging.with_name('frozen')], self._frozen())
        hanging.unlink()
        self._assert_all_thawed(2)
        self._assert_ends(guard)

    def test_killed_while_libvirtd_restarts(self) -> None:
        compute = self._compute(2)
        (self.state / 'down').touch()
        compute.kill()
        compute.wait()
        wait_until(lambda: 'Failed to connect' in self.stderr.read_text())
        self.assertEqual(2, len(self._frozen()))
        (self.state / 'down').unlink()
        self._assert_all_thawed(2)

    def test_guard_is_told_to_stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number):
                (self.state / 'log').unlink(missing_ok=True)
                compute = self._compute(2)
                guard = self._guard_of(compute)
                os.kill(guard, number)
                self._assert_all_thawed(2)
                self._assert_ends(guard)
                compute.kill()

    def test_both_are_told_to_stop(self) -> None:
        compute = self._compute(2)
        guard = self._guard_of(compute)
        os.kill(guard, signal.SIGTERM)
        compute.terminate()
        self._assert_all_thawed(2)
        self._assert_ends(guard)

    def test_guard_without_leases_ends(self) -> None:
        compute = self._compute(0)
        guard = self._guard_of(compute)
        compute.kill()
        self._assert_ends(guard)

    def test_service_survives_all_of_nova_compute(self) -> None:
        socket = self.state / 'guard.sock'
        service = subprocess.Popen(
            [*guard_program.guard_command(self.state),
             '--socket', str(socket)], stderr=subprocess.DEVNULL)
        self.addCleanup(service.wait)
        self.addCleanup(service.kill)
        wait_until(socket.exists)
        compute = self._compute(3, str(socket))
        compute.kill()
        self._assert_all_thawed(3)
        self.assertIsNone(service.poll())

    def test_stuck_log_keeps_no_guest_frozen(self) -> None:
        compute = self._compute_with_stuck_log()
        guard = self._guard_of(compute)
        compute.kill()
        self._assert_all_thawed(2)
        self._assert_ends(guard)

    def _compute_with_stuck_log(self) -> subprocess.Popen[str]:
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)))
        self.stderr = pathlib.Path('/proc/self/fd/%d' % writer)
        self.addCleanup(os.close, writer)
        return self._compute(2)
