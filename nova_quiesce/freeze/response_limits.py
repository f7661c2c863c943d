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

"""The time limit of a guest agent's answers, of which its domain has one.

libvirt counts a command's time from when it is that command's turn, with the
limit that the domain has then: whichever client set it last, and whichever
waits. So it is set for one call and put back to libvirt's default, which is
none, but never while another call may wait: its guest could keep that one for
ever. What stays for another process, nova-compute puts back once that cannot
be calling any more.
"""

import logging
import math
import typing
import weakref

import libvirt

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import replies

LOG = logging.getLogger(__name__)

#: Seconds that libvirt lets a command wait for its turn.
_TURN = 30
#: Seconds between two looks whether it is still shared, at least.
_PAUSE = 1.0


class OtherCaller(typing.Protocol):
    """Another process, which may call the same agent."""

    def latest_call(self) -> float | None:
        """Return when it may have begun its latest call.

        :returns: by this machine's monotonic clock, now at the latest; None
            where it cannot have begun one
        """


class ResponseLimit:
    """The time limit of one guest's agent, as this process sets it.

    :param machine: whose clocks, locks and threads are used
    :param is_put_back_later: whether this process puts it back where it had
        to stay for another one; only one of them may
    """

    def __init__(self, machine: machines.Machine = machines.REAL,
                 is_put_back_later: bool = False) -> None:
        self._machine = machine
        self._is_put_back_later = is_put_back_later
        self._is_waited = False
        self._lock = machine.lock()
        self._calls = 0
        self._longest = 0
        # Of what others share: never held while libvirt is asked something.
        self._sharing = machine.lock()
        self._others: weakref.WeakSet[OtherCaller] = weakref.WeakSet()
        #: When one of them may have begun its latest call.
        self._latest_call = -math.inf

    def share(self, other: OtherCaller) -> None:
        """Have it stay while another process may call the agent, too.

        :param other: tells of one that may; it is not kept from ending
        """
        with self._sharing:
            self._others.add(other)

    def is_shared(self) -> bool:
        """Tell whether a call of another process may be under way."""
        return self._machine.monotonic() < self._shared_until()

    def _shared_until(self) -> float:
        # It is remembered, because whoever tells of it may end first.
        with self._sharing:
            self._latest_call = max([self._latest_call, *(
                moment for moment in (
                    one.latest_call() for one in self._others)
                if moment is not None)])
            return self._latest_call + _TURN + self._longest

    def begin(self, domain: domains.Domain, seconds: int) -> None:
        """Set it for a call, which is made next.

        :param domain: the guest's
        :param seconds: that the agent may take
        :raises libvirtError: it cannot be set, and no call is to be made
        """
        with self._lock:
            domain.agentSetResponseTimeout(seconds, 0)
            self._calls += 1
            self._longest = max(self._longest, seconds)

    def end(self, domain: domains.Domain, is_kept: bool) -> None:
        """Put it back after the call, unless another may be under way.

        :param domain: the guest's
        :param is_kept: whether it stays in any case, for the next try
        """
        with self._lock:
            self._calls -= 1
            if is_kept or self._calls:
                return
            if not self.is_shared():
                _put_back(domain)
            elif self._is_put_back_later and not self._is_waited:
                self._wait(domain)

    def _wait(self, domain: domains.Domain) -> None:
        try:
            self._machine.start('agent-limit', self._put_back_later, domain)
            self._is_waited = True
        except RuntimeError as error:
            LOG.debug('The response timeout of a guest agent stays until it '
                      'is asked for something: %s', error)

    def _put_back_later(self, domain: domains.Domain) -> None:
        while not self._is_put_back(domain):
            self._machine.sleep(max(
                _PAUSE, self._shared_until() - self._machine.monotonic()))

    def _is_put_back(self, domain: domains.Domain) -> bool:
        with self._lock:
            if self.is_shared():
                return False
            self._is_waited = False
            # A call that is under way does it as it ends.
            if not self._calls:
                _put_back(domain)
            return True


class ResponseLimits:
    """The time limits of the agents that this process uses at the moment.

    :param machine: whose clocks and locks are used
    """

    def __init__(self, machine: machines.Machine) -> None:
        self._machine = machine
        self._lock = machine.lock()
        #: Those that somebody else may need, though nobody uses them here.
        self._kept: list[ResponseLimit] = []
        self._limits: weakref.WeakValueDictionary[str, ResponseLimit] = (
            weakref.WeakValueDictionary())

    def of(self, instance_uuid: str) -> ResponseLimit:
        """Return the one of an instance, which all that use it share.

        :param instance_uuid: whose
        """
        with self._lock:
            found = self._limits.setdefault(
                instance_uuid,
                ResponseLimit(self._machine, is_put_back_later=True))
            self._kept = [one for one in self._kept
                          if one is not found and one.is_shared()] + [found]
            return found


def _put_back(domain: domains.Domain) -> None:
    try:
        domain.agentSetResponseTimeout(
            libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
    except libvirt.libvirtError as error:
        LOG.debug('The response timeout of a guest agent was not restored: '
                  '%s', replies.text_of(error))
