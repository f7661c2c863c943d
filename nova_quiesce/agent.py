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

"""The guest agent: the only module that sends it commands.

It knows libvirt and nothing of Nova. What an agent answers comes from a
tenant's guest and is treated so: bounded in time by libvirt's response
timeout, in size and type by this module.
"""

from collections import abc
import contextlib
import dataclasses
import logging
import typing

import libvirt

from nova_quiesce import exception
from nova_quiesce import filesystems
from nova_quiesce import texts

LOG = logging.getLogger(__name__)

#: The most filesystems that are believed to be counted.
MAX_FILESYSTEMS = filesystems.MAX_LISTED

#: What can be shown of a text that a guest, or a program, chose.
printable = texts.printable

# libvirt gives one code to several causes, so the text has to tell them
# apart. Measured on libvirt 9.0; a text that is not known counts as "maybe
# frozen", which costs a needless thaw and nothing else.
_NOT_CONNECTED = 'agent is not connected'
_DISAPPEARED = 'agent disappeared while executing command'
_FROZEN_STATE = 'agent is in frozen state'


class Domain(typing.Protocol):
    """What this module calls of a libvirt ``virDomain``."""

    def agentSetResponseTimeout(self, timeout: int, flags: int = ...) -> int:
        """Limit each later agent call, in seconds."""

    def fsInfo(self, flags: int = ...) -> object:
        """List the guest's mounted filesystems."""

    def fsFreeze(self, mountpoints: list[str] | None = ...) -> int:
        """Freeze filesystems, or all; the count of those frozen."""

    def fsThaw(self) -> int:
        """Thaw all filesystems; the count of those thawed."""

    def isActive(self) -> int:
        """Whether the domain runs or is paused: 1, or 0."""

    def ID(self) -> int:
        """Which start of the domain this is; -1 where it does not run."""

    def hasManagedSaveImage(self, flags: int = ...) -> int:
        """Whether the domain was suspended to disk: 1, or 0."""


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """How long an agent may take to answer, in seconds."""

    ask: int
    freeze: int
    thaw: int


class Agent:
    """The agent of one guest.

    :param lookup: finds the guest's domain; called anew after a failure,
        because a handle does not survive a restart of libvirtd. It raises
        :class:`nova_quiesce.exception.GuestGone` where there is none.
    :param timeouts: how long each kind of call may take
    :param mountpoints: of the filesystems to freeze; empty for all
    :param is_strict: whether a freeze that is known to leave out a
        filesystem counts as failed
    :ivar listed: the filesystems that the guest had at the preflight; None
        where the agent would not tell
    """

    def __init__(self, lookup: abc.Callable[[], Domain],
                 timeouts: Timeouts, mountpoints: tuple[str, ...] = (),
                 is_strict: bool = False) -> None:
        self.mountpoints = mountpoints
        self.listed: filesystems.Listing = None
        self._is_strict = is_strict
        self._lookup = lookup
        self._timeouts = timeouts
        self._domain: Domain | None = None

    def domain_id(self) -> int:
        """Which start of the domain this is, by libvirt's count.

        :raises GuestGone: there is none, or it does not run
        """
        if self._domain is None:
            self._domain = self._lookup()
        try:
            number = self._domain.ID()
        except libvirt.libvirtError as error:
            raise exception.GuestGone() from error
        if number < 0:
            raise exception.GuestGone()
        return number

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
                raise exception.UnknownMountpoint(mountpoint)
        return None if self.listed is None else len(self.listed)

    def _list_filesystems(self) -> filesystems.Listing:
        try:
            with self._limited(self._timeouts.ask) as domain:
                return filesystems.parse(domain.fsInfo())
        except libvirt.libvirtError as error:
            self._refuse_dead(error)
        except UnicodeDecodeError:
            # Of libvirt's binding: the guest's text is no text.
            LOG.debug('A guest agent lists filesystems with names that '
                      'cannot be read')
        return None

    def freeze(self) -> int:
        """Freeze the guest's filesystems.

        :returns: the agent's count of the filesystems frozen, at least 1
        :raises NotFrozen: the freeze did not reach the guest
        :raises MaybeFrozen: it may have, or did and not all that was to be
            frozen; the caller has to thaw
        """
        try:
            with self._limited(self._timeouts.freeze) as domain:
                count = domain.fsFreeze(list(self.mountpoints) or None)
        except libvirt.libvirtError as error:
            raise self._explain_freeze(error) from error
        if not _is_count(count) or count == 0:
            raise exception.NothingFrozen()
        if self._is_strict:
            self._refuse_shortfall(count)
        return count

    def _refuse_shortfall(self, count: int) -> None:
        shortfall = filesystems.Tally(
            self.listed, self.mountpoints, count).shortfall()
        if shortfall:
            raise exception.TooFewFrozen(shortfall)

    def thaw(self) -> int:
        """Thaw all filesystems of the guest.

        :returns: the agent's count of the filesystems thawed
        :raises GuestGone: the domain no longer exists, or was shut off
        :raises ThawFailed: the thaw was not confirmed
        """
        try:
            with self._limited(self._timeouts.thaw, is_kept=True) as domain:
                count = domain.fsThaw()
        except libvirt.libvirtError as error:
            self._domain = None
            if self._is_gone(error):
                raise exception.GuestGone() from error
            raise exception.ThawFailed(
                'the thaw was not confirmed: %s' % text_of(error)) from error
        if not _is_count(count):
            raise exception.ThawFailed(
                'the guest agent answered the thaw with no count')
        return count

    @contextlib.contextmanager
    def _limited(self, seconds: int,
                 is_kept: bool = False) -> abc.Iterator[Domain]:
        # The timeout belongs to the domain and covers each client's calls to
        # its agent, so it is set for one call and then put back to libvirt's
        # default. It cannot be read. Where a thaw failed, it is kept for the
        # next try: this service and its guard may both be at it, and one
        # must not take the limit off the other's call.
        if self._domain is None:
            self._domain = self._lookup()
        domain = self._domain
        domain.agentSetResponseTimeout(seconds, 0)
        is_done = False
        try:
            yield domain
            is_done = True
        finally:
            if is_done or not is_kept:
                _unlimit(domain)

    def _refuse_dead(self, error: libvirt.libvirtError) -> None:
        known = _never_sent(error)
        if known is not None:
            raise known from error
        if error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
            raise exception.AgentUnresponsive(
                self._timeouts.ask) from error
        if _FROZEN_STATE in text_of(error):
            raise exception.AlreadyFrozen() from error
        # It answered, so it is alive: some distributions forbid commands.
        LOG.debug('A guest agent does not list its filesystems: %s',
                  text_of(error))

    def _explain_freeze(
            self, error: libvirt.libvirtError) -> exception.QuiesceError:
        self._domain = None
        known = _never_sent(error)
        if known is not None:
            return known
        if _DISAPPEARED in text_of(error):
            return exception.AgentDisappeared()
        if error.get_error_code() in _timeout_codes():
            return exception.FreezeTimedOut(self._timeouts.freeze)
        return exception.FreezeFailed(
            'the guest agent did not freeze the filesystems: %s'
            % text_of(error))

    def _is_gone(self, error: libvirt.libvirtError) -> bool:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return True
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            return False
        # A guest that was suspended to disk frozen comes back frozen.
        domain = self._lookup()
        return not domain.isActive() and not domain.hasManagedSaveImage()


def _unlimit(domain: Domain) -> None:
    try:
        domain.agentSetResponseTimeout(
            libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
    except libvirt.libvirtError as error:
        LOG.debug('The response timeout of a guest agent was not restored: '
                  '%s', text_of(error))


def text_of(error: libvirt.libvirtError) -> str:
    """The text of a libvirt error, safe to log and to show to a tenant.

    :param error: an error whose text may have been chosen inside a guest
    :returns: one short line
    """
    return printable(str(error.get_error_message() or error))


def _never_sent(
        error: libvirt.libvirtError) -> exception.NotFrozen | None:
    """The causes in which libvirt answers without asking the guest."""
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return exception.GuestGone()
    if code == libvirt.VIR_ERR_OPERATION_INVALID:
        return exception.GuestNotRunning()
    if code == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED:
        return exception.AgentNotConfigured()
    unresponsive = code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    if unresponsive and _NOT_CONNECTED in text_of(error):
        return exception.AgentNotConnected()
    return None


def _timeout_codes() -> set[int]:
    codes = {libvirt.VIR_ERR_AGENT_UNRESPONSIVE}
    # Newer than the oldest libvirt-python that this works with.
    newer = getattr(libvirt, 'VIR_ERR_AGENT_COMMAND_TIMEOUT', None)
    return codes if newer is None else codes | {newer}


def _is_count(value: object) -> typing.TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_FILESYSTEMS
