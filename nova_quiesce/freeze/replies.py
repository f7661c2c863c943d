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

"""The replies of a guest agent, told apart by what libvirt says of a call.

There are three answers and no more. A call that *was never sent* reached no
guest; one that was *answered no* did, and the agent itself says that it did
not do it; of any other it is *unknown*. Codes 1 and 86 each stand for several
causes, so the text has to tell them apart. One that is not known is unknown,
which costs a needless thaw and nothing else.

Sources: libvirt's ``qemu_agent.c`` and ``qemu_driver.c``, up to 12, and QEMU's
``qga/main.c``, 1.6 to 11; those of libvirt 9.0 with agent 7.2, and of 11.3
with 10.0, were measured.
"""

import enum

import libvirt

from nova_quiesce.freeze import errors
from nova_quiesce.freeze import texts

#: libvirt answers these before it asks the guest.
_NEVER_SENT = frozenset({
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_OPERATION_DENIED,
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    # Another call to the same agent does not end.
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
})
# Since libvirt 11.2, of each command after one that was not answered; before
# that, the text is that of a command that was sent.
_NOT_TAKEN = "guest agent didn't respond to synchronization"
_BEFORE_SENDING = (
    'agent is not connected', 'agent is not available due to an error',
    _NOT_TAKEN)
#: Seconds that libvirt waits for that at most, if the command may take longer.
SYNCHRONIZATION = 5
_ANSWERED_NO = 'unable to execute QEMU agent command'
#: Since libvirt 11.2: VIR_ERR_AGENT_COMMAND_TIMEOUT, and ..._FAILED.
_COMMAND_TIMEOUT, _COMMAND_FAILED = 112, 113
_DISAPPEARED = 'agent disappeared while executing command'
_FROZEN_STATE = 'agent is in frozen state'
# What is blocked, or not there. Only agents 6.0 to 9.0 tell it apart from what
# is not allowed while frozen, and of a command that is blocked, they go on to
# say so after the thaw.
_FORBIDDEN = ('has been disabled', 'has not been found')
_AFTER_THAW = ('hook', 'child', "couldn't hold writes",
               'the command is not allowed')


class Reply(enum.Enum):
    """The knowledge of a call to an agent that failed."""

    NEVER_SENT = 'never sent'
    ANSWERED_NO = 'answered no'
    UNKNOWN = 'unknown'


class Failure(Exception):
    """A call to an agent failed.

    It keeps a short text of the error that the call ended with, and not the
    error: Nova logs, sends and stores all errors that led to one, and the
    guest may have chosen that one's text, of any size.

    :param reply: what is known of it
    :param error: how it failed
    :ivar code: the code that libvirt gave it; None where it is not libvirt's
    :ivar obstacle: what kept it from being sent, where that is known by now
    :ivar is_undecodable: whether the agent answered, and what it said is no
        text
    """

    def __init__(self, reply: Reply, error: Exception) -> None:
        self._is_libvirts = isinstance(error, libvirt.libvirtError)
        # Another one is of this host, and not for tenants.
        text, self.code = 'what it answered cannot be read', None
        if isinstance(error, libvirt.libvirtError):
            text, self.code = text_of(error), error.get_error_code()
        super().__init__(text)
        self.reply = reply
        self.obstacle = error if isinstance(error, errors.NotFrozen) else None
        self.is_undecodable = isinstance(error, UnicodeDecodeError)

    def has_timed_out(self) -> bool:
        """Tell whether the agent did not answer in time."""
        return self.code in (
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE, _COMMAND_TIMEOUT)

    def is_not_taken(self) -> bool:
        """Tell whether the agent still does what it was sent before."""
        return self.reply is Reply.NEVER_SENT and _says(self, _NOT_TAKEN)

    def follows_thaw(self) -> bool:
        """Tell whether an agent answers a thaw so only once it is not frozen.

        It calls its hook after the thaw, Windows lets go before it, and an
        agent since 9.1 allows a thaw while it is frozen, whatever is blocked.
        """
        return self.reply is Reply.ANSWERED_NO and any(
            _says(self, text) for text in _AFTER_THAW)

    def is_of_connection(self) -> bool:
        """Tell whether the connection to the hypervisor broke meanwhile."""
        return (self.reply is Reply.UNKNOWN and not self.has_timed_out() and
                self._is_libvirts)

    def has_disappeared(self) -> bool:
        """Tell whether the agent ended while it carried out the command."""
        return _says(self, _DISAPPEARED)

    def is_of_frozen_state(self) -> bool:
        """Tell whether the agent says that it is frozen."""
        return self.is_forbidden() and _says(self, _FROZEN_STATE)

    def is_forbidden(self) -> bool:
        """Tell whether the agent forbids the command, now or at all."""
        return self.reply is Reply.ANSWERED_NO and any(
            _says(self, text) for text in _FORBIDDEN)


def reply_of(error: Exception) -> Reply:
    """Classify a call that ended with an error.

    :param error: any, because its text may have been chosen in a guest
    """
    if not isinstance(error, libvirt.libvirtError):
        return Reply.UNKNOWN
    code, text = error.get_error_code(), text_of(error)
    if code in _NEVER_SENT:
        return Reply.NEVER_SENT
    if code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE and any(
            one in text for one in _BEFORE_SENDING):
        return Reply.NEVER_SENT
    if code == _COMMAND_FAILED or (
            code == libvirt.VIR_ERR_INTERNAL_ERROR and _ANSWERED_NO in text):
        return Reply.ANSWERED_NO
    return Reply.UNKNOWN


def text_of(error: libvirt.libvirtError) -> str:
    """Return the text of a libvirt error, safe to log and to show to a tenant.

    :param error: an error whose text may have been chosen inside a guest
    :returns: one short line
    """
    return texts.printable(str(error.get_error_message() or error))


def _says(failure: Failure, text: str) -> bool:
    return text in str(failure)
