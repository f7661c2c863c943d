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

"""A fake guest with an agent, and faults to inject into it.

Public, for the tests of others. Its behaviour, the error codes and their
texts were all seen on a real guest first: libvirt 9.0 with QEMU 7.2, and,
where they differ, 11.3 with 10.0.
"""

from collections import abc
import typing

import libvirt

from nova_quiesce import fixture_jobs
from nova_quiesce import fixture_replies

_BLOCK = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK


libvirt_error = fixture_jobs.libvirt_error


OLDER, NEWER = fixture_replies.OLDER, fixture_replies.NEWER


def agent_refusal(command: str, text: str,
                  replies: fixture_replies.Replies = OLDER
                  ) -> libvirt.libvirtError:
    """An error that an agent itself answered, as libvirt passes it on.

    :param command: the agent's name of the command
    :param text: what it said
    :param replies: whose words it is in
    """
    return replies.refusal(command, text)


def hook_failure(command: str, replies: fixture_replies.Replies = OLDER
                 ) -> libvirt.libvirtError:
    """An error for a hook of the guest that failed.

    :param command: ``freeze``, which has frozen nothing then, or ``thaw``,
        which has thawed
    :param replies: whose words it is in
    """
    return replies.refusal('guest-fsfreeze-%s' % command, replies.hook_failed)


class FakeDomain(fixture_jobs.FakeJobs):
    """A ``virDomain`` with a guest agent.

    :ivar replies: how libvirt and the agent say what went wrong
    :ivar filesystems: how many it has, all ext4
    :ivar unfrozen: what it lists besides, as libvirt does, and no freeze
        reaches: its type cannot be frozen, say, or somebody else froze it
    :ivar frozen: whether the guest is frozen now
    :ivar calls: the agent commands sent to the guest, in order
    :ivar limits: the response timeout in force at each of them, in seconds
    :ivar errors: raised, in order, by the calls they are filed under; None
        stands for a call that works
    :ivar after: called once the guest did what the call that they are filed
        under asks for, and before that call answers; what they raise, it
        raises
    :ivar timeout: the response timeout in force, in seconds
    :ivar forbidden: the agent commands that its configuration blocks
    :ivar running_because: the reason that libvirt tells for its running
    :ivar ignoring: whether the guest does not react to its power button
    :ivar shutoff: the reason that libvirt tells for the domain being shut
        off; None where it is not
    """

    def __init__(self, filesystems: int = 2) -> None:
        super().__init__()
        self.replies = OLDER
        self.filesystems = filesystems
        self.unfrozen: list[tuple[str, str, str, list[str]]] = []
        self.number = 1
        self.frozen = False
        self.configured = True
        self.connected = True
        self.running = True
        self.defined = True
        self.hanging = False
        self.saved = False
        self.ignoring = False
        self.shutoff: int | None = None
        self.list_answer: object = None
        self.thaw_answer: object = None
        self.freeze_answer: object = None
        self.calls: list[str] = []
        self.limits: list[int] = []
        self.errors: dict[str, list[BaseException | None]] = {}
        self.after: dict[str, abc.Callable[[], None]] = {}
        self.timeout = _BLOCK
        self.stuck = False
        self.forbidden: set[str] = set()
        self.running_because = libvirt.VIR_DOMAIN_RUNNING_BOOTED
        self._late_freeze = False
        self._has_answered = True
        self._counted = 0

    def isActive(self) -> int:
        """Return 1 unless the domain is shut off, or suspended to disk."""
        if not self.defined:
            raise self._no_domain()
        return 0 if self.saved or self.shutoff is not None else 1

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        """Return 1 if the domain is suspended to disk."""
        if not self.defined:
            raise self._no_domain()
        return 1 if self.saved else 0

    def save(self) -> None:
        """Suspend the domain to disk, frozen or not."""
        self.saved = True

    def create(self) -> int:
        """Start the domain again, as it was suspended."""
        if self.saved:
            self.running_because = libvirt.VIR_DOMAIN_RUNNING_RESTORED
        self.saved = False
        self.number += 1
        return 0

    def ID(self) -> int:
        """Tell which start of the domain this is."""
        if not self.defined:
            raise self._no_domain()
        return -1 if self.saved else self.number

    def agentSetResponseTimeout(self, timeout: int, flags: int = 0) -> int:
        """Limit the agent calls that follow."""
        self.timeout = timeout
        return 0

    def fsInfo(self, flags: int = 0) -> object:
        """List the filesystems."""
        self._reach('fsInfo')
        self._allow_only_in_thawed_guest('guest-get-fsinfo')
        self._finish('fsInfo')
        if self.list_answer is not None:
            return self.list_answer
        return [*(('/fs%d' % number, 'vda%d' % number, 'ext4', ['vda'])
                  for number in range(self.filesystems)), *self.unfrozen]

    def getTime(self, flags: int = 0) -> object:
        """Tell the guest's time."""
        self._reach('getTime')
        self._allow_only_in_thawed_guest('guest-get-time')
        self._finish('getTime')
        return {'seconds': 0, 'nseconds': 0}

    def interfaceAddresses(self, source: int, flags: int = 0) -> object:
        """Tell the guest's addresses."""
        self._reach('interfaceAddresses')
        self._allow_only_in_thawed_guest('guest-network-get-interfaces')
        self._finish('interfaceAddresses')
        return {}

    def fsFreeze(self, mountpoints: list[str] | None = None) -> int:
        """Freeze; with :attr:`hanging` set, only :meth:`land` freezes."""
        if self.hanging and self._takes_commands():
            self._late_freeze = True
        self._reach('fsFreeze')
        self._allow_only_in_thawed_guest('guest-fsfreeze-freeze')
        count = len([number for number in range(self.filesystems)
                     if not mountpoints or '/fs%d' % number in mountpoints])
        self.frozen = count > 0
        self._counted = count
        self._finish('fsFreeze')
        return self._answer(self.freeze_answer, count)

    def fsThaw(self) -> int:
        """Thaw."""
        self._reach('fsThaw')
        self._forbid('guest-fsfreeze-thaw')
        count = (self._counted or self.filesystems) if self.frozen else 0
        self.frozen = False
        self._finish('fsThaw')
        return self._answer(self.thaw_answer, count)

    def land(self) -> None:
        """Stop hanging; a freeze that timed out before takes effect now."""
        # An agent answers in turn: no thaw overtakes the freeze.
        if self._late_freeze:
            self.frozen = True
        self.hanging = False

    def connect(self) -> typing.Self:
        """Return the connection that it was found over: itself."""
        return self

    def lookupByUUIDString(self, uuidstr: str) -> typing.Self:
        """Find the domain, over its connection: itself."""
        return self

    def name(self) -> str:
        """Return libvirt's name of the domain."""
        return 'instance-00000001'

    def XMLDesc(self, flags: int = 0) -> str:
        """Describe the domain, which has no devices."""
        return "<domain type='kvm'><devices/></domain>"

    def state(self, flags: int = 0) -> list[int]:
        """Tell what the domain does, and why.

        It is paused after a failed write where :attr:`stuck` is set.
        """
        if not self.defined:
            raise self._no_domain()
        if self.shutoff is not None:
            return [libvirt.VIR_DOMAIN_SHUTOFF, self.shutoff]
        if self.saved:
            return [libvirt.VIR_DOMAIN_SHUTOFF,
                    libvirt.VIR_DOMAIN_SHUTOFF_SAVED]
        if self.stuck:
            return [libvirt.VIR_DOMAIN_PAUSED,
                    libvirt.VIR_DOMAIN_PAUSED_IOERROR]
        return [libvirt.VIR_DOMAIN_RUNNING, self.running_because]

    def resume(self) -> int:
        """Let a paused domain go on."""
        self.stuck = False
        return 0

    def _reach(self, name: str) -> None:
        self.calls.append(name)
        self.limits.append(self.timeout)
        assert self.timeout != _BLOCK, 'an agent call without a time limit'
        if not self.defined:
            raise self._no_domain()
        if not self.running or self.saved:
            raise libvirt_error(
                libvirt.VIR_ERR_OPERATION_INVALID,
                'Requested operation is not valid: domain is not running')
        if not self.configured:
            raise libvirt_error(
                libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
                'argument unsupported: QEMU guest agent is not configured')
        if not self.connected:
            raise libvirt_error(
                libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
                'Guest agent is not responding: QEMU guest agent is not '
                'connected')
        if self.hanging:
            is_taken, self._has_answered = self._has_answered, False
            raise self.replies.no_answer(self.timeout, is_taken)
        self._has_answered = True
        planned = self.errors.get(name)
        error = planned.pop(0) if planned else None
        if error is not None:
            try:
                raise error
            finally:
                # As libvirt's own, it is kept by no frame that it keeps.
                del error

    def _takes_commands(self) -> bool:
        # Newer ones send none after one that was not answered.
        return self._has_answered or self.replies.not_taken is None

    def _finish(self, name: str) -> None:
        if name in self.after:
            self.after[name]()

    def _forbid(self, command: str) -> None:
        if command in self.forbidden:
            raise self.replies.is_blocked(command)

    def _allow_only_in_thawed_guest(self, command: str) -> None:
        self._forbid(command)
        if self.frozen:
            raise self.replies.is_frozen(command)

    def _no_domain(self) -> libvirt.libvirtError:
        return libvirt_error(libvirt.VIR_ERR_NO_DOMAIN,
                             'Domain not found: no domain with matching uuid')

    @staticmethod
    def _answer(planned: object, usual: int) -> int:
        # What a fault answers is any object: that is what it tests.
        return usual if planned is None else planned  # type: ignore
