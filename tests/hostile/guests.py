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

"""A guest whose agent need not be honest, and its domain.

What libvirt itself does is real: an agent has its commands one at a time, a
call ends at its time limit, and what was sent before that may be done later.
"""

from collections import abc
import typing

import libvirt

from nova_quiesce import fixture
from nova_quiesce import fixture_replies
from tests.hostile import answers
from tests.simulation import scheduler as scheduling

#: Seconds that libvirt waits for an agent, where it was given no limit.
_DEFAULT_LIMIT = 5
#: Seconds that a call waits for its turn.
_TURN = 30
#: What an agent since 9.1 says only once it has thawed, and older ones of
#: their hooks.
_AFTER_THAW = ('hook', 'child', "couldn't hold writes", 'not allowed')
_FORBIDDEN = ('has been disabled', 'has not been found')
#: How far an error is surely listened to, in characters.
_HEARD = 150
MOUNTPOINTS = ('/', '/data')


class Guest:
    """A guest, and what its agent does.

    :param scheduler: of all tasks
    :param tell: adds a line to the story
    :param hostility: of its agent; None for an honest one
    :param words: of libvirt and agent
    :ivar frozen_since: since when it is frozen; None where it is not
    :ivar thawed_at: when it was thawed last, whoever did
    :ivar honest_from: when its agent begins to tell the truth
    :ivar overdue: for how many seconds it was frozen, once its agent told the
        truth, and had done what it was sent before
    :ivar is_denied: whether its agent denied that it is frozen, or is to be:
        then nobody can know
    :ivar is_vouched: whether its agent vouched for a freeze that was not
    :ivar commands: when each command came to the agent
    :ivar unlimited: the commands that came without a time limit
    :ivar largest: the size of the largest text that it answered, in bytes
    """

    def __init__(self, scheduler: scheduling.Scheduler,
                 tell: abc.Callable[[str], None],
                 hostility: answers.Hostility | None,
                 words: fixture_replies.Replies) -> None:
        self.scheduler = scheduler
        self.tell = tell
        self.process = scheduling.Process('guest')
        self.words = words
        self.limit = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK
        self.is_busy = False
        self.frozen_since: float | None = None
        self.thawed_at = 0.0
        self.is_denied = self.is_vouched = False
        self.commands: list[float] = []
        self.unlimited: list[str] = []
        self.largest = 0
        self._frozen = 0
        self._hostility = hostility
        self.honest_from = scheduler.now + (
            hostility.until if hostility else 0)
        self.overdue = 0.0
        self._busy_until = scheduler.now
        #: When it has done what it was sent before it was honest.
        self._free_from = scheduler.now
        self._pending = 0
        #: Seconds after a freeze at which it is undone, without a word; and
        #: whether it is frozen again after that.
        self.undone_after: tuple[float, bool] | None = None

    def is_honest(self) -> bool:
        """Tell whether the agent tells the truth by now."""
        return self.scheduler.now >= self.honest_from

    def answer(self, command: str) -> answers.Answer:
        """Choose the answer to a command."""
        if self._hostility is None or self.is_honest():
            return answers.Answer()
        return self._hostility.answer(command)

    def was_frozen(self, begin: float) -> bool:
        """Tell whether it was frozen from some time on, until now."""
        return self.frozen_since is not None and self.frozen_since <= begin

    def freeze(self, mountpoints: abc.Collection[str]) -> int:
        """Freeze filesystems; return how many."""
        count = sum(not mountpoints or one in mountpoints
                    for one in MOUNTPOINTS)
        if count and self.frozen_since is None:
            self._frozen, self.frozen_since = count, self.scheduler.now
            self.tell('the guest is frozen')
            if self.undone_after is not None:
                self.scheduler.start(self.process, 'undo', self._undo)
        return count

    def thaw(self) -> int:
        """Thaw all filesystems; return how many."""
        count, self._frozen = self._frozen, 0
        if self.frozen_since is not None:
            self.tell('the guest is thawed')
            if not self.is_denied:
                self.overdue = max(self.overdue, self.scheduler.now - max(
                    self.frozen_since, self.honest_from, self._free_from))
            self.frozen_since, self.thawed_at = None, self.scheduler.now
            self.is_denied = False
        return count

    def _undo(self) -> None:
        assert self.undone_after is not None
        seconds, is_frozen_again = self.undone_after
        self.scheduler.wait(lambda: False, seconds)
        self.undone_after = None
        self.thaw()
        if is_frozen_again:
            self.freeze(())
            self.is_denied = self.is_vouched = True

    def note_answer(self, command: str, answer: answers.Answer) -> None:
        """Note what an answer that came claims, beside what is so."""
        text = answer.text
        is_frozen = self.frozen_since is not None or self._pending > 0
        if command == 'fsFreeze':
            self._note_freeze(text)
        elif command == 'fsThaw':
            self._note_thaw(answer, text, is_frozen)
        elif is_frozen and answer.is_told and not answer.is_honest:
            # One who is frozen says so, or that the command is blocked.
            self.is_denied = self.is_denied or text is None or not any(
                one in text[:_HEARD] for one in _FORBIDDEN)

    def _note_freeze(self, text: str | None) -> None:
        if self.frozen_since is None:
            self.is_vouched = text is None
        elif text is not None and any(one in text for one in _FORBIDDEN):
            self.is_denied = True

    def _note_thaw(self, answer: answers.Answer, text: str | None,
                   is_frozen: bool) -> None:
        if answer.is_honest:
            return
        if text is None:
            self.is_vouched = True
        if is_frozen and (text is None or any(
                one in text for one in _AFTER_THAW)):
            self.is_denied = True

    def busy_for(self) -> float:
        """Return the seconds until it has done what it was sent before."""
        return max(0.0, self._busy_until - self.scheduler.now)

    def land(self, seconds: float, effect: abc.Callable[[], object]) -> None:
        """Do something later: what it was sent before a call gave up.

        :param seconds: from now, or from when it has done what came before
        :param effect: what is done
        """
        self._pending += 1
        self._busy_until = self.scheduler.now + self.busy_for() + seconds
        if not self.is_honest():
            self._free_from = self._busy_until
        seconds = self.busy_for()

        def do() -> None:
            self.scheduler.wait(lambda: False, seconds)
            self._pending -= 1
            is_denied = self.is_denied
            effect()
            self.is_denied = is_denied and self.frozen_since is not None

        self.scheduler.start(self.process, 'land', do)


class Domain:
    """A guest's domain, as libvirt has it.

    :param guest: the guest
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def agentSetResponseTimeout(self, timeout: int, flags: int = 0) -> int:
        """Limit each later agent call, of whoever makes it."""
        self._guest.scheduler.switch()
        self._guest.limit = timeout
        return 0

    def fsInfo(self, flags: int = 0) -> object:
        """List the filesystems."""
        return self._send('fsInfo', 'guest-get-fsinfo', lambda: [
            (one, 'vd%d' % number, 'ext4', ['vd%d' % number])
            for number, one in enumerate(MOUNTPOINTS)])

    def getTime(self, flags: int = 0) -> object:
        """Tell the guest's time."""
        return self._send('getTime', 'guest-get-time', dict)

    def interfaceAddresses(self, source: int, flags: int = 0) -> object:
        """Tell the guest's addresses."""
        return self._send(
            'interfaceAddresses', 'guest-network-get-interfaces', dict)

    def fsFreeze(self, mountpoints: list[str] | None = None) -> int:
        """Freeze the guest."""
        return typing.cast(int, self._send(
            'fsFreeze', 'guest-fsfreeze-freeze',
            lambda: self._guest.freeze(mountpoints or ())))

    def fsThaw(self) -> int:
        """Thaw the guest."""
        return typing.cast(int, self._send(
            'fsThaw', 'guest-fsfreeze-thaw', self._guest.thaw))

    def ID(self) -> int:
        """1: it was never started again."""
        return 1

    def state(self, flags: int = 0) -> list[int]:
        """Tell that it runs."""
        return [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED]

    def _send(self, command: str, name: str,
              effect: abc.Callable[[], object]) -> object:
        guest = self._guest
        if not guest.scheduler.wait(lambda: not guest.is_busy, _TURN):
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                'Timed out during operation: cannot acquire state change '
                'lock')
        guest.is_busy = True
        try:
            return self._carry_out(command, name, effect)
        finally:
            guest.is_busy = False

    def _carry_out(self, command: str, name: str,
                   effect: abc.Callable[[], object]) -> object:
        guest = self._guest
        guest.commands.append(guest.scheduler.now)
        if guest.limit < 0:
            guest.unlimited.append(command)
        limit = _DEFAULT_LIMIT if guest.limit < 0 else guest.limit
        answer = guest.answer(command)
        guest.largest = max(guest.largest, answer.size)
        guest.tell('%s: %s' % (command, answer))
        seconds = limit * answer.delay
        if answer.is_honest:
            # In its turn.
            seconds += guest.busy_for()
        if seconds >= limit:
            if answer.is_done and seconds != float('inf'):
                guest.land(seconds - guest.busy_for(), effect)
            guest.scheduler.wait(lambda: False, limit)
            raise guest.words.no_answer(limit)
        guest.scheduler.wait(lambda: False, seconds)
        return self._reply(command, name, effect, answer)

    def _reply(self, command: str, name: str,
               effect: abc.Callable[[], object],
               answer: answers.Answer) -> object:
        guest = self._guest
        is_refused = command != 'fsThaw' and guest.frozen_since is not None
        honest = effect() if answer.is_done and not is_refused else None
        guest.note_answer(command, answer)
        if answer.text is not None:
            raise answer.new_error(answer.text)
        if not answer.is_honest:
            return answer.reply
        if is_refused:
            raise guest.words.is_frozen(name)
        return honest


class Connection:
    """A connection to libvirtd, which is always good.

    :param guests: by their UUID
    """

    def __init__(self, guests: abc.Mapping[str, Guest]) -> None:
        self._guests = guests

    def isAlive(self) -> int:
        """1: it can be used."""
        return 1

    def lookupByUUIDString(self, uuidstr: str) -> Domain:
        """Find a guest's domain."""
        return Domain(self._guests[uuidstr])

    def close(self) -> int:
        """Let go of it."""
        return 0
