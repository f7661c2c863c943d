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

"""The questions that show whether a guest is frozen.

A frozen agent refuses whatever is not harmless to a frozen guest. So it is
asked for such things, and one that it does proves that it is not frozen. No
hook of the guest runs for that.
"""

from collections import abc

import libvirt

from nova_quiesce.freeze import agent_commands
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import replies

_Question = abc.Callable[[domains.Domain], object]

_QUESTIONS: tuple[_Question, ...] = (
    lambda domain: domain.getTime(),
    lambda domain: domain.fsInfo(),
    lambda domain: domain.interfaceAddresses(
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT))


def is_frozen(commands: agent_commands.AgentCommands, seconds: int,
              is_limit_kept: bool) -> bool | None:
    """Tell whether an agent takes its guest for frozen.

    :param commands: to the agent
    :param seconds: that it may take to answer one question
    :param is_limit_kept: whether its time limit stays where a question fails
    :returns: None where it refuses all that it is asked for, and does not say
        why
    :raises GuestGone: the domain no longer exists, or was shut off
    :raises ThawFailed: it did not answer
    """
    refusals = []
    for question in _QUESTIONS:
        refusal = _find_refusal(commands, seconds, question, is_limit_kept)
        if refusal is None:
            return False
        refusals.append(refusal)
    return True if any(
        refusal.is_of_frozen_state() for refusal in refusals) else None


def _find_refusal(commands: agent_commands.AgentCommands, seconds: int,
                  question: _Question,
                  is_limit_kept: bool) -> replies.Failure | None:
    try:
        commands.send(seconds, question, is_limit_kept)
    except replies.Failure as failure:
        if failure.is_undecodable:
            return None
        if failure.reply is replies.Reply.ANSWERED_NO:
            # What fails otherwise was tried.
            return failure if failure.is_forbidden() else None
        commands.forget_domain()
        if commands.is_gone(failure):
            raise errors.GuestGone() from failure
        raise errors.ThawFailed(
            'the guest agent does not tell whether it is frozen: %s'
            % failure) from failure
    return None
