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
ever.
"""

from collections import abc
import logging
import weakref

import libvirt

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import replies

LOG = logging.getLogger(__name__)


class ResponseLimit:
    """The time limit of one guest's agent, as this process sets it.

    :param machine: whose locks are used
    """

    def __init__(self, machine: machines.Machine = machines.REAL) -> None:
        self._lock = machine.lock()
        self._calls = 0
        self._is_shared: abc.Callable[[], bool] = lambda: False

    def share(self, is_shared: abc.Callable[[], bool]) -> None:
        """Have it stay while another process may call the agent, too.

        :param is_shared: tells whether one may
        """
        self._is_shared = is_shared

    def begin(self, domain: domains.Domain, seconds: int) -> None:
        """Set it for a call, which is made next.

        :param domain: the guest's
        :param seconds: that the agent may take
        :raises libvirtError: it cannot be set, and no call is to be made
        """
        with self._lock:
            domain.agentSetResponseTimeout(seconds, 0)
            self._calls += 1

    def end(self, domain: domains.Domain, is_kept: bool) -> None:
        """Put it back after the call, unless another may be under way.

        :param domain: the guest's
        :param is_kept: whether it stays in any case, for the next try
        """
        with self._lock:
            self._calls -= 1
            if not (is_kept or self._calls or self._is_shared()):
                _put_back(domain)


class ResponseLimits:
    """The time limits of the agents that this process uses at the moment.

    :param machine: whose locks are used
    """

    def __init__(self, machine: machines.Machine) -> None:
        self._machine = machine
        self._lock = machine.lock()
        self._limits: weakref.WeakValueDictionary[str, ResponseLimit] = (
            weakref.WeakValueDictionary())

    def of(self, instance_uuid: str) -> ResponseLimit:
        """Return the one of an instance, which all that use it share.

        :param instance_uuid: whose
        """
        with self._lock:
            return self._limits.setdefault(
                instance_uuid, ResponseLimit(self._machine))


def _put_back(domain: domains.Domain) -> None:
    try:
        domain.agentSetResponseTimeout(
            libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
    except libvirt.libvirtError as error:
        LOG.debug('The response timeout of a guest agent was not restored: '
                  '%s', replies.text_of(error))
