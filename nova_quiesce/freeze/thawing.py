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

"""The thawing of one guest, until its agent shows that it is not frozen.

The window in nova-compute, the thaw guard and the recovery at start all thaw
like this; none of them ends without a proof. The guest's thaw hooks run with
each thaw that reaches its agent, so after the first one it is asked whether
another is needed: that runs no hook.
"""

from collections import abc
import dataclasses
import typing

from nova_quiesce.freeze import errors

#: By how much each pause between two tries is longer than the one before.
_GROWTH = 1.5
#: How long libvirt may keep a command of a client that is gone, in seconds: it
#: waits 30 for its turn, and twice 5 for the agent to take it.
LOST_COMMAND = 45.0
#: The longest pause, in seconds, and as a part of the time that was tried: so
#: much later may a late freeze be seen, or the return of a dead agent.
LONGEST_PAUSE = 10.0
_SHORT_PAUSE, _PART = 1.5, 0.05


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of the thawing of a guest.

    :ivar reason: why nothing is left to thaw, in a few words
    :ivar is_gone: whether the guest is, and nothing was proven of it
    """

    reason: str
    is_gone: bool = False


class ThawableAgent(typing.Protocol):
    """The part of a guest's agent that is used here."""

    def thaw(self) -> int:
        """Thaw all filesystems; return the count of those thawed."""

    def is_frozen(self) -> bool | None:
        """Tell whether the agent takes its guest for frozen."""


class Thawing:
    """The way of one guest from maybe frozen to surely not.

    :param agent: the guest's agent
    :param why_stale: tells why the guest cannot be frozen any more, by its
        hypervisor; None where it can
    :param frozen: how many filesystems were frozen; None where it is not
        known whether a freeze has reached the guest, or will
    :param interval: seconds of the first pause between two tries
    :param clock: tells the time, in seconds
    :param settling: seconds until a freeze of which nothing is known has
        reached the guest, if it ever does
    :param is_fresh: whether the guest was frozen just now, so that it need not
        be looked for first
    :ivar count: how many filesystems the first thaw found frozen; None where
        no thaw was answered with a count
    :ivar refusal: what the agent said instead; None where it did not
    """

    def __init__(self, agent: ThawableAgent,
                 why_stale: abc.Callable[[], str | None],
                 frozen: int | None, interval: float,
                 clock: abc.Callable[[], float],
                 settling: float = 0.0, is_fresh: bool = False) -> None:
        self.count: int | None = None
        self.refusal: str | None = None
        self._agent = agent
        self._why_stale = why_stale
        self._left = frozen
        self._interval = self._shortest = interval
        self._is_fresh = is_fresh
        self._has_told = False
        self._since: float | None = None
        self._asks_first = False
        self._was_done = False
        self._has_told_state = self._has_kept_silent = False
        self._clock = clock
        self._settling = settling
        self._thawed_since: float | None = None

    def run(self, tell: abc.Callable[[Exception], object],
            wait: abc.Callable[[float], bool]) -> Outcome | None:
        """Try until it is over.

        :param tell: told why the guest may still be frozen, once
        :param wait: called with seconds, which it waits; it returns whether
            to go on after that
        :returns: how it ended; None where it was not to go on
        """
        while True:
            outcome = None
            try:
                outcome = self.attempt()
            except Exception as error:
                if not self._has_told:
                    tell(error)
                self._has_told = True
            if outcome is not None:
                return outcome
            if not wait(self.pause()):
                return None

    def attempt(self) -> Outcome | None:
        """Thaw the guest, or see that this is not needed any more.

        :returns: None where another try is needed
        :raises Exception: nothing is known of this one, and another is needed
        """
        try:
            stale = None if self._is_fresh else self._why_stale()
            self._is_fresh = False
            if stale is not None:
                return Outcome(stale, is_gone=True)
            if self._asks_first and self._seems_thawed():
                return self._note_thawed()
            return self._thaw()
        except errors.GuestGone:
            return Outcome('the guest is gone', is_gone=True)

    def pause(self) -> float:
        """Return the seconds to wait before the next try."""
        now = self._clock()
        if self._since is None:
            self._since = now
        longest = max(self._shortest, min(LONGEST_PAUSE, max(
            _SHORT_PAUSE, (now - self._since) * _PART)))
        pause = min(self._interval, longest)
        self._interval = pause * _GROWTH
        return pause

    def _thaw(self) -> Outcome | None:
        # Whatever comes of it, the hooks may have run.
        self._asks_first = True
        try:
            count = self._agent.thaw()
        except errors.ThawNotSent:
            self._asks_first = False
            raise
        except errors.ThawRefused as refusal:
            self.refusal = str(refusal)
            self._was_done = refusal.has_thawed
            return self._ask()
        self._was_done = True
        if self.count is None:
            self.count = count
        if self._left is None and count:
            return Outcome('%d filesystems were thawed' % count)
        if self._left is not None and count >= self._left:
            return Outcome('all filesystems were thawed')
        if self._left is not None and count:
            # Fewer than were frozen: the rest may be frozen still.
            self._left -= count
            self._asks_first = False
            return None
        return self._ask()

    def _ask(self) -> Outcome | None:
        if self._seems_thawed():
            return self._note_thawed()
        self._thawed_since = None
        return None

    def _seems_thawed(self) -> bool:
        is_frozen = self._agent.is_frozen()
        if is_frozen is None:
            return self._was_done and not self._must_be_frozen()
        self._has_told_state = True
        return not is_frozen

    def _must_be_frozen(self) -> bool:
        # What an agent refuses without saying why is no answer; then the
        # answer to the thaw before it counts. But one since 9.1 is frozen if
        # it answered before, and may be if a freeze came right after the thaw:
        # libvirt sends one that waits as soon as it can.
        if self._has_told_state:
            return True
        is_first, self._has_kept_silent = not self._has_kept_silent, True
        if is_first and self._left is None:
            self._asks_first = False
            return True
        return False

    def _note_thawed(self) -> Outcome | None:
        since, now = self._thawed_since, self._clock()
        if self._left is None and (
                since is None or now - since < self._settling):
            # A freeze may still wait in libvirtd, and be overtaken by this.
            self._thawed_since = now if since is None else since
            return None
        return Outcome('the guest agent shows that it is not frozen')
