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

from collections import abc
import contextlib
import threading
import time
import unittest
from unittest import mock

import libvirt

from nova_quiesce import consistency
from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import proof
from nova_quiesce.freeze import thawing
from nova_quiesce.freeze import watched_lease
from nova_quiesce.freeze import windows

SOON = 10


class FakeLease(watched_lease.WatchedLease):
    """A lease that is nowhere, and only remembers whether it is held."""

    def __init__(self) -> None:
        self.is_held = False
        self.refusal: Exception | None = None
        self.limits: list[float] = []
        self.kept_off_until = 0.0

    @property
    def lease(self) -> leases.Lease:
        """A lease of the fake guest."""
        return leases.Lease.new(
            machines.REAL, '11111111-2222-4333-8444-555555555555', 'req-1',
            'a test', 60, 1)

    def take(self) -> None:
        """Take it, unless it is to be refused."""
        if self.refusal is not None:
            raise self.refusal
        self.is_held = True

    def keep_guard_off(self, moment: float) -> None:
        """Note until when the guard is kept off."""
        self.kept_off_until = moment

    def limit(self, deadline: float) -> None:
        """Have nobody watch."""
        self.limits.append(deadline)

    def is_another(self) -> bool:
        """It is not."""
        return False

    def drop(self) -> None:
        """Give it up."""
        self.is_held = False


def new_window(domain: fixture.FakeDomain, thaw_timeout: float = 0.05,
               lease: watched_lease.WatchedLease | None = None,
               longest: float = 60, is_saved: bool = False) -> windows.Window:
    """A window of a fake guest that retries fast."""
    return windows.Window(
        guest_agent.Agent(lambda: domain, guest_agent.Timeouts(1, 1, 1)),
        lease or FakeLease(), 'guest',
        windows.WindowLimits(longest, thaw_timeout, 0.01), machines.REAL,
        is_saved)


@contextlib.contextmanager
def frozen(window: windows.Window) -> abc.Iterator[windows.Window]:
    """Keep a guest frozen for the length of a ``with`` block.

    :param window: a window that was not opened yet
    :returns: the window; its evidence is there once the block was left
    :raises QuiesceError: the guest was not frozen; the block did not run
    """
    window.open()
    try:
        yield window
    finally:
        window.close()


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
        self.lease = FakeLease()
        self.enterContext(mock.patch.object(thawing, 'LOST_COMMAND', 0.05))
        # Last: a lease ends with a confirmed thaw, and not before.
        self.addCleanup(lambda: self.assertFalse(self.lease.is_held))
        self.addCleanup(wait_until_thawed, self.domain)

    def _run(self, thaw_timeout: float = 0.05) -> proof.Evidence:
        new = new_window(self.domain, thaw_timeout, self.lease)
        with frozen(new) as opened:
            self.assertTrue(self.domain.frozen)
            self.assertTrue(self.lease.is_held)
        return opened.evidence

    def test_one_freeze_and_one_thaw(self) -> None:
        evidence = self._run()
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)
        self.assertEqual((2, 2), (evidence.frozen, evidence.thawed))
        self.assertFalse(self.domain.frozen)

    def test_what_was_listed_is_evidence(self) -> None:
        listing = guest_agent.Agent(
            lambda: self.domain, guest_agent.Timeouts(1, 1, 1))
        listing.preflight()
        with frozen(windows.Window(
                listing, self.lease, 'guest',
                windows.WindowLimits(60, 0.05, 0.01),
                machines.REAL)) as opened:
            pass
        self.assertEqual(listing.listed, opened.evidence.listed)
        self.assertIn('all filesystems that',
                      opened.evidence.tally.stayed_frozen())

    def test_restarted_while_its_lease_was_written(self) -> None:
        """Its lease, of another start, would be taken for over."""
        self.domain.number += 1
        with self.assertRaises(errors.GuestRestarted):
            new_window(self.domain, lease=self.lease).open()
        self.assertEqual([], self.domain.calls)
        self.assertFalse(self.lease.is_held)

    def test_gone_while_its_lease_was_written(self) -> None:
        self.domain.defined = False
        with self.assertRaises(errors.GuestGone):
            new_window(self.domain, lease=self.lease).open()
        self.assertFalse(self.lease.is_held)

    def test_deadline_counts_from_the_answer(self) -> None:
        self.domain.after['fsFreeze'] = lambda: time.sleep(1.5)
        with frozen(new_window(
                self.domain, lease=self.lease, longest=1)) as opened:
            pass
        self.assertIsNone(opened.evidence.lapse)

    def test_deadline_that_cannot_be_kept_is_a_lapse(self) -> None:
        """Whatever is the matter, and if it has no text."""
        def fail(_deadline: float) -> None:
            raise MemoryError

        self.enterContext(mock.patch.object(self.lease, 'limit', fail))
        with frozen(new_window(self.domain, lease=self.lease)) as opened:
            for thread in threading.enumerate():
                if thread.name == 'deadline-guest':
                    thread.join(SOON)
            self.assertFalse(self.domain.frozen)
        self.assertTrue(opened.evidence.lapse)

    def test_window_is_measured(self) -> None:
        with frozen(
                new_window(self.domain, lease=self.lease)) as opened:
            time.sleep(0.02)
        self.assertGreaterEqual(opened.evidence.seconds, 0.02)

    def test_frozen_for_too_long(self) -> None:
        opened = new_window(self.domain, lease=self.lease, longest=0.001)
        with frozen(opened):
            time.sleep(0.1)
            self.assertFalse(self.domain.frozen)
        record = consistency.judge(opened.evidence)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn('deadline of 0.001 s', record.reason)
        self.assertEqual(1, self.domain.calls.count('fsThaw'))

    def test_exception_inside(self) -> None:
        with self.assertRaisesRegex(RuntimeError, 'the cut failed'):
            with frozen(new_window(self.domain, lease=self.lease)):
                raise RuntimeError('the cut failed')
        self.assertFalse(self.domain.frozen)
        self.assertEqual(['fsFreeze', 'fsThaw'], self.domain.calls)

    def test_exit_inside(self) -> None:
        with self.assertRaises(SystemExit):
            with frozen(new_window(self.domain, lease=self.lease)):
                raise SystemExit(1)
        self.assertFalse(self.domain.frozen)

    def test_never_sent_is_not_thawed(self) -> None:
        # A thaw runs the guest's hooks, so it is not sent for nothing.
        self.domain.connected = False
        with self.assertRaises(errors.AgentNotConnected):
            self._run()
        self.assertEqual(['fsFreeze'], self.domain.calls)

    def test_nothing_is_sent_without_a_lease(self) -> None:
        self.lease.refusal = errors.WindowBusy('req-1')
        with self.assertRaises(errors.WindowBusy):
            self._run()
        self.assertEqual([], self.domain.calls)

    def test_lease_outlasts_an_unconfirmed_thaw(self) -> None:
        with frozen(new_window(self.domain, lease=self.lease)):
            self.domain.connected = False
        self.assertTrue(self.lease.is_held)
        self.domain.connected = True

    def test_refused_freeze_is_not_thawed(self) -> None:
        self.domain.errors['fsFreeze'] = [fixture.hook_failure('freeze')]
        with self.assertRaises(errors.FreezeRefused):
            self._run()
        self.assertEqual(['fsFreeze', 'getTime'], self.domain.calls)

    def test_freeze_of_which_nothing_is_known_is_thawed(self) -> None:
        self.domain.errors['fsFreeze'] = [fixture.libvirt_error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'never said before')]
        with self.assertRaises(errors.MaybeFrozen):
            self._run()
        wait_until_thawed(self.domain)
        self.assertEqual(1, self.domain.calls.count('fsThaw'))

    def test_thaw_hook_that_fails(self) -> None:
        """The agent thaws, and runs its hook after that: once."""
        self.domain.after['fsThaw'] = mock.Mock(
            side_effect=fixture.hook_failure('thaw'))
        evidence = self._run()
        self.assertEqual(['fsFreeze', 'fsThaw', 'getTime'],
                         self.domain.calls)
        record = consistency.judge(evidence)
        self.assertIs(consistency.Level.CRASH, record.level)
        self.assertIn('hook has failed', record.reason)

    def test_thaw_that_leaves_it_frozen(self) -> None:
        self.domain.errors['fsThaw'] = [fixture.agent_refusal(
            'guest-fsfreeze-thaw', 'failed to open mtab file')]
        self._run()
        wait_until_thawed(self.domain)
        self.assertEqual(2, self.domain.calls.count('fsThaw'))

    def test_fewer_thawed_than_frozen_is_no_proof(self) -> None:
        self.domain.thaw_answer = 1
        evidence = self._run()
        wait_until_thawed(self.domain)
        self.assertEqual(2, self.domain.calls.count('fsThaw'))
        self.assertIs(consistency.Level.CRASH,
                      consistency.judge(evidence).level)

    def test_no_thread_to_go_on_with(self) -> None:
        """The one that thaws goes on by itself."""
        opened = new_window(self.domain, lease=self.lease)
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith('thaw-'):
                raise RuntimeError("can't start new thread")
            start(thread)

        self.domain.errors['fsThaw'] = [fixture.libvirt_error(
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE, 'planned')] * 8
        with mock.patch.object(threading.Thread, 'start', refuse):
            with frozen(opened):
                pass
        self.assertFalse(self.domain.frozen)
        self.assertFalse(self.lease.is_held)

    def test_thaw_that_is_interrupted(self) -> None:
        """Whoever waits for it hears of it, and somebody goes on."""
        told: list[proof.Evidence] = []
        opened = new_window(self.domain, lease=self.lease)
        opened.open(told.append)
        self.domain.errors['fsThaw'] = [KeyboardInterrupt()]
        with self.assertRaises(KeyboardInterrupt):
            opened.close()
        self.assertIs(told[0], opened.close())
        self.assertIs(consistency.Level.CRASH,
                      consistency.judge(told[0]).level)
        wait_until_thawed(self.domain)

    def test_time_stands_still_with_the_guest(self) -> None:
        """It is suspended to disk for longer than it may be frozen."""
        opened = new_window(self.domain, lease=self.lease, longest=0.02,
                            is_saved=True)
        with frozen(opened):
            self.domain.save()
            time.sleep(0.1)
            self.assertTrue(self.domain.frozen)
            self.domain.create()
            opened.restart()
        self.assertIs(consistency.Level.FILESYSTEM,
                      consistency.judge(opened.evidence).level)
        self.assertGreater(len(self.lease.limits), 2)

    def test_zero_frozen_is_thawed(self) -> None:
        self.domain.freeze_answer = 0
        with self.assertRaises(errors.NothingFrozen):
            self._run()
        self.assertFalse(self.domain.frozen)

    def test_interrupted_freeze_is_thawed(self) -> None:
        self.domain.errors['fsFreeze'] = [KeyboardInterrupt()]
        self.domain.frozen = False
        with self.assertRaises(KeyboardInterrupt):
            self._run()
        wait_until_thawed(self.domain)
        self.assertEqual(1, self.domain.calls.count('fsThaw'))

    def test_late_freeze_is_thawed_when_it_lands(self) -> None:
        self.domain.hanging = True
        with self.assertRaises(errors.FreezeTimedOut):
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
        with frozen(
                new_window(self.domain, lease=self.lease)) as opened:
            self.domain.connected = False
        self.assertIsNone(opened.evidence.thawed)
        self.assertTrue(self.domain.frozen)
        # Both at it would run the guest's hooks twice.
        self.assertGreater(self.lease.kept_off_until, time.monotonic())
        self.domain.connected = True
        wait_until_thawed(self.domain)

    def test_guest_that_vanishes_is_not_thawed_forever(self) -> None:
        with frozen(
                new_window(self.domain, lease=self.lease)) as opened:
            self.domain.frozen = False
            self.domain.defined = False
        self.assertIs(consistency.Level.CRASH,
                      consistency.judge(opened.evidence).level)
        self.assertEqual([], [thread for thread in threading.enumerate()
                              if thread.name == 'thaw-guest'])

    def test_thawed_by_somebody_else(self) -> None:
        with frozen(
                new_window(self.domain, lease=self.lease)) as opened:
            self.domain.frozen = False
        self.assertIs(consistency.Level.CRASH,
                      consistency.judge(opened.evidence).level)
