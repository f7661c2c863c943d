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

"""What can keep a guest from being frozen and thawed, cause by cause.

These classes stay inside this package: an error that crosses Nova's RPC has
to be one of Nova's own, or nova-api answers 500 instead of 409 (it allows
only its own modules). :mod:`nova_quiesce.driver` translates.
"""


class QuiesceError(Exception):
    """A guest could not be quiesced; the text says why and what to do."""


class NotFrozen(QuiesceError):
    """The freeze never reached the guest: nothing has to be thawed."""


class MaybeFrozen(QuiesceError):
    """The freeze may have reached the guest, or may reach it yet."""


class NotRequested(NotFrozen):
    """The policy asks for no quiesce; the text says why."""


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


class GivenUp(NotFrozen):
    """nova-api does not wait for the freeze any more."""

    def __init__(self) -> None:
        super().__init__(
            'the request gave up before the filesystems were frozen; try '
            'again')


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
    """The freeze was sent and answered with an error."""


class NothingFrozen(MaybeFrozen):
    """The agent answered the freeze and counted no filesystem."""

    def __init__(self) -> None:
        super().__init__(
            'the guest agent froze no filesystem; see that the instance has '
            'mounted filesystems that can be frozen')


class TooFewFrozen(MaybeFrozen):
    """The freeze left out a filesystem, and all of them are required."""


class ThawFailed(QuiesceError):
    """The thaw was not confirmed."""


class JobUnderWay(QuiesceError):
    """A job that libvirt does for others is in the way of the cut."""

    def __init__(self, job: str) -> None:
        super().__init__(
            "%s is under way on this instance's disk; try again when it has "
            'ended' % job)


class JobLeftBehind(QuiesceError):
    """A job of an earlier snapshot is in the way, and does not end."""

    def __init__(self) -> None:
        super().__init__(
            'a backup job that an earlier snapshot of this instance left '
            'behind does not end; try again, or ask the operator, whose log '
            'tells why')


class CopyFailed(QuiesceError):
    """The cut was made, and could not be copied into an image."""

    def __init__(self) -> None:
        super().__init__(
            "the instance's disk was not copied into an image; try again, or "
            'ask the operator, whose log tells why')
