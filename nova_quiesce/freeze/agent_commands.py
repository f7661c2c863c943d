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

"""Commands to one guest's agent, each with a time limit."""

from collections import abc
import logging
import typing

import libvirt

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import replies

LOG = logging.getLogger(__name__)

_Answer = typing.TypeVar('_Answer')


class AgentCommands:
    """The commands that are sent to the agent of one guest.

    :param lookup: finds the guest's domain
    """

    def __init__(self, lookup: domains.Lookup) -> None:
        self._lookup = lookup
        self._domain: domains.Domain | None = None

    def send(self, seconds: int,
             command: abc.Callable[[domains.Domain], _Answer],
             is_limit_kept: bool = False) -> _Answer:
        """Send the agent a command.

        The timeout belongs to the domain and covers each client's calls to
        its agent, so it is set for one call and then put back to libvirt's
        default. It cannot be read. Where a guest is not thawed yet, it is
        kept for the next try: this service and its guard may both be at it,
        and one must not take the limit off the other's call.

        :param seconds: that the agent may take
        :param command: sends it
        :param is_limit_kept: whether the timeout stays where it fails
        :raises Failure: it did
        """
        domain = self._prepare(seconds)
        try:
            answer = command(domain)
        except Exception as error:
            failure = replies.Failure(replies.reply_of(error), error)
        except BaseException:
            if not is_limit_kept:
                _unlimit(domain)
            raise
        else:
            _unlimit(domain)
            return answer
        # Not where the error is at hand, which would be kept with this one.
        if not is_limit_kept:
            _unlimit(domain)
        raise failure

    def forget_domain(self) -> None:
        """Have the domain found anew for the next command."""
        self._domain = None

    def is_gone(self, failure: replies.Failure) -> bool:
        """Tell whether a command failed because there is no guest any more.

        :param failure: the command's
        """
        if isinstance(failure.obstacle, errors.GuestGone):
            return True
        if failure.code == libvirt.VIR_ERR_NO_DOMAIN:
            return True
        if failure.code != libvirt.VIR_ERR_OPERATION_INVALID:
            return False
        # A guest that was suspended to disk frozen comes back frozen.
        try:
            presence = domains.presence_of(self._lookup)
        except errors.HypervisorUnreachable:
            return False
        return presence.domain_id is None and not presence.is_saved

    def _prepare(self, seconds: int) -> domains.Domain:
        try:
            if self._domain is None:
                self._domain = self._lookup()
            self._domain.agentSetResponseTimeout(seconds, 0)
        except (errors.NotFrozen, libvirt.libvirtError) as error:
            self._domain = None
            raise replies.Failure(replies.Reply.NEVER_SENT, error) from error
        return self._domain


def _unlimit(domain: domains.Domain) -> None:
    try:
        domain.agentSetResponseTimeout(
            libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
    except libvirt.libvirtError as error:
        LOG.debug('The response timeout of a guest agent was not restored: '
                  '%s', replies.text_of(error))
