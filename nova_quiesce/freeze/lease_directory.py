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

"""The directory of leases: one file each, written durably.

A directory belongs to one nova-compute and to the processes it starts. What
else is found in it is reported and left alone.
"""

from collections import abc
import contextlib
import json
import typing

from nova_quiesce.freeze import files
from nova_quiesce.freeze import leases

#: Of the files. Those of the version before have no id, and are understood.
VERSION = 2
_FIRST_VERSION = 1

_SUFFIX = '.lease'
#: Beside the leases: what their requests owe.
DUTIES = 'duties'
#: And which guests shut themselves down.
SHUTDOWNS = 'shutdowns'


class Problem(typing.NamedTuple):
    """Something in the directory that is no lease."""

    #: The file's name, safe to log.
    name: str
    reason: str
    #: Whose lease it should have been, where the name tells: that guest may
    #: be frozen.
    instance_uuid: str | None


class LeaseDirectory:
    """The leases of one nova-compute, one file each.

    Safe to use from several threads and processes at once: each change is
    made under a lock on the directory and is on the disk when it returns.

    :param path: the directory; :meth:`prepare` makes it
    """

    def __init__(self, path: str) -> None:
        self._files = files.Directory(path)
        self.path = self._files.path

    def prepare(self) -> None:
        """Make the directory, or see that what is there is safe to use.

        :raises LeaseError: it is not, or it cannot be made
        """
        with self._explained('made'):
            self._files.prepare()

    def acquire(self, lease: leases.Lease) -> None:
        """Take the lease of an instance.

        :raises LeaseHeld: somebody has it
        :raises LeaseError: it cannot be written
        """
        name = lease.instance_uuid + _SUFFIX
        with self._changing() as opened:
            try:
                opened.create(name, _content_of(lease))
            except FileExistsError:
                raise leases.LeaseHeld(_owners(opened, name)) from None

    def release(self, lease: leases.Lease) -> bool:
        """Give a lease back, and no later one of the same instance.

        :returns: whether there was one to give back
        :raises LeaseError: it cannot be removed
        """
        name = _name(lease.instance_uuid)
        with self._changing() as opened:
            found = _read(opened, name)
            if found is None or not lease.is_same(found):
                return False
            return opened.remove(name)

    def discard(self, instance_uuid: str) -> bool:
        """Remove what stands in a lease's place and cannot be read.

        :returns: whether there was such a file
        :raises LeaseError: it cannot be removed
        """
        name = _name(instance_uuid)
        with self._changing() as opened:
            try:
                _read(opened, name)
            except leases.InvalidLease:
                return opened.remove(name)
            return False

    def read(self, instance_uuid: str) -> leases.Lease | None:
        """Look up the lease of an instance.

        :returns: None where nobody holds it
        :raises LeaseError: what is there cannot be read
        """
        with self._reading() as opened:
            return _read(opened, _name(instance_uuid))

    def is_another(self, lease: leases.Lease) -> bool:
        """Tell whether an instance has a later lease, of somebody else.

        That none is there proves nothing: whoever asks may see another
        directory, or one that was emptied.

        :param lease: the one before
        :returns: also False where that cannot be told
        """
        try:
            found = self.read(lease.instance_uuid)
        except leases.LeaseError:
            return False
        return found is not None and not lease.is_same(found)

    def read_all(self) -> tuple[list[leases.Lease], list[Problem]]:
        """Find all leases, and all that should not be among them.

        :raises LeaseError: the directory itself cannot be read
        """
        found: list[leases.Lease] = []
        problems: list[Problem] = []
        with self._reading() as opened:
            for name in opened.names():
                if name in (DUTIES, SHUTDOWNS):
                    continue
                try:
                    lease = _read(opened, name)
                except (leases.LeaseError, OSError) as error:
                    problems.append(_problem(name, error))
                else:
                    found.extend([lease] if lease else [])
        return found, problems

    @contextlib.contextmanager
    def _reading(self) -> abc.Iterator[files.Opened]:
        with self._explained('used'), self._files.reading() as opened:
            yield opened

    @contextlib.contextmanager
    def _changing(self) -> abc.Iterator[files.Opened]:
        with self._explained('used'), self._files.changing() as opened:
            yield opened

    @contextlib.contextmanager
    def _explained(self, what: str) -> abc.Iterator[None]:
        try:
            yield
        except files.Unsafe as error:
            raise leases.LeaseError(str(error)) from error
        except OSError as error:
            raise leases.LeaseError('the lease directory %s cannot be %s: %s'
                                    % (self.path, what, error)) from error


def _content_of(lease: leases.Lease) -> bytes:
    fields = {'version': VERSION} | lease.to_dict()
    return (json.dumps(fields) + '\n').encode('ascii')


def _read(opened: files.Opened, name: str) -> leases.Lease | None:
    instance_uuid = _uuid_in(name)
    if instance_uuid is None:
        raise leases.InvalidLease('not named like a lease')
    try:
        content = opened.read(name)
    except files.Unsafe as error:
        raise leases.InvalidLease(str(error)) from error
    if content is None:
        return None
    lease = _parse(content)
    if lease.instance_uuid != instance_uuid:
        raise leases.InvalidLease('holds the lease of another instance')
    return lease


def _parse(content: bytes) -> leases.Lease:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise leases.InvalidLease('torn, or no JSON') from error
    version = fields.pop('version', 0) if isinstance(fields, dict) else 0
    if version == _FIRST_VERSION:
        return leases.Lease.from_first_version(fields)
    if version != VERSION:
        raise leases.InvalidLease('of a version that is not known')
    return leases.Lease.from_dict(fields)


def _owners(opened: files.Opened, name: str) -> tuple[str, ...]:
    try:
        holder = _read(opened, name)
    except leases.LeaseError:
        return ()
    return holder.owners if holder else ()


def _problem(name: str, error: Exception) -> Problem:
    return Problem(ascii(name)[1:-1], str(error), _uuid_in(name))


def _name(instance_uuid: str) -> str:
    if not leases.is_uuid(instance_uuid):
        raise leases.InvalidLease(
            'not the UUID of an instance: %r' % instance_uuid)
    return instance_uuid + _SUFFIX


def _uuid_in(name: str) -> str | None:
    stem = name.removesuffix(_SUFFIX)
    return stem if stem != name and leases.is_uuid(stem) else None
