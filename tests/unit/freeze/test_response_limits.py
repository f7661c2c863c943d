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

"""The time limit of an agent's answers: who sets it, and who takes it off."""

import unittest
from unittest import mock

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import response_limits

NONE = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK


class Unreachable(fixture.FakeDomain):
    """A domain whose libvirtd is gone."""

    def agentSetResponseTimeout(self, timeout: int, flags: int = 0) -> int:
        """Fail."""
        raise fixture.libvirt_error(
            libvirt.VIR_ERR_SYSTEM_ERROR, 'client socket is closed')


class Other:
    """Another process.

    :ivar is_at_it: whether it may call the agent
    """

    def __init__(self, machine: machines.Machine,
                 is_at_it: bool = True) -> None:
        self._machine = machine
        self.is_at_it = is_at_it
        self.latest: float | None = None

    def latest_call(self) -> float | None:
        """Return when it may have called."""
        if self.is_at_it:
            self.latest = self._machine.monotonic()
        return self.latest


class ResponseLimitTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.machine = mock.create_autospec(
            machines.RealMachine, instance=True)
        self.machine.lock.side_effect = machines.REAL.lock
        self.machine.monotonic.return_value = 100.0
        self.limit = response_limits.ResponseLimit(self.machine)

    def test_put_back_after_a_call(self) -> None:
        self.limit.begin(self.domain, 5)
        self.assertEqual(5, self.domain.timeout)
        self.limit.end(self.domain, is_kept=False)
        self.assertEqual(NONE, self.domain.timeout)

    def test_kept_for_the_next_try(self) -> None:
        self.limit.begin(self.domain, 5)
        self.limit.end(self.domain, is_kept=True)
        self.assertEqual(5, self.domain.timeout)

    def test_stays_while_another_call_waits_for_its_turn(self) -> None:
        self.limit.begin(self.domain, 5)
        self.limit.begin(self.domain, 10)
        self.limit.end(self.domain, is_kept=False)
        self.assertEqual(10, self.domain.timeout)
        self.limit.end(self.domain, is_kept=False)
        self.assertEqual(NONE, self.domain.timeout)

    def test_stays_while_another_process_may_wait(self) -> None:
        other = Other(self.machine)
        self.limit.share(other)
        self._call()
        self.assertEqual(5, self.domain.timeout)

    def test_stays_while_a_call_of_one_that_was_at_it_may_wait(self) -> None:
        other = Other(self.machine)
        self.limit.share(other)
        # And one that never calls.
        self.limit.share(Other(self.machine, is_at_it=False))
        self._call()
        other.is_at_it = False
        self.machine.monotonic.return_value += 34
        self._call()
        self.assertEqual(5, self.domain.timeout)
        self.machine.monotonic.return_value += 2
        self._call()
        self.assertEqual(NONE, self.domain.timeout)

    def _call(self) -> None:
        self.limit.begin(self.domain, 5)
        self.limit.end(self.domain, is_kept=False)

    def test_put_back_once_no_other_process_can_be_calling(self) -> None:
        self.limit = response_limits.ResponseLimit(self.machine, True)
        other = Other(self.machine)
        self.limit.share(other)
        self._call()
        # One waits for all.
        self._call()
        (_name, wait, domain), _ = self.machine.start.call_args
        self.machine.start.assert_called_once()

        def go_by(seconds: float) -> None:
            self.assertEqual(5, self.domain.timeout)
            self.machine.monotonic.return_value += seconds
            other.is_at_it = False

        self.machine.sleep.side_effect = go_by
        wait(domain)
        self.assertEqual(NONE, self.domain.timeout)
        self._call()
        self.machine.start.assert_called_once()

    def test_a_call_that_is_under_way_puts_it_back(self) -> None:
        self.limit = response_limits.ResponseLimit(self.machine, True)
        other = Other(self.machine)
        self.limit.share(other)
        self._call()
        (_name, wait, domain), _ = self.machine.start.call_args
        other.is_at_it = False
        self.machine.monotonic.return_value += 60
        self.limit.begin(self.domain, 7)
        wait(domain)
        self.assertEqual(7, self.domain.timeout)
        self.limit.end(self.domain, is_kept=False)
        self.assertEqual(NONE, self.domain.timeout)

    def test_no_thread_to_wait_in(self) -> None:
        self.limit = response_limits.ResponseLimit(self.machine, True)
        other = Other(self.machine)
        self.limit.share(other)
        self.machine.start.side_effect = RuntimeError("can't start new thread")
        with self.assertLogs('nova_quiesce.freeze', 'DEBUG'):
            self._call()
        self.machine.start.side_effect = None
        self._call()
        self.assertEqual(2, self.machine.start.call_count)

    def test_call_that_is_not_made(self) -> None:
        with self.assertRaises(libvirt.libvirtError):
            self.limit.begin(Unreachable(), 5)
        self.limit.begin(self.domain, 5)
        self.limit.end(self.domain, is_kept=False)
        self.assertEqual(NONE, self.domain.timeout)

    def test_not_put_back_where_that_fails(self) -> None:
        self.limit.begin(self.domain, 5)
        with self.assertLogs('nova_quiesce.freeze', 'DEBUG'):
            self.limit.end(Unreachable(), is_kept=False)

    def test_one_for_all_agents_of_an_instance(self) -> None:
        limits = response_limits.ResponseLimits(machines.REAL)
        one = limits.of('an instance')
        self.assertIs(one, limits.of('an instance'))
        self.assertIsNot(one, limits.of('another'))

    def test_one_that_was_shared_is_remembered(self) -> None:
        limits = response_limits.ResponseLimits(self.machine)
        for seconds, timeout in ((34, 5), (40, NONE)):
            limit, other = limits.of('an instance'), Other(self.machine)
            limit.share(other)
            limit.begin(self.domain, 5)
            limit.end(self.domain, is_kept=False)
            del limit, other
            limits.of('another')
            self.machine.monotonic.return_value += seconds
            self.limit = limits.of('an instance')
            self._call()
            self.assertEqual(timeout, self.domain.timeout)
            del self.limit
