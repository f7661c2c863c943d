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

"""What a nova-compute left behind is thawed when the next one starts."""

import dataclasses
import os
import tempfile
import threading
import unittest
from unittest import mock

from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import recovery

UUID = '11111111-2222-4333-8444-555555555555'
OTHER = '21111111-2222-4333-8444-555555555555'


class RecoveryTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = scratch.name + '/leases'
        self.directory = lease_directory.LeaseDirectory(self.path)
        self.directory.prepare()
        self.domains = {UUID: fixture.FakeDomain()}
        self.domains[UUID].frozen = True
        self.addCleanup(self._wait)

    def _wait(self) -> None:
        for thread in threading.enumerate():
            if thread.name.startswith(('recover-', 'release-')):
                thread.join(10)

    def _leave(self, uuid: str = UUID, domain_id: int = 1,
               boot_id: str | None = None) -> None:
        lease = leases.Lease.new(
            machines.REAL, uuid, 'req-1', 'a test', 60, domain_id)
        self.directory.acquire(dataclasses.replace(
            lease, boot_id=boot_id or lease.boot_id))

    def _new_agent(self, uuid: str) -> guest_agent.Agent:
        def find() -> fixture.FakeDomain:
            if uuid not in self.domains:
                raise errors.GuestGone()
            return self.domains[uuid]

        return guest_agent.Agent(find, guest_agent.Timeouts(1, 1, 1))

    def _recover(self, patience: float = 10) -> None:
        recovery.Recovery(self.directory, self._new_agent, 0.01,
                          machines.REAL).run(patience)

    def _assert_left(self, *uuids: str) -> None:
        found, _ = self.directory.read_all()
        self.assertEqual(sorted(uuids),
                         sorted(lease.instance_uuid for lease in found))

    def test_frozen_guest_is_thawed(self) -> None:
        self._leave()
        self._recover()
        self.assertFalse(self.domains[UUID].frozen)
        self._assert_left()

    def test_nothing_left(self) -> None:
        self._recover()
        self.assertEqual([], self.domains[UUID].calls)

    def test_guest_that_was_restarted_is_left_alone(self) -> None:
        self._leave(domain_id=7)
        self._recover()
        self.assertEqual([], self.domains[UUID].calls)
        self._assert_left()

    def test_host_that_was_restarted(self) -> None:
        self._leave(boot_id=OTHER)
        self._recover()
        self.assertEqual([], self.domains[UUID].calls)
        self._assert_left()

    def test_lease_that_cannot_be_removed_at_once(self) -> None:
        self._leave()
        release = self.directory.release
        failures = [leases.LeaseError('Input/output error')]

        def fail_first(lease: leases.Lease) -> bool:
            if failures:
                raise failures.pop()
            return release(lease)

        with mock.patch.object(recovery, '_RELEASE_PAUSE', 0.01), (
                mock.patch.object(self.directory, 'release', fail_first)), (
                self.assertLogs('nova_quiesce.freeze.recovery', 'ERROR')):
            self._recover()
            self._wait()
        self._assert_left()

    def test_guest_that_is_gone(self) -> None:
        self._leave(OTHER)
        self._recover()
        self._assert_left()

    def test_agent_that_is_dead_does_not_hold_up_the_start(self) -> None:
        self._leave()
        self.domains[UUID].connected = False
        self._recover(patience=0.05)
        self._assert_left(UUID)
        self.assertTrue(self.domains[UUID].frozen)
        self.domains[UUID].connected = True
        self._wait()
        self.assertFalse(self.domains[UUID].frozen)
        self._assert_left()

    def test_one_dead_agent_does_not_hold_up_another(self) -> None:
        self.domains[OTHER] = fixture.FakeDomain()
        self.domains[OTHER].connected = False
        self.addCleanup(setattr, self.domains[OTHER], 'connected', True)
        self._leave()
        self._leave(OTHER)
        self._recover(patience=1)
        self.assertFalse(self.domains[UUID].frozen)
        self._assert_left(OTHER)

    def test_torn_lease_is_a_frozen_guest(self) -> None:
        self._leave()
        path, = os.listdir(self.path)
        with open(os.path.join(self.path, path), 'r+b') as file:
            file.truncate(10)
        with self.assertLogs(
                'nova_quiesce.freeze.recovery', 'ERROR') as logged:
            self._recover()
        self.assertIn(UUID, logged.output[0])
        self.assertFalse(self.domains[UUID].frozen)
        self.assertEqual([], os.listdir(self.path))

    def test_foreign_file_is_reported_and_left_alone(self) -> None:
        foreign = os.path.join(self.path, 'README')
        with open(foreign, 'w', encoding='ascii') as file:
            file.write('hello')
        self._leave()
        with self.assertLogs(
                'nova_quiesce.freeze.recovery', 'ERROR') as logged:
            self._recover()
        self.assertIn('README', logged.output[0])
        self.assertFalse(self.domains[UUID].frozen)
        self.assertTrue(os.path.exists(foreign))
