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

"""The agent, against each answer that a real one was seen to give."""

import traceback
import unittest
from unittest import mock

import libvirt

from nova_quiesce import fixture
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import filesystems
from nova_quiesce.freeze import guest_agent

TIMEOUTS = guest_agent.Timeouts(ask=5, freeze=30, thaw=10)


class AgentTestCase(unittest.TestCase):

    timeout_left = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK
    replies = fixture.OLDER

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.domain.replies = self.replies
        self.agent = guest_agent.Agent(lambda: self.domain, TIMEOUTS)

    def tearDown(self) -> None:
        # Whatever happened, no other user of the domain is limited by it,
        # unless a thaw is left to do.
        self.assertEqual(self.timeout_left, self.domain.timeout)
        super().tearDown()

    def _fail(self, call: str, code: int, text: str) -> None:
        self.domain.errors[call] = [fixture.libvirt_error(code, text)]


class PreflightTest(AgentTestCase):

    def test_healthy(self) -> None:
        self.assertEqual(2, self.agent.preflight())
        self.assertEqual(['fsInfo'], self.domain.calls)

    def test_not_configured(self) -> None:
        self.domain.configured = False
        with self.assertRaisesRegex(errors.AgentNotConfigured,
                                    'hw_qemu_guest_agent=yes'):
            self.agent.preflight()

    def test_not_connected(self) -> None:
        self.domain.connected = False
        with self.assertRaisesRegex(errors.AgentNotConnected,
                                    'install and start qemu-guest-agent'):
            self.agent.preflight()

    def test_what_the_guest_said_is_not_kept_as_it_came(self) -> None:
        self.domain.replies = fixture.OLDER
        self.domain.errors['fsInfo'] = [
            fixture.agent_refusal('guest-get-fsinfo', 'it has been disabled: '
                                  + '\nERROR \x1b[31m' * 10**6)]
        self.domain.errors['fsFreeze'] = [fixture.libvirt_error(
            libvirt.VIR_ERR_INTERNAL_ERROR, '\ud800' * 10**6)]
        self.domain.frozen = True
        for call in (self.agent.preflight, self.agent.freeze):
            with self.assertRaises(errors.QuiesceError) as caught:
                call()
            # As Nova stores it.
            told = ''.join(traceback.format_exception(caught.exception))
            self.assertLess(len(told), 10000)
            self.assertTrue(told.replace('\n', '').isprintable())

    def test_hanging(self) -> None:
        self.domain.hanging = True
        with self.assertRaisesRegex(errors.AgentUnresponsive, '5 s'):
            self.agent.preflight()

    def test_paused(self) -> None:
        self.domain.running = False
        with self.assertRaises(errors.GuestNotRunning):
            self.agent.preflight()

    def test_gone(self) -> None:
        self.domain.defined = False
        with self.assertRaises(errors.GuestGone):
            self.agent.preflight()

    def test_frozen_by_somebody_else(self) -> None:
        self.domain.frozen = True
        with self.assertRaises(errors.AlreadyFrozen):
            self.agent.preflight()
        self.assertTrue(self.domain.frozen)

    def test_listing_forbidden_is_alive(self) -> None:
        self.domain.forbidden = {'guest-get-fsinfo'}
        self.assertIsNone(self.agent.preflight())
        self.assertEqual(['fsInfo', 'getTime'], self.domain.calls)

    def _forbid_questions(self) -> None:
        self.domain.forbidden = {'guest-get-fsinfo', 'guest-get-time',
                                 'guest-network-get-interfaces'}

    def test_agent_that_allows_the_freeze_alone(self) -> None:
        self._forbid_questions()
        self.assertIsNone(self.agent.preflight())
        self.assertEqual(2, self.agent.freeze())
        self.assertEqual(2, self.agent.thaw())

    def test_old_agent_frozen_by_somebody_else(self) -> None:
        """It says of a frozen guest what it says of what is blocked.

        So does one since 9.1. Both refuse the freeze as well then.
        """
        self._forbid_questions()
        self.assertIsNone(self.agent.preflight())
        self.domain.forbidden.add('guest-fsfreeze-freeze')
        self.domain.frozen = True
        with self.assertRaises(errors.NotFrozen):
            self.agent.freeze()
        self.assertTrue(self.domain.frozen)
        self.assertNotIn('fsThaw', self.domain.calls)

    def test_another_call_does_not_end(self) -> None:
        self._fail('fsInfo', libvirt.VIR_ERR_OPERATION_TIMEOUT,
                   'Timed out during operation: cannot acquire state change '
                   'lock (held by agent=remoteDispatchDomainGetFSInfo)')
        with self.assertRaises(errors.AgentBusy):
            self.agent.preflight()

    def test_what_is_listed_is_remembered(self) -> None:
        self.domain.unfrozen = [('/boot/efi', 'vda9', 'vfat', ['vda'])]
        self.assertEqual(3, self.agent.preflight())
        assert self.agent.listed is not None
        self.assertEqual(['/fs0 (ext4)', '/fs1 (ext4)', '/boot/efi (vfat)'],
                         [str(one) for one in self.agent.listed])

    def test_what_is_no_list_is_alive(self) -> None:
        answers: tuple[object, ...] = (
            'all of them', {'/': 'vda'}, [None], [('/',)],
            [('/', 'vda1', 3, [])])
        for answer in answers:
            self.domain.list_answer = answer
            self.assertIsNone(self.agent.preflight())
            self.assertIsNone(self.agent.listed)

    def test_names_that_are_no_text(self) -> None:
        self.domain.errors['fsInfo'] = [
            UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'planned')]
        self.assertIsNone(self.agent.preflight())

    def test_more_filesystems_than_any_guest_has(self) -> None:
        self.domain.filesystems = filesystems.MAX_LISTED + 1
        self.assertIsNone(self.agent.preflight())


class FreezeTest(AgentTestCase):

    def test_healthy(self) -> None:
        self.assertEqual(2, self.agent.freeze())
        self.assertTrue(self.domain.frozen)

    def test_never_sent(self) -> None:
        for fault, expected in (
                ('configured', errors.AgentNotConfigured),
                ('connected', errors.AgentNotConnected),
                ('running', errors.GuestNotRunning),
                ('defined', errors.GuestGone)):
            setattr(self.domain, fault, False)
            with self.assertRaises(expected):
                self.agent.freeze()
            setattr(self.domain, fault, True)
            self.assertTrue(issubclass(expected, errors.NotFrozen))

    def test_timeout_may_have_frozen(self) -> None:
        self.domain.hanging = True
        with self.assertRaisesRegex(errors.FreezeTimedOut, '30 s'):
            self.agent.freeze()

    def test_hook_that_fails(self) -> None:
        """The agent has frozen nothing, and shows it: nothing is thawed."""
        self.domain.errors['fsFreeze'] = [
            fixture.hook_failure('freeze', self.replies)]
        with self.assertRaisesRegex(errors.FreezeRefused, 'status 1'):
            self.agent.freeze()
        self.assertEqual(['fsFreeze', 'getTime'], self.domain.calls)

    def test_refusal_of_another_agent(self) -> None:
        self.domain.errors['fsFreeze'] = [fixture.agent_refusal(
            'guest-fsfreeze-freeze', 'fsfreeze not possible as VSS failed to '
            'initialize', self.replies)]
        with self.assertRaisesRegex(errors.FreezeRefused, 'VSS'):
            self.agent.freeze()

    def test_refusal_that_leaves_it_frozen(self) -> None:
        def fail() -> None:
            raise fixture.agent_refusal('guest-fsfreeze-freeze', 'a defect',
                                        self.replies)

        self.timeout_left = TIMEOUTS.ask
        self.domain.after['fsFreeze'] = fail
        with self.assertRaisesRegex(errors.FreezeFailed, 'a defect'):
            self.agent.freeze()

    def test_freeze_is_forbidden(self) -> None:
        self.domain.forbidden = {'guest-fsfreeze-freeze'}
        with self.assertRaisesRegex(errors.FreezeForbidden, 'allow its'):
            self.agent.freeze()

    def test_frozen_by_somebody_else_meanwhile(self) -> None:
        """It is another's freeze, and is not thawed."""
        self.domain.frozen = True
        with self.assertRaises(errors.AlreadyFrozen):
            self.agent.freeze()

    def test_agent_that_disappears(self) -> None:
        self.domain.errors['fsFreeze'] = [self.replies.disappearance()]
        with self.assertRaises(errors.AgentDisappeared):
            self.agent.freeze()

    def test_nothing_is_sent_over_a_broken_connection(self) -> None:
        self.domain.agentSetResponseTimeout = mock.Mock(  # type: ignore
            side_effect=fixture.libvirt_error(
                libvirt.VIR_ERR_SYSTEM_ERROR, 'client socket is closed'))
        with self.assertRaises(errors.HypervisorUnreachable):
            self.agent.freeze()
        self.assertEqual([], self.domain.calls)

    def test_connection_that_breaks(self) -> None:
        self._fail('fsFreeze', libvirt.VIR_ERR_SYSTEM_ERROR,
                   'End of file while reading data: Input/output error')
        with self.assertRaises(errors.FreezeLost):
            self.agent.freeze()

    def test_unknown_text_of_a_known_code_may_have_frozen(self) -> None:
        self._fail('fsFreeze', libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
                   'something that libvirt never said before')
        with self.assertRaises(errors.MaybeFrozen):
            self.agent.freeze()

    def test_nothing_frozen(self) -> None:
        self.domain.filesystems = 0
        with self.assertRaises(errors.NothingFrozen):
            self.agent.freeze()

    def test_one_is_left_out(self) -> None:
        self.domain.unfrozen = [('/data', 'vdb', 'ext4', ['vdb'])]
        self.agent.preflight()
        self.assertEqual(2, self.agent.freeze())

    def test_one_is_left_out_and_all_are_required(self) -> None:
        strict = guest_agent.Agent(
            lambda: self.domain, TIMEOUTS, is_strict=True)
        self.domain.unfrozen = [('/boot/efi', 'vda9', 'vfat', ['vda'])]
        strict.preflight()
        self.assertEqual(2, strict.freeze())
        strict.thaw()
        self.domain.unfrozen = [('/data', 'vdb', 'ext4', ['vdb'])]
        strict.preflight()
        with self.assertRaisesRegex(errors.TooFewFrozen, 'only 2 of'):
            strict.freeze()

    def test_malformed_count(self) -> None:
        for answer in (-1, None, '2', True, 2.0, [2], 10**9):
            self.domain.freeze_answer = (
                answer if answer is not None else [])
            with self.assertRaises(errors.MaybeFrozen):
                self.agent.freeze()
            self.domain.frozen = False

    def test_hostile_text_is_one_short_line(self) -> None:
        self._fail('fsFreeze', libvirt.VIR_ERR_INTERNAL_ERROR,
                   'a\nERROR forged line\x1b[31m' + 'x' * 100000)
        with self.assertRaises(errors.MaybeFrozen) as caught:
            self.agent.freeze()
        text = str(caught.exception)
        self.assertLess(len(text), 300)
        self.assertTrue(text.isprintable(), text)


class ThawTest(AgentTestCase):

    def test_healthy(self) -> None:
        self.agent.freeze()
        self.assertEqual(2, self.agent.thaw())
        self.assertFalse(self.domain.frozen)

    def test_not_frozen(self) -> None:
        self.assertEqual(0, self.agent.thaw())

    def test_unanswered_is_not_confirmed(self) -> None:
        self.timeout_left = TIMEOUTS.thaw
        self.domain.hanging = True
        with self.assertRaises(errors.ThawFailed):
            self.agent.thaw()

    def test_malformed_count_is_not_confirmed(self) -> None:
        self.domain.thaw_answer = 'two'
        with self.assertRaises(errors.ThawFailed):
            self.agent.thaw()

    def test_gone(self) -> None:
        self.timeout_left = TIMEOUTS.thaw
        self.domain.defined = False
        with self.assertRaises(errors.GuestGone):
            self.agent.thaw()

    def test_paused_is_not_gone(self) -> None:
        self.timeout_left = TIMEOUTS.thaw
        self.domain.running = False
        with self.assertRaises(errors.ThawFailed):
            self.agent.thaw()

    def test_domain_is_looked_up_again_after_a_failure(self) -> None:
        broken = fixture.FakeDomain()
        broken.errors['fsThaw'] = [fixture.libvirt_error(
            libvirt.VIR_ERR_SYSTEM_ERROR, 'client socket is closed')]
        handles = [broken, self.domain]
        self.domain.frozen = True
        lost = guest_agent.Agent(lambda: handles.pop(0), TIMEOUTS)
        with self.assertRaises(errors.ThawFailed):
            lost.thaw()
        self.assertEqual(2, lost.thaw())
        self.assertFalse(self.domain.frozen)


class IsFrozenTest(AgentTestCase):

    def test_neither(self) -> None:
        self.assertIs(False, self.agent.is_frozen())
        self.assertEqual(['getTime'], self.domain.calls)

    def test_frozen(self) -> None:
        self.timeout_left = TIMEOUTS.ask
        self.domain.frozen = True
        self.assertIs(True, self.agent.is_frozen())

    def test_some_is_forbidden(self) -> None:
        self.timeout_left = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK
        self.domain.forbidden = {'guest-get-time'}
        self.assertIs(False, self.agent.is_frozen())

    def test_what_is_blocked_goes_on_to_say_that_it_is_frozen(self) -> None:
        """Agents 6.0 to 9.0 do, of a command that is blocked, after a thaw."""
        self.domain.errors['getTime'] = [fixture.agent_refusal(
            'guest-get-time', 'Command guest-get-time has been disabled: the '
            'agent is in frozen state')]
        self.assertIs(False, self.agent.is_frozen())

    def test_all_is_forbidden(self) -> None:
        self.timeout_left = TIMEOUTS.ask
        self.domain.forbidden = {'guest-get-time', 'guest-get-fsinfo',
                                 'guest-network-get-interfaces'}
        self.assertIsNone(self.agent.is_frozen())

    def test_no_answer(self) -> None:
        self.timeout_left = TIMEOUTS.ask
        self.domain.hanging = True
        with self.assertRaises(errors.ThawFailed):
            self.agent.is_frozen()


class NewerPreflightTest(PreflightTest):
    """The same, of a newer libvirt and a newer agent."""

    replies = fixture.NEWER

    def test_frozen_by_somebody_else(self) -> None:
        """It does not tell; the freeze is refused in its turn."""
        self.domain.frozen = True
        self.assertIsNone(self.agent.preflight())
        with self.assertRaises(errors.FreezeForbidden):
            self.agent.freeze()
        self.assertTrue(self.domain.frozen)

    def test_still_hanging(self) -> None:
        """It is connected, and its tenant is not told that it is not."""
        self.domain.hanging = True
        for _again in range(2):
            with self.assertRaisesRegex(errors.AgentUnresponsive, '5 s'):
                self.agent.preflight()


class NewerFreezeTest(FreezeTest):
    """The same, of a newer libvirt and a newer agent."""

    replies = fixture.NEWER

    def test_frozen_by_somebody_else_meanwhile(self) -> None:
        """It does not tell. What it refuses is not thawed."""
        self.domain.frozen = True
        with self.assertRaises(errors.FreezeForbidden):
            self.agent.freeze()
        self.assertNotIn('fsThaw', self.domain.calls)

    def test_after_a_command_that_was_not_answered(self) -> None:
        """It was not sent, and no thaw is owed."""
        self.domain.hanging = True
        with self.assertRaises(errors.AgentUnresponsive):
            self.agent.preflight()
        with self.assertRaisesRegex(errors.AgentUnresponsive, '5 s'):
            self.agent.freeze()
        self.domain.land()
        self.assertFalse(self.domain.frozen)


class NewerThawTest(ThawTest):
    """The same, of a newer libvirt and a newer agent."""

    replies = fixture.NEWER

    def test_after_a_freeze_that_was_not_answered(self) -> None:
        self.timeout_left = TIMEOUTS.thaw
        self.domain.hanging = True
        with self.assertRaises(errors.FreezeTimedOut):
            self.agent.freeze()
        with self.assertRaises(errors.ThawNotSent):
            self.agent.thaw()
        self.domain.land()
        self.timeout_left = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK
        self.assertEqual(2, self.agent.thaw())


class NewerIsFrozenTest(IsFrozenTest):
    """The same, of a newer libvirt and a newer agent."""

    replies = fixture.NEWER

    def test_frozen(self) -> None:
        """It does not tell this from what its configuration blocks."""
        self.timeout_left = TIMEOUTS.ask
        self.domain.frozen = True
        self.assertIsNone(self.agent.is_frozen())


class PresenceTest(AgentTestCase):

    def test_running(self) -> None:
        self.assertEqual(domains.Presence(1, is_new=True),
                         self.agent.presence())

    def test_gone(self) -> None:
        self.domain.defined = False
        self.assertEqual(domains.Presence(None), self.agent.presence())

    def test_suspended_and_resumed(self) -> None:
        self.domain.save()
        self.assertEqual(domains.Presence(None, is_saved=True),
                         self.agent.presence())
        self.agent.resume()
        self.assertEqual(domains.Presence(2),
                         self.agent.presence())


class MountpointsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain(filesystems=3)

    def _agent(self, *mountpoints: str) -> guest_agent.Agent:
        return guest_agent.Agent(
            lambda: self.domain, guest_agent.Timeouts(1, 1, 1), mountpoints)

    def test_only_those_are_frozen(self) -> None:
        some = self._agent('/fs0', '/fs2')
        self.assertEqual(3, some.preflight())
        self.assertEqual(2, some.freeze())
        self.assertEqual(2, some.thaw())

    def test_unknown_one_is_an_error_and_no_empty_freeze(self) -> None:
        with self.assertRaisesRegex(errors.UnknownMountpoint, '/nope'):
            self._agent('/fs0', '/nope').preflight()
        self.assertEqual(['fsInfo'], self.domain.calls)

    def test_agent_that_does_not_list_its_filesystems(self) -> None:
        self.domain.forbidden = {'guest-get-fsinfo'}
        with self.assertRaises(errors.UnknownMountpoint):
            self._agent('/fs0').preflight()
