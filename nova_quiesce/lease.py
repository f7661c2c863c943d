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

"""Leases: the durable right to keep one guest frozen until a deadline.

A lease is written before the freeze is sent and removed after the thaw was
confirmed, so whoever finds one knows which guest may be frozen, for whom and
for how long. This package's driver, its guard process and the recovery at
start share the files. They need the standard library alone.

The files themselves are the business of
:mod:`nova_quiesce.lease_directory`.
"""

import dataclasses
import datetime
import time
import typing
import uuid

from nova_quiesce import exception

# Together they fit into one message and one file, also if JSON escapes each
# character.
_MAX_OWNERS = 16
_MAX_TEXT = 255
# In seconds: 30 years of uptime. It keeps a wrong number out of a timer.
_MAX_DEADLINE = 1e9

_BOOT_ID = '/proc/sys/kernel/random/boot_id'


class LeaseError(exception.QuiesceError):
    """A lease, or the directory of them, cannot be used; the text says why."""


class InvalidLease(LeaseError):
    """What should be a lease is none."""


class LeaseHeld(exception.NotFrozen):
    """Somebody else holds the lease of this instance.

    :ivar owners: the request ids of those who do; empty where the file that
        stands for the lease cannot be read
    """

    def __init__(self, owners: tuple[str, ...]) -> None:
        super().__init__(
            'another snapshot of this instance (request %s) is in its '
            'freeze window; try again when it is done'
            % (', '.join(owners) or 'unknown'))
        self.owners = owners


@dataclasses.dataclass(frozen=True)
class Lease:
    """The right to keep one guest frozen.

    :ivar instance_uuid: whose guest
    :ivar owners: ids of the requests that want it frozen, at least one
    :ivar purpose: what for, in a few words for people
    :ivar deadline: when it ends, in seconds of this boot's CLOCK_MONOTONIC
        (:func:`time.monotonic`)
    :ivar created: when it began, in UTC, for people; it also tells this
        lease from the next one of the same instance
    :ivar boot_id: which boot of the host the deadline counts in
    :ivar domain_id: which boot of the guest may be frozen: libvirt's ``ID()``
    :ivar is_saved: whether the guest is suspended to disk while it is frozen,
        so that the freeze outlives that boot
    :raises InvalidLease: a value is of another type or beyond its limits
    """

    instance_uuid: str
    owners: tuple[str, ...]
    purpose: str
    deadline: float
    created: str
    boot_id: str
    domain_id: int
    is_saved: bool = False

    def __post_init__(self) -> None:
        valid = {
            'instance_uuid': is_uuid(self.instance_uuid),
            'owners': _are_owners(self.owners),
            'purpose': _is_text(self.purpose),
            'deadline': _is_time(self.deadline),
            'created': _is_text(self.created),
            'boot_id': is_uuid(self.boot_id),
            'domain_id': type(self.domain_id) is int and self.domain_id >= 0,
            'is_saved': type(self.is_saved) is bool,
        }
        wrong = [name for name, is_valid in valid.items() if not is_valid]
        if wrong:
            raise InvalidLease('not a lease: wrong %s' % ', '.join(wrong))

    @classmethod
    def new(cls, instance_uuid: str, owner: str, purpose: str,
            seconds: float, domain_id: int,
            is_saved: bool = False) -> 'Lease':
        """A lease that begins now.

        :param seconds: how long it lasts
        """
        return cls(
            instance_uuid=instance_uuid, owners=(owner,), purpose=purpose,
            deadline=time.monotonic() + seconds,
            created=datetime.datetime.now(datetime.UTC).isoformat(
                timespec='microseconds'),
            boot_id=host_boot_id(), domain_id=domain_id, is_saved=is_saved)

    @classmethod
    def from_dict(cls, fields: object) -> 'Lease':
        """Read what :meth:`to_dict` made.

        :param fields: anything
        :raises InvalidLease: it is no lease
        """
        if not isinstance(fields, dict):
            raise InvalidLease('not a lease: no JSON object')
        if fields.keys() != {f.name for f in dataclasses.fields(cls)}:
            raise InvalidLease('not a lease: other fields')
        if isinstance(fields['owners'], list):
            fields = fields | {'owners': tuple(fields['owners'])}
        return cls(**fields)

    def to_dict(self) -> dict[str, typing.Any]:
        """The lease in types that JSON has."""
        return dataclasses.asdict(self)

    def is_same(self, other: 'Lease') -> bool:
        """Whether both are one lease, whatever was updated in between."""
        return self._identity() == other._identity()

    def with_owner(self, owner: str) -> 'Lease':
        """This lease with one more owner.

        :raises InvalidLease: these are too many
        """
        return dataclasses.replace(
            self, owners=(*self._others(owner), owner))

    def without_owner(self, owner: str) -> 'Lease':
        """This lease with one owner less.

        :raises InvalidLease: nobody is left, so release it instead
        """
        return dataclasses.replace(self, owners=self._others(owner))

    def _others(self, owner: str) -> tuple[str, ...]:
        return tuple(one for one in self.owners if one != owner)

    def _identity(self) -> tuple[str, str, str, int]:
        return (self.instance_uuid, self.created, self.boot_id,
                self.domain_id)


def stale_reason(lease: Lease, boot_id: str,
                 domain_id: int | None) -> str | None:
    """Why a lease can no longer stand for a frozen guest.

    :param boot_id: the host's boot now, see :func:`host_boot_id`
    :param domain_id: libvirt's ``ID()`` of the guest now; None or negative
        where it does not run on this host
    :returns: None where the guest may still be frozen
    """
    if lease.is_saved:
        # It comes back frozen, under another id, also after a reboot.
        return None
    if lease.boot_id != boot_id:
        return 'the host was restarted since'
    if domain_id is None or domain_id < 0:
        return 'the guest does not run on this host any more'
    if lease.domain_id != domain_id:
        return 'the guest was restarted since'
    return None


def host_boot_id() -> str:
    """Which boot of the host this is."""
    with open(_BOOT_ID, encoding='ascii') as file:
        return file.read().strip()


def is_uuid(value: object) -> bool:
    """Whether this is a UUID in its usual form, safe as a file's name."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _are_owners(value: object) -> bool:
    return (isinstance(value, tuple) and 0 < len(value) <= _MAX_OWNERS
            and all(_is_text(one) for one in value))


def _is_text(value: object) -> bool:
    return (isinstance(value, str) and 0 < len(value) <= _MAX_TEXT
            and value.isprintable())


def _is_time(value: object) -> bool:
    # A comparison is false for what is not a number, too.
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and 0 < value < _MAX_DEADLINE)
