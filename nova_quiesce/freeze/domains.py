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

"""A guest's libvirt domain, and its presence on this host.

:class:`Connection` and :class:`Domain` name everything that this project calls
of libvirt's objects. There is no other such list.
"""

from collections import abc
import dataclasses
import typing

import libvirt

from nova_quiesce.freeze import errors

#: How a domain runs that began anew, and goes on with nothing.
_ANEW = [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED]


class Connection(typing.Protocol):
    """The part of a libvirt ``virConnect`` that this project calls."""

    def close(self) -> int:
        """Let go of the connection."""

    def getCapabilities(self) -> str:
        """Describe the host."""

    def getDomainCapabilities(
            self, emulatorbin: str | None, arch: str | None,
            machine: str | None, virttype: str | None,
            flags: int = ...) -> str:
        """Describe what domains of a kind can do."""

    def isAlive(self) -> int:
        """Tell whether it can still be used: 1, or 0."""

    def lookupByUUIDString(self, uuidstr: str) -> 'Domain':
        """Find a domain."""


class Domain(typing.Protocol):
    """The part of a libvirt ``virDomain`` that this project calls."""

    def ID(self) -> int:
        """Tell which start of the domain this is; -1 if it does not run."""

    def XMLDesc(self, flags: int = ...) -> str:
        """Describe the domain."""

    def abortJob(self) -> int:
        """End the job that is active."""

    def agentSetResponseTimeout(self, timeout: int, flags: int = ...) -> int:
        """Limit each later agent call, in seconds."""

    def backupBegin(self, backupXML: str, checkpointXML: str | None,
                    flags: int = ...) -> int:
        """Begin a backup job."""

    def backupGetXMLDesc(self, flags: int = ...) -> str:
        """Describe the backup job that is active."""

    def blockInfo(self, path: str, flags: int = ...) -> list[int]:
        """Tell a disk's size, and how much of it is allocated, in bytes."""

    def blockJobInfo(self, disk: str,
                     flags: int = ...) -> dict[str, typing.Any]:
        """Describe the job of a disk; an empty answer if there is none."""

    def connect(self) -> Connection:
        """Return the connection that the domain was found over."""

    def create(self) -> int:
        """Start the domain, from where it was suspended."""

    def fsFreeze(self, mountpoints: list[str] | None = ...) -> int:
        """Freeze filesystems, or all; return the count of those frozen."""

    def fsInfo(self, flags: int = ...) -> object:
        """List the guest's mounted filesystems."""

    def fsThaw(self) -> int:
        """Thaw all filesystems; return the count of those thawed."""

    def getTime(self, flags: int = ...) -> object:
        """Tell the guest's time."""

    def hasManagedSaveImage(self, flags: int = ...) -> int:
        """Tell whether the domain was suspended to disk: 1, or 0."""

    def interfaceAddresses(self, source: int, flags: int = ...) -> object:
        """Tell the guest's addresses, as a source knows them."""

    def isActive(self) -> int:
        """Tell whether the domain runs or is paused: 1, or 0."""

    def jobStats(self, flags: int = ...) -> dict[str, typing.Any]:
        """Describe the job of the domain."""

    def name(self) -> str:
        """Return libvirt's name of the domain."""

    def resume(self) -> int:
        """Let a paused domain go on."""

    def state(self, flags: int = ...) -> list[int]:
        """Tell what the domain does, and why."""


#: Finds a guest's domain, anew at each call, because a handle does not
#: survive a restart of libvirtd, and tells an old ID. Raises ``GuestGone``
#: where there is none, and ``HypervisorUnreachable``.
Lookup = abc.Callable[[], Domain]


@dataclasses.dataclass(frozen=True)
class Presence:
    """The whereabouts of a guest, as its hypervisor tells them.

    :ivar domain_id: which start of the domain this is; None where it does
        not run on this host
    :ivar is_saved: whether it is suspended to disk
    :ivar is_new: whether that start is known to go on with no guest that ran
        before: it was not restored, for one
    """

    domain_id: int | None
    is_saved: bool = False
    is_new: bool = False


def presence_of(lookup: Lookup) -> Presence:
    """Find out where a guest is now.

    :param lookup: finds its domain
    :raises HypervisorUnreachable: that cannot be told
    """
    try:
        # What is restored between the two questions of one look is neither;
        # the second look finds it.
        return _look(lookup) or _look(lookup) or Presence(None)
    except errors.GuestGone:
        return Presence(None)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Presence(None)
        raise errors.HypervisorUnreachable() from error


def _look(lookup: Lookup) -> Presence | None:
    domain = lookup()
    number = domain.ID()
    if number >= 0:
        return Presence(number, is_new=domain.state()[:2] == _ANEW)
    if domain.hasManagedSaveImage():
        return Presence(None, is_saved=True)
    return None
