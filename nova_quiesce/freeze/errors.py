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

"""The causes that keep a guest from being frozen and thawed.

Each text says what happened, and what its reader can do about it.
"""


class QuiesceError(Exception):
    """A guest could not be quiesced; the text says why and what to do."""


class NotFrozen(QuiesceError):
    """The guest was not frozen by this: nothing has to be thawed."""


class MaybeFrozen(QuiesceError):
    """The freeze may have reached the guest, or may reach it yet."""


class AgentNotConfigured(NotFrozen):
    """The domain has no guest agent channel."""

    def __init__(self) -> None:
        super().__init__(
            'the instance has no guest agent channel; stop it, have the '
            'operator set hw_qemu_guest_agent=yes on the instance (its image '
            'is not read again), and start it')


class AgentNotConnected(NotFrozen):
    """No guest agent holds the other end of the channel."""

    def __init__(self) -> None:
        super().__init__(
            'the guest agent is not connected; install and start '
            'qemu-guest-agent inside the instance')


class AgentUnresponsive(NotFrozen):
    """The guest agent is there and did not answer a harmless question."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            'the guest agent did not answer within %d s; restart '
            'qemu-guest-agent inside the instance' % seconds)


class GuestNotRunning(NotFrozen):
    """The guest's processors stand still, so its agent cannot answer."""

    def __init__(self) -> None:
        super().__init__(
            'the guest is paused or not running; resume it first, or start '
            'it')


class GuestRestarted(NotFrozen):
    """The guest began anew while its freeze was prepared."""

    def __init__(self) -> None:
        super().__init__(
            'the instance was restarted just before it was to be frozen; try '
            'again')


class GuestGone(NotFrozen):
    """The domain no longer exists."""

    def __init__(self) -> None:
        super().__init__(
            'the instance no longer exists on this host, or is shut off; try '
            'again once it runs')


class HypervisorUnreachable(NotFrozen):
    """There is no connection to the hypervisor, so nothing was sent."""

    def __init__(self) -> None:
        super().__init__(
            'this compute host does not reach its hypervisor; try again, or '
            'ask its operator')


class AlreadyFrozen(NotFrozen):
    """Somebody else froze the guest before anything was sent to it."""

    def __init__(self) -> None:
        super().__init__(
            'the guest agent says that the filesystems are frozen already, by '
            'something other than this snapshot; try again when that is done, '
            'or ask the operator what it is')


class UnknownMountpoint(NotFrozen):
    """The guest has no filesystem where its image says."""

    def __init__(self, mountpoint: str) -> None:
        super().__init__(
            'the guest agent lists no filesystem that is mounted at %s; mount '
            'it, or remove os_quiesce_mountpoints from the image'
            % mountpoint)


class WindowBusy(NotFrozen):
    """Another request of the same instance holds the freeze window."""

    def __init__(self, owner: str) -> None:
        super().__init__(
            'another snapshot of this instance (request %s) is in its '
            'freeze window; try again when it is done' % owner)


class ServiceStops(NotFrozen):
    """nova-compute ends, and thaws whatever is frozen."""

    def __init__(self) -> None:
        super().__init__(
            'nova-compute is being stopped; try again when it runs')


class FreezeTimedOut(MaybeFrozen):
    """The freeze was sent and not answered in time; it can still land."""

    def __init__(self, seconds: int) -> None:
        super().__init__(
            'the filesystems were not frozen within %d s; look for a hanging '
            'fsfreeze hook or filesystem inside the instance' % seconds)


class AgentDisappeared(MaybeFrozen):
    """The guest agent ended, or was restarted, with the freeze under way."""

    def __init__(self) -> None:
        super().__init__(
            'the guest agent disappeared while it froze the filesystems; look '
            'inside the instance why qemu-guest-agent ended')


class FreezeFailed(MaybeFrozen):
    """The freeze was sent, and it is not known what came of it."""


class FreezeLost(MaybeFrozen):
    """The connection broke: libvirt may send the freeze yet."""


class NothingFrozen(MaybeFrozen):
    """The agent answered the freeze and counted no filesystem.

    :ivar frozen: how many it counted
    """

    frozen = 0

    def __init__(self) -> None:
        super().__init__(
            'the guest agent froze no filesystem; see that the instance has '
            'mounted filesystems that can be frozen')


class TooFewFrozen(MaybeFrozen):
    """The freeze left out a filesystem, and all of them are required.

    :ivar frozen: how many filesystems the agent counted
    """

    def __init__(self, shortfall: str, frozen: int) -> None:
        super().__init__(shortfall)
        self.frozen = frozen


class ThawFailed(QuiesceError):
    """The thaw was not confirmed."""


class AgentBusy(NotFrozen):
    """Another call to the guest agent does not end."""

    def __init__(self) -> None:
        super().__init__(
            'another command of the guest agent does not end; restart '
            'qemu-guest-agent inside the instance')


class FreezeForbidden(NotFrozen):
    """The guest agent does not freeze filesystems."""

    def __init__(self, told: str) -> None:
        super().__init__(
            'the guest agent does not freeze filesystems; allow its '
            'guest-fsfreeze commands inside the instance: %s' % told)


class FreezeRefused(NotFrozen):
    """The agent answered the freeze with an error, and is not frozen."""

    def __init__(self, told: str) -> None:
        super().__init__(
            'the guest agent did not freeze the filesystems: %s' % told)


class Barred(NotFrozen):
    """An operation that takes the guest away is under way."""

    def __init__(self, operation: str) -> None:
        super().__init__(
            'the instance %s; try again when that is done' % operation)


class ThawNotSent(ThawFailed):
    """The thaw never reached the guest."""


class ThawRefused(ThawFailed):
    """The agent answered the thaw with an error: it may have thawed.

    :ivar has_thawed: whether it had by then, where its text is known
    """

    def __init__(self, text: str, has_thawed: bool = False) -> None:
        super().__init__(text)
        self.has_thawed = has_thawed


class NoThread(NotFrozen):
    """This process has too many threads to keep a deadline."""

    def __init__(self) -> None:
        super().__init__(
            'this compute host is too busy to freeze the guest; try again '
            'later, or ask its operator')


def explain(error: BaseException) -> str:
    """Return the text of an error, with that of its cause for an operator."""
    cause = error.__cause__
    if cause is None or str(cause) in str(error):
        return str(error)
    return '%s (%s)' % (error, cause)
