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

"""The words of libvirt and agents that say no, for the fake guest.

Each was seen on a real guest first: :data:`OLDER` with libvirt 9.0 and agent
7.2, as in Debian 12, and :data:`NEWER` with libvirt 11.3 and agent 10.0, as in
Debian 13.
"""

import dataclasses

import libvirt

from nova_quiesce import fixture_jobs

#: Seconds that libvirt waits at most until an agent takes a command.
_SYNCHRONIZATION = 5


@dataclasses.dataclass(frozen=True)
class Replies:
    """The errors of commands that an agent did not carry out.

    :ivar refused: libvirt's code and text of what the agent answered no to
    :ivar unanswered: those of a command that it did not answer in time
    :ivar not_taken: those of the commands after that, which are not sent;
        None where they are told of like the first
    :ivar lost: those of a command during which the agent ended
    :ivar hook_failed: the agent's text of a hook that exits with 1
    :ivar frozen: what it adds for a command that no frozen guest carries out
    :ivar blocked: what it adds for one that its configuration blocks
    """

    refused: tuple[int, str]
    unanswered: tuple[int, str]
    not_taken: tuple[int, str] | None
    lost: tuple[int, str]
    hook_failed: str
    frozen: str
    blocked: str

    def refusal(self, command: str, text: str) -> libvirt.libvirtError:
        """An error that an agent itself answered, as libvirt passes it on.

        :param command: the agent's name of the command
        :param text: what it said
        """
        code, says = self.refused
        return fixture_jobs.libvirt_error(
            code, "%s: unable to execute QEMU agent command '%s': %s"
            % (says, command, text))

    def is_blocked(self, command: str) -> libvirt.libvirtError:
        """The error of a command that the agent's configuration blocks."""
        return self._disabled(command, self.blocked)

    def is_frozen(self, command: str) -> libvirt.libvirtError:
        """The error of a command that no frozen guest carries out."""
        return self._disabled(command, self.frozen)

    def no_answer(self, seconds: int,
                  is_taken: bool = True) -> libvirt.libvirtError:
        """The error of a command to an agent that hangs.

        :param seconds: that it may take
        :param is_taken: whether it has answered the command before this one
        """
        if is_taken or self.not_taken is None:
            code, says = self.unanswered
        else:
            code, says = self.not_taken
            seconds = min(seconds, _SYNCHRONIZATION)
        return fixture_jobs.libvirt_error(code, says.format(seconds))

    def disappearance(self) -> libvirt.libvirtError:
        """The error of a command during which the agent ended."""
        return fixture_jobs.libvirt_error(*self.lost)

    def _disabled(self, command: str, why: str) -> libvirt.libvirtError:
        return self.refusal(
            command, 'Command %s has been disabled%s' % (command, why))


_UNRESPONSIVE = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
                 'Guest agent is not responding: %s')
#: VIR_ERR_AGENT_COMMAND_TIMEOUT and _FAILED, for which older headers have no
#: names.
_TIMEOUT = (112, 'guest agent command timed out: %s')
_FAILED = (113, 'guest agent command failed')
_DISAPPEARED = 'Guest agent disappeared while executing command'


def _saying(error: tuple[int, str], text: str) -> tuple[int, str]:
    code, says = error
    return code, says % text


OLDER = Replies(
    refused=(libvirt.VIR_ERR_INTERNAL_ERROR, 'internal error'),
    unanswered=_saying(_UNRESPONSIVE, 'Guest agent not available for now'),
    not_taken=None,
    lost=_saying(_UNRESPONSIVE, _DISAPPEARED),
    hook_failed='fsfreeze hook has failed with status 1',
    frozen=': the agent is in frozen state',
    blocked='')
NEWER = Replies(
    refused=_FAILED,
    unanswered=_saying(_TIMEOUT, "guest agent didn't respond to command "
                       "within '{}' seconds"),
    not_taken=_saying(_UNRESPONSIVE, "guest agent didn't respond to "
                      "synchronization within '{}' seconds"),
    lost=_saying(_TIMEOUT, _DISAPPEARED),
    hook_failed='child process has failed to execute fsfreeze hook: exit '
                'status 1',
    # It says the same of both.
    frozen=': the command is not allowed',
    blocked=': the command is not allowed')
