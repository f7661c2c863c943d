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
import typing

import libvirt

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import replies
from nova_quiesce.freeze import response_limits

_Answer = typing.TypeVar('_Answer')


class AgentCommands:
    """The commands that are sent to the agent of one guest.

    :param lookup: finds the guest's domain
    :param limit: the time limit of its agent
    """

    def __init__(self, lookup: domains.Lookup,
                 limit: response_limits.ResponseLimit) -> None:
        self._lookup = lookup
        self._limit = limit
        self._domain: domains.Domain | None = None

    def send(self, seconds: int,
             command: abc.Callable[[domains.Domain], _Answer],
             is_limit_kept: bool = False) -> _Answer:
        """Send the agent a command.

        :param seconds: that the agent may take
        :param command: sends it
        :param is_limit_kept: whether the time limit stays where it fails: a
            guest that is not thawed yet is tried again
        :raises Failure: it did
        """
        domain = self._prepare(seconds)
        try:
            answer = command(domain)
        except Exception as error:
            failure = replies.Failure(replies.reply_of(error), error)
        except BaseException:
            self._limit.end(domain, is_limit_kept)
            raise
        else:
            self._limit.end(domain, is_kept=False)
            return answer
        self._limit.end(domain, is_limit_kept)
        # Not where the error is at hand, which would be kept with this one.
        try:
            raise failure
        finally:
            # It keeps this frame, and so the connection. Were it kept here as
            # well, both would stay until Python looks for such circles.
            del failure

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
            self._limit.begin(self._domain, seconds)
        except (errors.NotFrozen, libvirt.libvirtError) as error:
            self._domain = None
            raise replies.Failure(replies.Reply.NEVER_SENT, error) from error
        return self._domain
