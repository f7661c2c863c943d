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

"""The window: each way out of it ends with a thawed guest."""

import threading
import time
import unittest

import libvirt

from nova_quiesce import agent
from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce import fixture
from nova_quiesce import hold as holding
from nova_quiesce import window

SOON = 10


class FakeHold(holding.Hold):
    """A hold that only remembers whether it is held."""

    def __init__(self) -> None:
        self.is_held = False
        self.refusal: Exception | None = None

    def take(self) -> None:
        """Take it, unless it is to be refused."""
        if self.refusal is not None:
            raise self.refusal
        self.is_held = True

    def limit(self, seconds: float) -> None:
        """Nobody watches."""

    def drop(self) -> None:
        """Give it up."""
        self.is_held = False


def new_window(domain: fixture.FakeDomain, thaw_timeout: float = 0.05,
               hold: holding.Hold | None = None,
               longest: float | None = None) -> window.Window:
    """A window of a fake guest that retries fast."""
    return window.Window(
        agent.Agent(lambda: domain, agent.Timeouts(1, 1, 1)),
        hold or FakeHold(), 'guest', thaw_timeout, 0.01, longest)


def wait_until_thawed(domain: fixture.FakeDomain) -> None:
    """Wait for what the background does."""
    for thread in threading.enumerate():
        if thread.name == 'thaw-guest':
            thread.join(SOON)
            assert not thread.is_alive()
    assert not domain.frozen


class FrozenTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.hold = FakeHold()
        # Last: a lease ends with a confirmed thaw, and not before.
        self.addCleanup(lambda: self.assertFalse(self.hold.is_held))
        self.addCleanup(wait_until_thawed, self.domain)

    def _run(self, **kwargs: float) -> consistency.Evidence:
        new = new_window(self.domain, hold=self.hold, **kwargs)
        with window.frozen(new) as opened:
            self.assertTrue(self.domain.frozen)
            self.assertTrue(self.hold.is_held)
        return opened.evidence

    def test_one_freeze_and_one_thaw(self) -> None:
        evidence = self._run()
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)
        self.assertEqual((2, 2), (evidence.frozen, evidence.thawed))
        self.assertFalse(self.domain.frozen)

    def test_what_was_listed_is_evidence(self) -> None:
        listing = agent.Agent(lambda: self.domain, agent.Timeouts(1, 1, 1))
        listing.preflight()
        with window.frozen(window.Window(
                listing, self.hold, 'guest', 0.05, 0.01)) as opened:
            pass
        self.assertEqual(listing.listed, opened.evidence.listed)
        self.assertIn('all filesystems that', opened.evidence.tally.held())

    def test_window_is_measured(self) -> None:
        with window.frozen(new_window(self.domain, hold=self.hold)) as opened:
            time.sleep(0.02)
        self.assertGreaterEqual(opened.evidence.seconds, 0.02)

    def test_frozen_for_too_long(self) -> None:
        opened = new_window(self.domain, hold=self.hold, longest=0.001)
        with window.frozen(opened):
            time.sleep(0.01)
        record = consistency.judge(opened.evidence)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn('longer than the 0.001 s', record.reason)

    def test_exception_inside(self) -> None:
        with self.assertRaisesRegex(RuntimeError, 'the cut failed'):
            with window.frozen(new_window(self.domain, hold=self.hold)):
                raise RuntimeError('the cut failed')
        self.assertFalse(self.domain.frozen)
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)

    def test_exit_inside(self) -> None:
        with self.assertRaises(SystemExit):
            with window.frozen(new_window(self.domain, hold=self.hold)):
                raise SystemExit(1)
        self.assertFalse(self.domain.frozen)

    def test_never_sent_is_not_thawed(self) -> None:
        # A thaw runs the guest's hooks, so it is not sent for nothing.
        self.domain.connected = False
        with self.assertRaises(exception.AgentNotConnected):
            self._run()
        self.assertEqual(['fsFreeze'], self.domain.calls)

    def test_nothing_is_sent_without_a_lease(self) -> None:
        self.hold.refusal = exception.WindowBusy('req-1')
        with self.assertRaises(exception.WindowBusy):
            self._run()
        self.assertEqual([], self.domain.calls)

    def test_lease_outlasts_an_unconfirmed_thaw(self) -> None:
        with window.frozen(new_window(self.domain, hold=self.hold)):
            self.domain.connected = False
        self.assertTrue(self.hold.is_held)
        self.domain.connected = True

    def test_failed_freeze_is_thawed(self) -> None:
        self.domain.errors['fsFreeze'] = [fixture.libvirt_error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'hook has failed')]
        with self.assertRaises(exception.FreezeFailed):
            self._run()
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)

    def test_zero_frozen_is_thawed(self) -> None:
        self.domain.freeze_answer = 0
        with self.assertRaises(exception.NothingFrozen):
            self._run()
        self.assertFalse(self.domain.frozen)

    def test_interrupted_freeze_is_thawed(self) -> None:
        self.domain.errors['fsFreeze'] = [KeyboardInterrupt()]
        self.domain.frozen = False
        with self.assertRaises(KeyboardInterrupt):
            self._run()
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)

    def test_late_freeze_is_thawed_when_it_lands(self) -> None:
        self.domain.hanging = True
        with self.assertRaises(exception.FreezeTimedOut):
            self._run()
        self.domain.land()
        wait_until_thawed(self.domain)

    def test_thaw_is_tried_again_at_once(self) -> None:
        self.domain.errors['fsThaw'] = [fixture.libvirt_error(
            libvirt.VIR_ERR_SYSTEM_ERROR, 'client socket is closed')]
        evidence = self._run(thaw_timeout=5)
        self.assertEqual(2, evidence.thawed)
        self.assertFalse(self.domain.frozen)

    def test_unconfirmed_thaw_goes_on_in_the_background(self) -> None:
        with window.frozen(new_window(self.domain, hold=self.hold)) as opened:
            self.domain.connected = False
        self.assertIsNone(opened.evidence.thawed)
        self.assertTrue(self.domain.frozen)
        self.domain.connected = True
        wait_until_thawed(self.domain)

    def test_guest_that_vanishes_is_not_thawed_forever(self) -> None:
        with window.frozen(new_window(self.domain, hold=self.hold)) as opened:
            self.domain.frozen = False
            self.domain.defined = False
        self.assertIs(consistency.Level.CRASH,
                      consistency.judge(opened.evidence).level)
        self.assertEqual([], [thread for thread in threading.enumerate()
                              if thread.name == 'thaw-guest'])

    def test_thawed_by_somebody_else(self) -> None:
        with window.frozen(new_window(self.domain, hold=self.hold)) as opened:
            self.domain.frozen = False
        self.assertIs(consistency.Level.CRASH,
                      consistency.judge(opened.evidence).level)
