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
import enum

import libvirt

from nova_quiesce.freeze import agent_commands
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import replies


class _Shown(enum.Enum):
    """What the answer to one question shows of the guest."""

    IS_NOT = 'it is not frozen'
    IS_FROZEN = 'it is frozen'
    NOTHING = 'the question is not allowed, for whatever reason'


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
    shown = set()
    for question in _QUESTIONS:
        one = _ask(commands, seconds, question, is_limit_kept)
        if one is _Shown.IS_NOT:
            return False
        shown.add(one)
    return True if _Shown.IS_FROZEN in shown else None


def _ask(commands: agent_commands.AgentCommands, seconds: int,
         question: _Question, is_limit_kept: bool) -> _Shown:
    # No failure leaves this: whoever keeps one keeps a connection with it.
    try:
        commands.send(seconds, question, is_limit_kept)
    except replies.Failure as failure:
        if failure.is_undecodable:
            return _Shown.IS_NOT
        if failure.reply is replies.Reply.ANSWERED_NO:
            if not failure.is_forbidden():
                # What fails otherwise was tried.
                return _Shown.IS_NOT
            return (_Shown.IS_FROZEN if failure.is_of_frozen_state()
                    else _Shown.NOTHING)
        commands.forget_domain()
        if commands.is_gone(failure):
            raise errors.GuestGone() from failure
        raise errors.ThawFailed(
            'the guest agent does not tell whether it is frozen: %s'
            % failure) from failure
    return _Shown.IS_NOT
