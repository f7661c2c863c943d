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
start share the files.

The files themselves are the business of
:mod:`nova_quiesce.freeze.lease_directory`.
"""

import dataclasses
import typing
import uuid

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import machines

# Together they fit into one message and one file, also if JSON escapes each
# character.
_MAX_OWNERS = 16
_MAX_TEXT = 255
# In seconds: 30 years of uptime. It keeps a wrong number out of a timer.
_MAX_DEADLINE = 1e9

# What a lease of the version before is identified by stands in for its id.
_NAMESPACE = uuid.UUID('6f2f3d0e-3f0b-4f7e-9d55-5a3c1c9d0f3e')


class LeaseError(errors.QuiesceError):
    """A lease, or the directory of them, cannot be used; the text says why."""


class InvalidLease(LeaseError):
    """A lease, or the file that should hold it, is none."""


class LeaseHeld(errors.NotFrozen):
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
    :ivar created: when it began, in UTC, for people
    :ivar boot_id: which boot of the host the deadline counts in
    :ivar domain_id: which boot of the guest may be frozen: libvirt's ``ID()``
    :ivar is_saved: whether the guest is suspended to disk for what it is
        frozen for, so that the freeze outlives that boot
    :ivar id: its own, a UUID: the next lease of the same instance has another
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
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

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
            'id': is_uuid(self.id),
        }
        wrong = [name for name, is_valid in valid.items() if not is_valid]
        if wrong:
            raise InvalidLease('not a lease: wrong %s' % ', '.join(wrong))

    @classmethod
    def new(cls, machine: machines.Machine, instance_uuid: str, owner: str,
            purpose: str, seconds: float, domain_id: int,
            is_saved: bool = False) -> 'Lease':
        """Make a lease that begins now.

        :param machine: whose clocks count
        :param seconds: how long it lasts
        """
        return cls(
            instance_uuid=instance_uuid, owners=(owner,), purpose=purpose,
            deadline=machine.monotonic() + seconds,
            created=machine.now().isoformat(timespec='microseconds'),
            boot_id=machine.boot_id(), domain_id=domain_id,
            is_saved=is_saved)

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

    @classmethod
    def from_first_version(cls, fields: dict[str, typing.Any]) -> 'Lease':
        """Read a lease that has no id yet.

        :param fields: those of its file
        :raises InvalidLease: it is no lease
        """
        # Only what is valid can be made an id of.
        lease = cls.from_dict(fields | {'id': str(_NAMESPACE)})
        identity = '/'.join(str(one) for one in (
            lease.instance_uuid, lease.created, lease.boot_id,
            lease.domain_id))
        return dataclasses.replace(
            lease, id=str(uuid.uuid5(_NAMESPACE, identity)))

    def to_dict(self) -> dict[str, typing.Any]:
        """Return the lease in types that JSON has."""
        return dataclasses.asdict(self)

    def is_same(self, other: 'Lease') -> bool:
        """Tell whether both are one lease, whatever was updated in between."""
        return self.id == other.id


def stale_reason(lease: Lease, boot_id: str,
                 presence: domains.Presence) -> str | None:
    """Tell why a lease can no longer stand for a frozen guest.

    What was suspended to disk frozen comes back frozen, under another id, and
    also after a reboot of the host.

    :param boot_id: the host's boot now
    :param presence: where the guest is now
    :returns: None where the guest may still be frozen
    """
    if presence.is_saved:
        return None
    if presence.domain_id is None:
        return 'the guest does not run on this host any more'
    if not presence.is_new:
        return None
    if lease.boot_id != boot_id:
        return 'the host was restarted since'
    if lease.domain_id != presence.domain_id:
        return 'the guest was restarted since'
    return None


def is_uuid(value: object) -> bool:
    """Tell whether this is a UUID in its usual form, safe as a file's name."""
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
