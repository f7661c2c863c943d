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

"""What holds for each answer of an agent, whatever it is."""

import unittest

import hypothesis
from hypothesis import strategies
import libvirt

from nova_quiesce import fixture
from nova_quiesce import fixture_replies
from nova_quiesce.freeze import filesystems
from nova_quiesce.freeze import replies
from nova_quiesce.freeze import texts
from tests.unit import any_input

_WORDS = strategies.sampled_from((
    'agent is not connected', 'has been disabled', 'hook', 'child',
    'the agent is in frozen state', "unable to execute QEMU agent command 'a'",
    "guest agent didn't respond to synchronization", '\n', '\0', ' '))
_TEXTS = any_input.TEXTS | strategies.lists(
    _WORDS | any_input.TEXTS).map(''.join)
_CODES = strategies.integers(-2, 120)
_FILESYSTEMS = strategies.lists(strategies.builds(
    filesystems.Filesystem, _TEXTS, _TEXTS, strategies.sampled_from(
        ('ext4', 'xfs', 'vfat', 'iso9660', 'tmpfs')) | _TEXTS))


class AnyAnswerTest(unittest.TestCase):

    def _check_text(self, text: str, longest: int) -> None:
        self.assertLessEqual(len(text), longest)
        self.assertTrue(text.isprintable(), ascii(text))
        # What Glance and Cinder store.
        self.assertLessEqual(max(text, default=''), '\uffff')

    @hypothesis.given(_TEXTS)
    def test_printable(self, text: str) -> None:
        shown = texts.printable(text)
        self._check_text(shown, texts.MAX_TEXT)
        self.assertEqual(shown, texts.printable(shown))

    @hypothesis.given(_TEXTS, strategies.integers(3, 300))
    def test_shorten(self, text: str, longest: int) -> None:
        shown = texts.shorten(text, longest)
        self.assertLessEqual(len(shown), longest)
        self.assertTrue(shown == text or (
            shown.endswith('...') and text.startswith(shown[:-3])))

    @hypothesis.given(_CODES, _TEXTS)
    def test_error(self, code: int, text: str) -> None:
        error = fixture.libvirt_error(code, text)
        failure = replies.Failure(replies.reply_of(error), error)
        self._check_text(str(failure), texts.MAX_TEXT)
        self.assertEqual(code, failure.code)
        told = (failure.is_forbidden(), failure.follows_thaw(),
                failure.is_of_frozen_state())
        if any(told):
            # Only an agent that answered can say so.
            self.assertIs(replies.Reply.ANSWERED_NO, failure.reply)

    @hypothesis.given(
        strategies.sampled_from((fixture.OLDER, fixture.NEWER)), _TEXTS)
    def test_refusal(self, words: fixture_replies.Replies, text: str) -> None:
        """No agent can have it believed that it was sent nothing."""
        error = fixture.agent_refusal('guest-fsfreeze-freeze', text, words)
        self.assertIs(replies.Reply.ANSWERED_NO, replies.reply_of(error))

    @hypothesis.given(strategies.sampled_from((
        UnicodeError, ValueError, MemoryError, OSError, RuntimeError)), _TEXTS)
    def test_other_error(self, kind: type[Exception], text: str) -> None:
        failure = replies.Failure(replies.reply_of(kind(text)), kind(text))
        self.assertIs(replies.Reply.UNKNOWN, failure.reply)
        self._check_text(str(failure), texts.MAX_TEXT)

    @hypothesis.given(any_input.ANSWERS)
    def test_listing(self, answer: object) -> None:
        listed = filesystems.parse(answer)
        if listed is not None:
            assert isinstance(answer, list)
            self.assertEqual([entry[0] for entry in answer],
                             [one.mountpoint for one in listed])
        for one in listed or ():
            self._check_text(str(one), 60)

    @hypothesis.given(
        strategies.none() | _FILESYSTEMS.map(tuple),
        strategies.sets(_TEXTS, max_size=4), strategies.integers(0, 1024))
    def test_sentences(self, listed: filesystems.Listing,
                       mountpoints: set[str], count: int) -> None:
        tally = filesystems.Tally(listed, mountpoints, count)
        shortfall = tally.shortfall()
        self._check_text(shortfall or '', 255)
        self._check_text(tally.stayed_frozen(), 255)
        if shortfall is None and listed:
            # One filesystem for each device that can be frozen.
            devices = {one.device for one in listed}
            self.assertLessEqual(
                len([one for one in devices if all(
                    other.type == 'ext4' for other in listed
                    if other.device == one)]),
                count if not mountpoints else len(devices))

    def test_codes_are_known(self) -> None:
        """What was never sent is libvirt's to say, by its code alone."""
        error = fixture.libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, 'hook')
        self.assertIs(replies.Reply.NEVER_SENT, replies.reply_of(error))
