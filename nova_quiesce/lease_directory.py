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
import fcntl
import json
import os
import stat
import typing

from nova_quiesce import lease as leases

VERSION = 1
#: The largest file that can be a lease, in bytes.
MAX_SIZE = 64 * 1024

_SUFFIX = '.lease'
# Only whoever holds the directory's lock writes, so one name is enough, and
# what a killed writer left is replaced by the next.
_NEW = '.new'


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
        self.path = os.path.abspath(path)

    def prepare(self) -> None:
        """Make the directory, or see that what is there is safe to use.

        :raises LeaseError: it is not, or it cannot be made
        """
        try:
            try:
                os.mkdir(self.path, 0o700)
            except FileExistsError:
                self._check(os.lstat(self.path))
                os.chmod(self.path, 0o700)
        except OSError as error:
            raise self._failed('made', error) from error

    def acquire(self, lease: leases.Lease) -> None:
        """Take the lease of an instance.

        :raises LeaseHeld: somebody has it
        :raises LeaseError: it cannot be written
        """
        name = lease.instance_uuid + _SUFFIX
        with self._open(to_change=True) as directory, _new_file(
                directory, lease) as file:
            try:
                # Unlike a rename, this never replaces another's lease.
                os.link(_NEW, name, src_dir_fd=directory,
                        dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                raise leases.LeaseHeld(_owners(directory, name)) from None
            finally:
                os.unlink(_NEW, dir_fd=directory)
            # Last, so that a journalling filesystem writes all of it at once.
            # What a crash of the host tears, it makes stale as well.
            os.fsync(file)
            os.fsync(directory)

    def update(self, instance_uuid: str,
               change: abc.Callable[[leases.Lease], leases.Lease]
               ) -> leases.Lease:
        """Change a lease, its owners or its deadline.

        :param change: makes the new lease of the old one, at once
        :returns: the new one
        :raises LeaseError: there is no such lease (any more), or it cannot
            be read or written
        """
        name = _name(instance_uuid)
        with self._open(to_change=True) as directory:
            old = _read(directory, name)
            if old is None:
                raise leases.LeaseError('there is no lease of instance %s'
                                        % instance_uuid)
            new = change(old)
            with _new_file(directory, new) as file:
                os.rename(_NEW, name,
                          src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(file)
                os.fsync(directory)
            return new

    def release(self, instance_uuid: str,
                only: leases.Lease | None = None) -> bool:
        """Give a lease back.

        :param only: leave the file alone if it is not this lease, but a
            later one of the same instance
        :returns: whether there was one to give back
        :raises LeaseError: it cannot be removed
        """
        name = _name(instance_uuid)
        with self._open(to_change=True) as directory:
            if only is not None:
                found = _read(directory, name)
                if found is None or not only.is_same(found):
                    return False
            try:
                os.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                return False
            os.fsync(directory)
            return True

    def read(self, instance_uuid: str) -> leases.Lease | None:
        """Look up the lease of an instance.

        :returns: None where nobody holds it
        :raises LeaseError: what is there cannot be read
        """
        with self._open() as directory:
            return _read(directory, _name(instance_uuid))

    def read_all(self) -> tuple[list[leases.Lease], list[Problem]]:
        """Find all leases, and all that should not be among them.

        :raises LeaseError: the directory itself cannot be read
        """
        found: list[leases.Lease] = []
        problems: list[Problem] = []
        with self._open() as directory:
            for name in sorted(os.listdir(directory)):
                if name == _NEW:
                    continue
                try:
                    lease = _read(directory, name)
                except (leases.LeaseError, OSError) as error:
                    problems.append(_problem(name, error))
                else:
                    found.extend([lease] if lease else [])
        return found, problems

    @contextlib.contextmanager
    def _open(self, to_change: bool = False) -> abc.Iterator[int]:
        try:
            directory = os.open(
                self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if to_change:
                    fcntl.flock(directory, fcntl.LOCK_EX)
                yield directory
            finally:
                os.close(directory)
        except OSError as error:
            raise self._failed('used', error) from error

    def _check(self, status: os.stat_result) -> None:
        wrong = None
        if not stat.S_ISDIR(status.st_mode):
            wrong = 'it is a symbolic link or no directory'
        elif status.st_uid != os.geteuid():
            wrong = 'it belongs to user id %d' % status.st_uid
        elif status.st_mode & 0o022:
            wrong = 'others can write to it (mode %04o)' % stat.S_IMODE(
                status.st_mode)
        if wrong:
            raise leases.LeaseError(
                'the lease directory %s is not safe to use: %s'
                % (self.path, wrong))

    def _failed(self, what: str, error: OSError) -> leases.LeaseError:
        return leases.LeaseError('the lease directory %s cannot be %s: %s'
                                 % (self.path, what, error))


@contextlib.contextmanager
def _new_file(directory: int, lease: leases.Lease) -> abc.Iterator[int]:
    content = json.dumps({'version': VERSION} | lease.to_dict()) + '\n'
    try:
        os.unlink(_NEW, dir_fd=directory)
    except FileNotFoundError:
        pass
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(_NEW, flags, 0o600, dir_fd=directory), 'wb') as file:
        file.write(content.encode('ascii'))
        file.flush()
        yield file.fileno()


def _read(directory: int, name: str) -> leases.Lease | None:
    instance_uuid = _uuid_in(name)
    if instance_uuid is None:
        raise leases.InvalidLease('not named like a lease')
    try:
        # Without O_NONBLOCK, a fifo would keep this waiting.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise leases.InvalidLease(
            'cannot be opened: %s' % error.strerror) from error
    try:
        lease = _parse(_content(file))
    finally:
        os.close(file)
    if lease.instance_uuid != instance_uuid:
        raise leases.InvalidLease('holds the lease of another instance')
    return lease


def _content(file: int) -> bytes:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise leases.InvalidLease('not a regular file')
    if status.st_uid != os.geteuid():
        raise leases.InvalidLease('belongs to user id %d' % status.st_uid)
    content = os.read(file, MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise leases.InvalidLease('larger than %d bytes' % MAX_SIZE)
    return content


def _parse(content: bytes) -> leases.Lease:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise leases.InvalidLease('torn, or no JSON') from error
    if not isinstance(fields, dict) or fields.pop('version', 0) != VERSION:
        raise leases.InvalidLease('of a version that is not known')
    return leases.Lease.from_dict(fields)


def _owners(directory: int, name: str) -> tuple[str, ...]:
    try:
        holder = _read(directory, name)
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
