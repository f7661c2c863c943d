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

"""The guest agent: it is asked, freezes and thaws.

Its answers come from a tenant's guest and are treated so: bounded in time by
libvirt's response timeout, in size and type by this module, and classified
once, by :mod:`nova_quiesce.freeze.replies`.
"""

import dataclasses
import logging
import typing

import libvirt

from nova_quiesce.freeze import agent_commands
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import filesystems
from nova_quiesce.freeze import frozen_state
from nova_quiesce.freeze import replies
from nova_quiesce.freeze import response_limits

LOG = logging.getLogger(__name__)

@dataclasses.dataclass(frozen=True)
class Timeouts:
    """The time limits of an agent's answers, in seconds."""

    ask: int
    freeze: int
    thaw: int


class Agent:
    """The agent of one guest.

    :param lookup: finds the guest's domain
    :param timeouts: how long each kind of call may take
    :param mountpoints: of the filesystems to freeze; empty for all
    :param is_strict: whether a freeze that is known to leave out a
        filesystem counts as failed
    :param limit: the time limit of the agent; None where nobody else of this
        process uses it
    :ivar limit: the same
    :ivar listed: the filesystems that the guest had at the preflight; None
        where the agent would not tell
    """

    def __init__(self, lookup: domains.Lookup, timeouts: Timeouts,
                 mountpoints: tuple[str, ...] = (),
                 is_strict: bool = False,
                 limit: response_limits.ResponseLimit | None = None) -> None:
        self.limit = limit or response_limits.ResponseLimit()
        self.mountpoints = mountpoints
        self.listed: filesystems.Listing = None
        self._is_strict = is_strict
        self._lookup = lookup
        self._timeouts = timeouts
        self._commands = agent_commands.AgentCommands(
            lookup, self.limit)

    def presence(self) -> domains.Presence:
        """Find out where the guest is now.

        :raises HypervisorUnreachable: that cannot be told
        """
        return domains.presence_of(self._lookup)

    def resume(self) -> None:
        """Let a guest go on that is suspended to disk.

        :raises GuestGone: there is none
        :raises libvirtError: it does not go on
        """
        self._lookup().create()

    def stands_still(self) -> bool:
        """Tell whether the guest is known not to run at the moment."""
        try:
            return bool(
                self._lookup().state()[0] != libvirt.VIR_DOMAIN_RUNNING)
        except (errors.NotFrozen, libvirt.libvirtError):
            return False

    def preflight(self) -> int | None:
        """Find out, before anything is frozen, whether the agent is alive.

        A connected channel proves nothing, so the agent is asked something
        harmless. ``guest-get-fsinfo`` is not allowed in a frozen guest, which
        tells that state apart, too.

        :returns: how many filesystems the guest has mounted; None where the
            agent answered and would not tell
        :raises NotFrozen: the agent cannot be used, and why
        """
        self.listed = self._list_filesystems()
        for mountpoint in self.mountpoints:
            # The agent takes one that it does not know, and freezes nothing.
            if mountpoint not in {one.mountpoint
                                  for one in self.listed or ()}:
                raise errors.UnknownMountpoint(mountpoint)
        return None if self.listed is None else len(self.listed)

    def _list_filesystems(self) -> filesystems.Listing:
        try:
            return filesystems.parse(self._commands.send(
                self._timeouts.ask, lambda domain: domain.fsInfo()))
        except replies.Failure as failure:
            if failure.is_undecodable:
                # Of libvirt's binding: the guest's text is no text.
                LOG.debug('A guest agent lists filesystems with names that '
                          'cannot be read')
                return None
            if failure.reply is not replies.Reply.ANSWERED_NO:
                raise self._explain_dead(failure) from failure
            if failure.is_forbidden():
                self._refuse_frozen(failure)
            # It answered, so it is alive: some distributions forbid commands.
            LOG.debug('A guest agent does not list its filesystems: %s',
                      failure)
        return None

    def _refuse_frozen(self, failure: replies.Failure) -> None:
        # One that refuses all and does not say why may allow the freeze alone;
        # if it is frozen, it refuses that as well, and nothing is thawed.
        try:
            if self._find_whether_frozen(is_limit_kept=False):
                raise errors.AlreadyFrozen() from failure
        except (errors.GuestGone, errors.ThawFailed) as error:
            raise errors.AgentUnresponsive(self._timeouts.ask) from error

    def freeze(self) -> int:
        """Freeze the guest's filesystems.

        :returns: the agent's count of the filesystems frozen, at least 1
        :raises NotFrozen: the freeze did not reach the guest, or its agent
            refused it and shows that it is not frozen
        :raises MaybeFrozen: it may have, or did and not all that was to be
            frozen; the caller has to thaw
        """
        try:
            count = self._commands.send(
                self._timeouts.freeze,
                lambda domain: domain.fsFreeze(list(self.mountpoints) or None))
        except replies.Failure as failure:
            raise self._explain_freeze(failure) from failure
        if not _is_count(count) or count == 0:
            raise errors.NothingFrozen()
        if self._is_strict:
            self._refuse_shortfall(count)
        return count

    def _refuse_shortfall(self, count: int) -> None:
        shortfall = filesystems.Tally(
            self.listed, self.mountpoints, count).shortfall()
        if shortfall:
            raise errors.TooFewFrozen(shortfall, count)

    def thaw(self) -> int:
        """Thaw all filesystems of the guest.

        :returns: the agent's count of the filesystems thawed
        :raises GuestGone: the domain no longer exists, or was shut off
        :raises ThawNotSent: the thaw did not reach the guest
        :raises ThawRefused: the agent answered with an error; it may have
            thawed, and run its hooks after that
        :raises ThawFailed: nothing is known of it
        """
        try:
            count = self._commands.send(
                self._timeouts.thaw, lambda domain: domain.fsThaw(),
                is_limit_kept=True)
        except replies.Failure as failure:
            self._commands.forget_domain()
            if self._commands.is_gone(failure):
                raise errors.GuestGone() from failure
            raise _explain_thaw(failure) from failure
        if not _is_count(count):
            raise errors.ThawFailed(
                'the guest agent answered the thaw with no count')
        return count

    def is_frozen(self) -> bool | None:
        """Tell whether the agent takes its guest for frozen.

        No hook of the guest runs for that.

        :returns: None where it refuses all that it is asked for, and does not
            say why
        :raises GuestGone: the domain no longer exists, or was shut off
        :raises ThawFailed: it did not answer
        """
        return self._find_whether_frozen(is_limit_kept=True)

    def _find_whether_frozen(self, is_limit_kept: bool) -> bool | None:
        return frozen_state.is_frozen(
            self._commands, self._timeouts.ask, is_limit_kept)

    def _explain_dead(self, failure: replies.Failure) -> errors.NotFrozen:
        if failure.reply is replies.Reply.NEVER_SENT:
            return _explain_never_sent(failure, self._timeouts.ask)
        return errors.AgentUnresponsive(self._timeouts.ask)

    def _explain_freeze(
            self, failure: replies.Failure) -> errors.QuiesceError:
        self._commands.forget_domain()
        if failure.reply is replies.Reply.NEVER_SENT:
            return _explain_never_sent(failure, self._timeouts.freeze)
        if failure.is_forbidden():
            return self._explain_forbidden(failure)
        if failure.reply is replies.Reply.ANSWERED_NO:
            return self._explain_refusal(failure)
        if failure.has_disappeared():
            return errors.AgentDisappeared()
        if failure.has_timed_out():
            return errors.FreezeTimedOut(self._timeouts.freeze)
        text = ('it is not known whether the guest agent froze the '
                'filesystems: %s' % failure)
        if failure.is_of_connection():
            return errors.FreezeLost(text)
        return errors.FreezeFailed(text)

    def _explain_forbidden(
            self, failure: replies.Failure) -> errors.NotFrozen:
        # Whatever it is now, this freeze was not carried out.
        try:
            if self._find_whether_frozen(is_limit_kept=False):
                return errors.AlreadyFrozen()
        except errors.QuiesceError as error:
            LOG.debug('A guest agent forbids a freeze: %s', error)
        return errors.FreezeForbidden(str(failure))

    def _explain_refusal(
            self, failure: replies.Failure) -> errors.QuiesceError:
        # An agent that fails half-way thaws what it froze. It has to show it.
        try:
            if self.is_frozen() is False:
                return errors.FreezeRefused(str(failure))
        except errors.QuiesceError as error:
            LOG.debug('A guest agent refused a freeze: %s', error)
        return errors.FreezeFailed(
            'the guest agent did not freeze the filesystems: %s' % failure)


def _explain_thaw(failure: replies.Failure) -> errors.ThawFailed:
    if failure.reply is replies.Reply.NEVER_SENT:
        return errors.ThawNotSent('the thaw was not sent: %s' % failure)
    if failure.reply is replies.Reply.ANSWERED_NO:
        return errors.ThawRefused(
            'the guest agent answered the thaw with an error: %s' % failure,
            failure.follows_thaw())
    return errors.ThawFailed('the thaw was not confirmed: %s' % failure)


def _explain_never_sent(failure: replies.Failure,
                        seconds: int) -> errors.NotFrozen:
    if failure.obstacle is not None:
        return failure.obstacle
    if failure.is_not_taken():
        return errors.AgentUnresponsive(min(seconds, replies.SYNCHRONIZATION))
    explanations: dict[int | None, type[errors.NotFrozen]] = {
        libvirt.VIR_ERR_NO_DOMAIN: errors.GuestGone,
        libvirt.VIR_ERR_OPERATION_INVALID: errors.GuestNotRunning,
        libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: errors.AgentNotConfigured,
        libvirt.VIR_ERR_OPERATION_TIMEOUT: errors.AgentBusy,
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE: errors.AgentNotConnected,
    }
    known = explanations.get(failure.code)
    if known is not None:
        return known()
    return errors.HypervisorUnreachable()


def _is_count(value: object) -> typing.TypeGuard[int]:
    return type(value) is int and 0 <= value <= filesystems.MAX_LISTED
