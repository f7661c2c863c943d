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

"""The judgement of guests that are off, whatever they and we went through."""

import tempfile
import unittest
from unittest import mock

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.shutdown import notes
from nova_quiesce.shutdown import shutdowns
from nova_quiesce.shutdown import traces

UUID = '11111111-2222-4333-8444-555555555555'

BY_GUEST = libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST
BY_HOST = libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST
UNTOLD = libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED

SHUTDOWN = libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
UNKNOWN = libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN
DESTROYED = libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED
CRASHED = libvirt.VIR_DOMAIN_SHUTOFF_CRASHED


class ShutdownTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name + '/shutdowns'
        self.domain = fixture.FakeDomain()
        self.is_there = True
        self.trace: traces.Trace | None = {'written': 1}
        # Events are told before they are waited for.
        patch = mock.patch.object(shutdowns, '_PATIENCE', 0)
        patch.start()
        self.addCleanup(patch.stop)
        self.shutdowns = self.new_service()

    def new_service(self) -> shutdowns.Shutdowns:
        """Start another nova-compute."""
        service = shutdowns.Shutdowns(
            notes.Notes(self.directory), self._find,
            lambda domain: self.trace)
        service.start()
        self.addCleanup(service.stop)
        return service

    def _find(self, uuid: str) -> fixture.FakeDomain:
        if not self.is_there:
            raise errors.GuestGone()
        return self.domain

    def tell(self, event: int, detail: int = 0) -> None:
        """Have libvirt tell something of the domain."""
        self.shutdowns.events.receive(UUID, event, detail)

    def begin_end(self, by: int) -> None:
        """Have libvirt tell that the domain is about to end."""
        self.tell(libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, by)

    def end(self, reason: int,
            detail: int = libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN) -> None:
        """Have the domain end."""
        self.domain.shutoff = reason
        self.tell(libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)

    def shut_down(self) -> None:
        """Have the guest shut itself down."""
        self.begin_end(BY_GUEST)
        self.end(SHUTDOWN)

    def run_again(self) -> None:
        """Have the domain started."""
        self.domain.shutoff = None
        self.tell(libvirt.VIR_DOMAIN_EVENT_STARTED)

    def assert_clean(self) -> None:
        """Assert that the guest is sure to have shut itself down."""
        self.assertIsNone(self.shutdowns.why_not_clean(UUID))

    def assert_not_clean(self, reason: str) -> None:
        """Assert that it may not have, and why."""
        found = self.shutdowns.why_not_clean(UUID)
        self.assertIn(reason, str(found))
        # Nova's event has to hold it, and says more.
        self.assertLess(len(str(found)), 200)

    def noted(self) -> list[str]:
        """The instances that have notes."""
        return notes.Notes(self.directory).instances()


class JudgedTest(ShutdownTestCase):
    """Guests that end while libvirt and nova-compute see it all."""

    def test_shut_down_by_itself(self) -> None:
        self.shut_down()
        self.assert_clean()
        self.assertEqual([UUID], self.noted())

    def test_what_happened_since_is_not_known(self) -> None:
        self.shut_down()
        self.assert_clean()
        with mock.patch.object(self.shutdowns.events, 'catch_up',
                               autospec=True, return_value=False):
            self.assert_not_clean('not known')

    def test_killed(self) -> None:
        self.end(CRASHED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)
        self.assert_not_clean('crashed, or was killed; start it')
        self.assertEqual([], self.noted())

    def test_ended_by_a_signal(self) -> None:
        """libvirt's reason is that of a shutdown."""
        self.begin_end(BY_HOST)
        self.end(SHUTDOWN)
        self.assert_not_clean('the compute host ended the instance')

    def test_ended_by_a_signal_as_it_shuts_down(self) -> None:
        for first, second in ((BY_GUEST, BY_HOST), (BY_HOST, BY_GUEST)):
            with self.subTest(first):
                self.begin_end(first)
                self.begin_end(second)
                self.end(SHUTDOWN)
                self.assert_not_clean('the compute host ended the instance')
                self.run_again()

    def test_hypervisor_that_does_not_tell_why(self) -> None:
        self.begin_end(UNTOLD)
        self.end(SHUTDOWN)
        self.assert_not_clean('it is not known')

    def test_destroyed(self) -> None:
        self.end(DESTROYED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
        self.assert_not_clean('powered off before')

    def test_destroyed_as_it_shuts_down(self) -> None:
        self.begin_end(BY_GUEST)
        self.end(DESTROYED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
        self.assert_not_clean('powered off before')
        self.assertEqual([], self.noted())

    def test_other_reasons(self) -> None:
        for reason in (libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED,
                       libvirt.VIR_DOMAIN_SHUTOFF_SAVED,
                       libvirt.VIR_DOMAIN_SHUTOFF_FAILED,
                       libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT,
                       libvirt.VIR_DOMAIN_SHUTOFF_DAEMON, 99):
            with self.subTest(reason):
                self.shut_down()
                self.domain.shutoff = reason
                self.assert_not_clean('it is not known')

    def test_suspended_to_disk(self) -> None:
        self.shut_down()
        self.domain.saved = True
        self.assert_not_clean('suspended the instance to disk')

    def test_shutting_down(self) -> None:
        self.begin_end(BY_GUEST)
        self.assert_not_clean('not shut off any more, or not yet')

    def test_libvirt_reboots_the_guest(self) -> None:
        """It ends by itself, too, and goes on."""
        self.begin_end(BY_GUEST)
        self.tell(libvirt.VIR_DOMAIN_EVENT_RESUMED)
        self.end(SHUTDOWN)
        self.assert_not_clean('it is not known')

    def test_gone(self) -> None:
        self.shut_down()
        self.is_there = False
        self.assert_not_clean('it is not known')

    def test_gone_before_it_was_noted(self) -> None:
        self.is_there = False
        self.shut_down()
        self.tell(libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
        self.assert_not_clean('it is not known')
        self.assertEqual([], self.noted())

    def test_libvirt_fails(self) -> None:
        self.shut_down()
        self.assert_clean()
        with mock.patch.object(self.domain, 'state', autospec=True,
                               side_effect=libvirt.libvirtError('gone')):
            self.assert_not_clean('it is not known')

    def test_started_again(self) -> None:
        self.shut_down()
        self.assert_clean()
        self.run_again()
        self.assert_not_clean('not shut off any more')
        self.shutdowns.events.catch_up()
        self.assertEqual([], self.noted())

    def test_started_before_it_was_noted(self) -> None:
        self.shut_down()
        self.domain.shutoff = None
        self.assert_not_clean('not shut off any more')
        self.shutdowns.events.catch_up()
        self.assertEqual([], self.noted())

    def test_event_that_is_late(self) -> None:
        self.domain.shutoff = SHUTDOWN
        with (mock.patch.object(shutdowns, '_PATIENCE', 60),
              mock.patch('time.sleep', autospec=True,
                         side_effect=lambda *args: self.shut_down())):
            self.assert_clean()

    def test_other_instance(self) -> None:
        self.shut_down()
        self.shutdowns.events.catch_up()
        self.assertIn('it is not known', str(self.shutdowns.why_not_clean(
            UUID.replace('1', '2'))))

    def test_note_that_cannot_be_written(self) -> None:
        with mock.patch.object(notes.Notes, 'write', autospec=True,
                               side_effect=notes.NoteError('full')):
            self.shut_down()
            self.assert_not_clean('it is not known')


class ForgottenTest(ShutdownTestCase):
    """Guests that end while something is down, or is restarted later."""

    def restart(self) -> None:
        """Have nova-compute restarted."""
        self.shutdowns.stop()
        self.shutdowns = self.new_service()

    def test_libvirtd_was_restarted(self) -> None:
        self.shut_down()
        self.shutdowns.events.catch_up()
        self.domain.shutoff = UNKNOWN
        self.assert_clean()

    def test_both_were_restarted(self) -> None:
        self.shut_down()
        self.restart()
        self.domain.shutoff = UNKNOWN
        self.assert_clean()

    def test_killed_and_libvirtd_was_restarted(self) -> None:
        self.end(CRASHED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)
        self.shutdowns.events.catch_up()
        self.domain.shutoff = UNKNOWN
        self.assert_not_clean('it is not known')

    def test_ended_while_nova_compute_was_down(self) -> None:
        self.restart()
        self.domain.shutoff = SHUTDOWN
        self.assert_not_clean('it is not known')

    def test_started_and_killed_while_nova_compute_was_down(self) -> None:
        for reason in (SHUTDOWN, UNKNOWN):
            with self.subTest(reason):
                self.shut_down()
                self.restart()
                self.trace = {'written': 2}
                self.domain.shutoff = reason
                self.assert_not_clean('it is not known')
                self.trace = {'written': 1}

    def test_started_while_nova_compute_was_down(self) -> None:
        self.shut_down()
        self.shutdowns.stop()
        self.domain.shutoff = None
        self.restart()
        self.assertEqual([], self.noted())

    def test_gone_while_nova_compute_was_down(self) -> None:
        self.shut_down()
        self.shutdowns.stop()
        self.is_there = False
        self.restart()
        self.assertEqual([], self.noted())

    def test_libvirt_is_not_reached_at_the_start(self) -> None:
        self.shut_down()
        with mock.patch.object(
                self, '_find', autospec=True,
                side_effect=errors.HypervisorUnreachable):
            self.restart()
        self.assertEqual([UUID], self.noted())

    def test_directory_that_cannot_be_used(self) -> None:
        with open(self.directory + '-2', 'w', encoding='ascii'):
            self.directory += '-2'
        self.restart()
        self.shut_down()
        self.assert_not_clean('it is not known')

    def test_disk_without_traces(self) -> None:
        """It counts as long as libvirt remembers."""
        self.trace = None
        self.shut_down()
        self.assert_clean()
        self.domain.shutoff = UNKNOWN
        self.assert_not_clean('it is not known')
        self.domain.shutoff = SHUTDOWN
        self.assert_clean()
        self.restart()
        self.assert_not_clean('it is not known')

    def test_disk_without_traces_is_started_again(self) -> None:
        self.trace = None
        self.shut_down()
        self.run_again()
        self.begin_end(BY_HOST)
        self.end(SHUTDOWN)
        self.assert_not_clean('the compute host ended')

    def test_disk_whose_traces_are_lost(self) -> None:
        self.shut_down()
        self.shutdowns.events.catch_up()
        self.trace = None
        self.assert_not_clean('it is not known')


class KeptTest(ShutdownTestCase):
    """Guests that are off while Nova itself writes to their disk."""

    def _change(self) -> None:
        with self.shutdowns.kept(UUID):
            self.trace = {'written': 2}

    def test_shut_down(self) -> None:
        self.shut_down()
        self._change()
        self.assert_clean()

    def test_libvirtd_was_restarted(self) -> None:
        self.shut_down()
        self.shutdowns.events.catch_up()
        self.domain.shutoff = UNKNOWN
        self._change()
        self.assert_clean()

    def test_cut_off(self) -> None:
        self.end(DESTROYED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
        self._change()
        self.assert_not_clean('powered off')
        self.assertEqual([], self.noted())

    def test_running(self) -> None:
        self._change()
        self.assertEqual([], self.noted())

    def test_started_meanwhile(self) -> None:
        self.shut_down()
        with self.shutdowns.kept(UUID):
            self.trace = {'written': 2}
            self.run_again()
            self.end(SHUTDOWN)
        self.assert_not_clean('it is not known')
        self.assertEqual([], self.noted())

    def test_failure(self) -> None:
        self.shut_down()
        with self.assertRaises(RuntimeError), self.shutdowns.kept(UUID):
            self.trace = {'written': 2}
            raise RuntimeError('planned')
        self.assert_not_clean('it is not known')

    def test_note_that_cannot_be_read(self) -> None:
        self.shut_down()
        with self.shutdowns.kept(UUID):
            self.trace = {'written': 2}
            patch = mock.patch.object(
                notes.Notes, 'write', autospec=True,
                side_effect=notes.NoteError('full'))
            patch.start()
            self.addCleanup(patch.stop)
        self.assert_not_clean('it is not known')
