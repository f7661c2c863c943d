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

"""The guard's parts, on fake guests: each fault ends with a thawed guest."""

from collections import abc
import dataclasses
import json
import os
import pathlib
import socket
import tempfile
import threading
import time
import typing
import unittest
from unittest import mock

import libvirt

from nova_quiesce import fixture
from nova_quiesce import fixture_jobs
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import duties
from nova_quiesce.freeze.guard import lease_watcher
from nova_quiesce.freeze.guard import session
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import thawing

UUID = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'
OTHER = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a2'
#: In seconds. Nothing here takes as long, unless it never ends.
LIMIT = 30
#: What no test waits for, in seconds.
NEVER = 3600
JOB = ("<domainbackup mode='pull'><server transport='unix' socket='/a/nbd'/>"
       "<disks><disk name='vda'><scratch file='/a/scr'/></disk></disks>"
       '</domainbackup>')


class Guest(fixture.FakeDomain):
    """A fake domain that something happens to.

    :ivar after_thaw: called after each thaw that was answered
    """

    def __init__(self) -> None:
        super().__init__()
        self.after_thaw: abc.Callable[[], None] = lambda: None

    def fsThaw(self) -> int:
        """Thaw."""
        count = super().fsThaw()
        self.after_thaw()
        return count


class Hypervisor:
    """A fake libvirt.

    :ivar is_up: whether connections can be opened
    :ivar connections: how many are open now
    :ivar opened: how many times it was tried
    """

    def __init__(self) -> None:
        self.guests = {UUID: Guest(), OTHER: Guest()}
        self.is_up = True
        self.connections = 0
        self.opened = 0

    def open(self, uri: str = 'fake:///') -> domains.Connection:
        """Open a connection."""
        self.opened += 1
        if not self.is_up:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_SYSTEM_ERROR,
                "Failed to connect socket to '/run/libvirt/libvirt-sock'")
        self.connections += 1
        return _Connection(self)


class _Connection(fixture_jobs.FakeConnection):

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor

    def lookupByUUIDString(self, uuidstr: str) -> Guest:
        guest = self._hypervisor.guests.get(uuidstr)
        if guest is None:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN, 'Domain not found')
        return guest

    def isAlive(self) -> int:
        return int(self._hypervisor.is_up)

    def close(self) -> int:
        self._hypervisor.connections -= 1
        return 0


def wait_until(condition: abc.Callable[[], object]) -> None:
    """Wait for what another thread or process does."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit, 'it never came'
        time.sleep(0.005)


class GuardTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name, 'leases')
        self.directory = lease_directory.LeaseDirectory(str(self.path))
        self.directory.prepare()
        self.hypervisor = Hypervisor()
        self.guest = self.hypervisor.guests[UUID]

    def _lease(self, seconds: float = NEVER, uuid: str = UUID,
               domain_id: int = 1) -> leases.Lease:
        lease = leases.Lease.new(
            machines.REAL, uuid, 'req-1', 'volume snapshot', seconds,
            domain_id)
        self.directory.acquire(lease)
        self.hypervisor.guests[uuid].frozen = True
        return lease


class LeaseWatcherTest(GuardTestCase):

    def tearDown(self) -> None:
        self.assertEqual(0, self.hypervisor.connections)
        super().tearDown()

    def _start(self, lease: leases.Lease) -> lease_watcher.LeaseWatcher:
        watch = lease_watcher.LeaseWatcher(
            lease, self.directory, self.hypervisor.open,
            wire.GuardSettings('fake:///', str(self.path), 1, 1, 0.01),
            machines.REAL)
        watch.start()
        return watch

    def _keep(self, lease: leases.Lease) -> list[str]:
        """Let a lease end now; what was logged."""
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            watch = self._start(lease)
            watch.end('nova-compute is gone')
            watch.join()
        return logs.output

    def test_told_to_thaw(self) -> None:
        [first, last] = self._keep(self._lease())
        self.assertIn('request req-1 (volume snapshot): nova-compute is gone',
                      first)
        self.assertIn('2 filesystems were thawed', last)
        self.assertFalse(self.guest.frozen)
        self.assertEqual(['fsThaw'], self.guest.calls)
        self.assertIsNone(self.directory.read(UUID))
        self.assertEqual(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK,
                         self.guest.timeout)

    def test_time_limit_stays_where_nova_compute_may_wait(self) -> None:
        lease = dataclasses.replace(self._lease(), deadline=0.001)
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._start(lease).join()
        self.assertFalse(self.guest.frozen)
        self.assertEqual(1, self.guest.timeout)

    def test_deadline(self) -> None:
        lease = self._lease(seconds=0.05)
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            watch = self._start(lease)
            watch.join()
        self.assertGreaterEqual(time.monotonic(), lease.deadline)
        self.assertIn('its deadline has passed', logs.output[0])
        self.assertFalse(self.guest.frozen)
        self.assertIsNone(self.directory.read(UUID))

    def test_deadline_before_now(self) -> None:
        lease = dataclasses.replace(self._lease(), deadline=0.001)
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._start(lease).join()
        self.assertFalse(self.guest.frozen)

    def test_released(self) -> None:
        watch = self._start(self._lease())
        watch.release()
        watch.end('too late')
        watch.join()
        self.assertEqual([], self.guest.calls)
        # Whoever released it removes the file.
        self.assertIsNotNone(self.directory.read(UUID))

    def test_late_freeze(self) -> None:
        lease = self._lease()
        self.guest.frozen = False
        self.guest.hanging = True
        with self.assertRaises(libvirt.libvirtError):
            self.guest.agentSetResponseTimeout(1)
            self.guest.fsFreeze()
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            watch = self._start(lease)
            watch.end('nova-compute is gone')
            wait_until(lambda: len(self.guest.calls) > 3)
            self.guest.land()
            watch.join()
        self.assertFalse(self.guest.frozen)
        # Said once, however often it was tried.
        self.assertEqual(3, len(logs.output))
        self.assertIn('may still be frozen', logs.output[1])

    def test_released_while_the_guest_hangs(self) -> None:
        self.guest.hanging = True
        with self.assertLogs('nova_quiesce.freeze.guard'):
            watch = self._start(self._lease())
            watch.end('nova-compute is gone')
            wait_until(lambda: 'fsThaw' in self.guest.calls)
            watch.release()
            watch.join()
        self.assertIsNotNone(self.directory.read(UUID))

    def test_freeze_that_the_thaw_overtook(self) -> None:
        lease = self._lease()
        self.guest.frozen = False

        def land() -> None:
            self.guest.after_thaw = lambda: None
            self.guest.frozen = True

        self.guest.after_thaw = land
        self._keep(lease)
        self.assertEqual(2, self.guest.calls.count('fsThaw'))
        self.assertFalse(self.guest.frozen)

    def test_thawed_by_another_before(self) -> None:
        """Its hooks run once more, and it is asked as long as need be."""
        lease = self._lease()
        self.guest.frozen = False
        with mock.patch.object(thawing, 'LOST_COMMAND', 0.1):
            self.assertIn('shows that it is not frozen', self._keep(lease)[-1])
        self.assertEqual('fsThaw', self.guest.calls[0])
        self.assertEqual({'getTime'}, set(self.guest.calls[1:]))
        self.assertIsNone(self.directory.read(UUID))

    def test_agent_answers_nonsense_first(self) -> None:
        self.guest.thaw_answer = 'two'
        self.guest.after_thaw = lambda: setattr(
            self.guest, 'thaw_answer', None)
        with mock.patch.object(thawing, 'LOST_COMMAND', 0.05):
            self._keep(self._lease())
        self.assertFalse(self.guest.frozen)
        self.assertIsNone(self.directory.read(UUID))

    def test_paused_guest(self) -> None:
        lease = self._lease()
        self.guest.running = False
        with self.assertLogs('nova_quiesce.freeze.guard'):
            watch = self._start(lease)
            watch.end('nova-compute is gone')
            wait_until(lambda: len(self.guest.calls) > 2)
            self.guest.running = True
            watch.join()
        self.assertFalse(self.guest.frozen)

    def test_guard_that_does_not_see_the_lease(self) -> None:
        """Its directory is another one, say: that proves nothing."""
        lease = self._lease()
        self.directory.release(lease)
        self.assertIn('were thawed', self._keep(lease)[-1])
        self.assertFalse(self.guest.frozen)

    def test_restarted_guest(self) -> None:
        self.assertIn('restarted since',
                      self._keep(self._lease(domain_id=2))[-1])
        self.assertEqual([], self.guest.calls)
        self.assertIsNone(self.directory.read(UUID))

    def test_guest_restarted_while_it_hangs(self) -> None:
        self.guest.hanging = True
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            watch = self._start(self._lease())
            watch.end('nova-compute is gone')
            wait_until(lambda: 'fsThaw' in self.guest.calls)
            self.guest.number += 1
            watch.join()
        self.assertIn('restarted since', logs.output[-1])

    def test_guest_that_is_suspended_to_disk_and_resumed(self) -> None:
        """It comes back frozen, under another id."""
        self.guest.hanging = True
        with self.assertLogs('nova_quiesce.freeze.guard'):
            watch = self._start(self._lease())
            watch.end('nova-compute is gone')
            wait_until(lambda: self.guest.calls)
            self.guest.save()
            self.guest.hanging = False
            sent = len(self.guest.calls)
            wait_until(lambda: len(self.guest.calls) > sent + 1)
            self.assertIsNotNone(self.directory.read(UUID))
            self.assertTrue(self.guest.frozen)
            self.guest.create()
            watch.join()
        self.assertFalse(self.guest.frozen)
        self.assertIsNone(self.directory.read(UUID))

    def test_shut_off_guest(self) -> None:
        self.guest.number = -1
        self.assertIn('does not run', self._keep(self._lease())[-1])
        self.assertEqual([], self.guest.calls)

    def test_undefined_guest(self) -> None:
        lease = self._lease()
        del self.hypervisor.guests[UUID]
        self.assertIn('does not run', self._keep(lease)[-1])
        self.assertIsNone(self.directory.read(UUID))

    def test_restart_of_libvirtd(self) -> None:
        self.hypervisor.is_up = False
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            watch = self._start(self._lease())
            watch.end('nova-compute is gone')
            wait_until(lambda: self.hypervisor.opened > 3)
            self.hypervisor.is_up = True
            watch.join()
        self.assertFalse(self.guest.frozen)
        self.assertIn('Failed to connect', logs.output[1])
        self.assertEqual(3, len(logs.output))

    def test_defect_of_the_guard_does_not_end_it(self) -> None:
        self.guest.errors['fsThaw'] = [RuntimeError('a defect')]
        self._keep(self._lease())
        self.assertFalse(self.guest.frozen)

    def test_guest_does_not_flood_the_log(self) -> None:
        self.guest.errors['fsThaw'] = [
            fixture.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, str(number))
            for number in range(5)]
        self.assertEqual(3, len(self._keep(self._lease())))
        self.assertFalse(self.guest.frozen)

    def test_next_freeze_is_spared(self) -> None:
        lease = self._lease()
        self.guest.hanging = True
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            watch = self._start(lease)
            watch.end('nova-compute is gone')
            wait_until(lambda: 'fsThaw' in self.guest.calls)
            self.directory.release(lease)
            self.directory.acquire(leases.Lease.new(
                machines.REAL, UUID, 'req-2', 'snapshot', NEVER, 1))
            watch.join()
        self.assertIn('frozen anew', logs.output[-1])
        successor = self.directory.read(UUID)
        assert successor is not None
        self.assertEqual(('req-2',), successor.owners)

    def test_lost_directory(self) -> None:
        lease = self._lease()
        self.path.rename(self.path.with_name('moved'))
        self.assertIn('its lease stays', self._keep(lease)[-1])
        self.assertFalse(self.guest.frozen)


class SessionTest(GuardTestCase):

    def setUp(self) -> None:
        super().setUp()
        ours, theirs = socket.socketpair()
        self.sock = ours
        self.addCleanup(ours.close)
        self.session = session.Session(theirs, self.hypervisor.open)
        self.thread = threading.Thread(target=self.session.run)
        self.peer = wire.MessageSocket(ours)

    def _start(self, hello: bool = True) -> None:
        self.thread.start()
        self.addCleanup(self._end)
        if hello:
            self._ask({'hello': self._settings()})

    def _end(self) -> None:
        self.peer.close()
        self.thread.join(LIMIT)
        self.assertFalse(self.thread.is_alive())

    def _settings(self, **changes: object) -> dict[str, object]:
        return dataclasses.asdict(wire.GuardSettings(
            'fake:///', str(self.path), 1, 1, 0.01)) | changes

    def _ask(self, request: dict[str, object]) -> None:
        self.peer.ask(request, LIMIT)

    def _watch(self, lease: leases.Lease) -> None:
        self._ask({'watch': lease.to_dict()})

    def _wait_for_the_end(self) -> None:
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._end()

    def test_hello_proves_that_the_hypervisor_is_reached(self) -> None:
        self._start(hello=False)
        self.hypervisor.is_up = False
        with self.assertRaisesRegex(wire.RequestRefused, 'Failed to connect'):
            self._ask({'hello': self._settings()})
        self.hypervisor.is_up = True
        self._ask({'hello': self._settings()})
        self.assertEqual(0, self.hypervisor.connections)

    def test_hello_proves_that_the_directory_is_safe(self) -> None:
        self._start(hello=False)
        self.path.chmod(0o777)
        with self.assertRaisesRegex(wire.RequestRefused, 'others can write'):
            self._ask({'hello': self._settings()})

    def test_wrong_settings(self) -> None:
        self._start(hello=False)
        wrong: list[dict[str, object]] = [
            {'version': 1}, {'version': 3}, {'more': 1}, {'uri': ''},
            {'uri': None},
            {'leases': 'relative'}, {'thaw_timeout': 0},
            {'thaw_timeout': 1.5}, {'ask_timeout': None},
            {'retry_interval': 0},
            {'retry_interval': float('nan')}, {'retry_interval': '1'}]
        for change in wrong:
            with self.subTest(change), self.assertRaises(wire.RequestRefused):
                self._ask({'hello': self._settings(**change)})

    def test_other_requests_are_refused(self) -> None:
        self._start()
        requests: list[dict[str, typing.Any]] = [
            {}, {'freeze': UUID}, {'ping': 1, 'watch': {}}, {'watch': {}},
            {'watch': None}, {'watch': {'instance_uuid': UUID}}]
        for request in requests:
            with self.subTest(request), self.assertRaises(wire.RequestRefused):
                self._ask(request)
        self._ask({'ping': True})

    def test_no_watch_before_hello(self) -> None:
        self._start(hello=False)
        with self.assertRaisesRegex(wire.RequestRefused, 'no hello'):
            self._watch(self._lease())

    def test_no_thread_left(self) -> None:
        self._start()
        with mock.patch('threading.Thread.start', autospec=True,
                        side_effect=RuntimeError("can't start new thread")):
            with self.assertRaisesRegex(wire.RequestRefused, 'new thread'):
                self._watch(self._lease())

    def test_end_of_connection_thaws_all(self) -> None:
        self._start()
        self._watch(self._lease())
        self._watch(self._lease(uuid=OTHER))
        self._wait_for_the_end()
        for guest in self.hypervisor.guests.values():
            self.assertFalse(guest.frozen)
        self.assertEqual(([], []), self.directory.read_all())

    def test_released_is_left_alone(self) -> None:
        self._start()
        lease = self._lease()
        self._watch(lease)
        self._watch(self._lease(uuid=OTHER))
        self._ask({'release': lease.id})
        self._ask({'release': lease.id})
        self._wait_for_the_end()
        self.assertEqual([], self.guest.calls)
        self.assertFalse(self.hypervisor.guests[OTHER].frozen)

    def test_watched_again_counts_anew(self) -> None:
        self._start()
        lease = self._lease(seconds=NEVER)
        self._watch(lease)
        sooner = dataclasses.replace(lease, deadline=time.monotonic())
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self._watch(sooner)
            wait_until(lambda: self.directory.read(UUID) is None)
        self.assertEqual(['fsThaw'], self.guest.calls)

    def test_hanging_guest_delays_no_other(self) -> None:
        self._start()
        self.guest.hanging = True
        self._watch(self._lease())
        self._watch(self._lease(uuid=OTHER))
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self.peer.close()
            wait_until(lambda: self.directory.read(OTHER) is None)
            self.assertTrue(self.guest.frozen)
            self.guest.land()
            self.thread.join(LIMIT)
        self.assertFalse(self.guest.frozen)

    def test_told_to_stop(self) -> None:
        self._start()
        self._watch(self._lease())
        with self.assertLogs('nova_quiesce.freeze.guard') as logs:
            self.session.end('the guard was told to stop')
            self.session.join()
        self.assertIn('told to stop', logs.output[0])
        self.assertFalse(self.guest.frozen)
        with self.assertRaisesRegex(wire.RequestRefused, 'told to stop'):
            self._watch(self._lease())
        self.session.hang_up()
        with self.assertRaises(ConnectionError):
            self._ask({'ping': True})

    def test_end_of_connection_leaves_a_living_peers_jobs_alone(self) -> None:
        """nova-compute has lost this guard, and looks for another."""
        self.guest.backup = JOB
        self._start()
        self._ask({'keep_job': dataclasses.asdict(duties.Duty(
            UUID, 'backup-job', {'socket': '/a/nbd', 'scratch': '/a/scr'}))})
        self._end()
        self.assertEqual(JOB, self.guest.backup)

    def test_end_of_nova_compute_ends_its_jobs(self) -> None:
        self.guest.backup = JOB
        self._start()
        self._ask({'keep_job': dataclasses.asdict(duties.Duty(
            UUID, 'backup-job', {'socket': '/a/nbd', 'scratch': '/a/scr'}))})
        with mock.patch.object(self.session._peer, 'is_peer_gone',
                               autospec=True, return_value=True):
            self._wait_for_the_end()
        self.assertIsNone(self.guest.backup)

    def test_peer_that_talks_nonsense(self) -> None:
        self._start()
        self._watch(self._lease())
        with self.assertLogs('nova_quiesce.freeze.guard'):
            self.sock.sendall(b'nonsense\n')
            self.thread.join(LIMIT)
        self.assertFalse(self.guest.frozen)

    def test_endless_line(self) -> None:
        self._start()
        self._watch(self._lease())
        with self.assertLogs('nova_quiesce.freeze.guard'):
            with self.assertRaises(OSError):
                while True:
                    self.sock.sendall(b'x' * wire.MAX_LINE)
            self.thread.join(LIMIT)
        self.assertFalse(self.guest.frozen)

    def test_peer_of_another_user(self) -> None:
        uid = os.geteuid() + 1
        self.session._peer.uid = uid + 1
        with mock.patch('os.geteuid', autospec=True, return_value=uid):
            with self.assertLogs('nova_quiesce.freeze.guard') as logs:
                self.thread.start()
                self.thread.join(LIMIT)
        self.assertIn('runs as another user', logs.output[0])
        with self.assertRaises(OSError):
            self._ask({'ping': True})

    def test_several_requests_in_one_packet(self) -> None:
        self._start()
        ping = json.dumps({'ping': True}).encode() + b'\n'
        self.sock.sendall(ping + ping[:5])
        self.assertEqual({'ok': True}, self.peer.receive())
        self.sock.sendall(ping[5:] + ping)
        self.assertEqual({'ok': True}, self.peer.receive())
        self.assertEqual({'ok': True}, self.peer.receive())
