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

"""A directory of small files, each written durably.

It belongs to one nova-compute and to the processes that it starts. What else
is found in it is left alone.
"""

from collections import abc
import contextlib
import fcntl
import os
import stat
import typing

MAX_SIZE = 64 * 1024
#: What a file is called until it is whole.
NEW = '.new'


class Unsafe(Exception):
    """The directory, or a file in it, is not to be trusted."""


class Directory:
    """A directory of files that nobody else may write to.

    Safe to use from several threads and processes at once: each change is
    made under a lock on the directory and is on the disk when it returns.

    :param path: the directory; :meth:`prepare` makes it
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def prepare(self) -> None:
        """Make the directory, or see that what is there is safe to use.

        :raises Unsafe: it is not
        :raises OSError: it cannot be made
        """
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            self._check(os.lstat(self.path))
            os.chmod(self.path, 0o700)

    @contextlib.contextmanager
    def reading(self) -> abc.Iterator['Opened']:
        """Open the directory for the length of the block.

        :raises OSError: it cannot be opened
        """
        directory = os.open(
            self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield Opened(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def changing(self) -> abc.Iterator['Opened']:
        """Open it likewise, with nobody else changing anything meanwhile."""
        with self.reading() as opened:
            fcntl.flock(opened.descriptor, fcntl.LOCK_EX)
            yield opened

    def _check(self, status: os.stat_result) -> None:
        wrong = why_unsafe(status, os.geteuid())
        if wrong:
            raise Unsafe('the directory %s is not safe to use: %s'
                         % (self.path, wrong))


def why_unsafe(status: os.stat_result, uid: int) -> str | None:
    """Tell why a directory is not safe for a user's files; None if it is.

    :param status: the directory's, of itself and not of what it links to
    :param uid: the user's
    """
    if not stat.S_ISDIR(status.st_mode):
        return 'it is a symbolic link or no directory'
    if status.st_uid != uid:
        return 'it belongs to user id %d' % status.st_uid
    if status.st_mode & 0o022:
        return 'others can write to it (mode %04o)' % stat.S_IMODE(
            status.st_mode)
    return None


class Opened(typing.NamedTuple):
    """An open directory.

    :ivar descriptor: of the directory
    """

    descriptor: int

    def names(self) -> list[str]:
        """List the names of its files, but for one that is being written."""
        return sorted(name for name in os.listdir(self.descriptor)
                      if name != NEW)

    def read(self, name: str) -> bytes | None:
        """Read the content of a file; None if there is none.

        :raises Unsafe: it is nothing that this package wrote
        """
        try:
            # Without O_NONBLOCK, a fifo would keep this waiting.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.open(name, flags, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unsafe('cannot be opened: %s' % error.strerror) from error
        try:
            return _content(file)
        finally:
            os.close(file)

    def create(self, name: str, content: bytes) -> None:
        """Write a file that is not there yet.

        :raises FileExistsError: it is
        """
        with self._new(content) as file:
            try:
                self._link(name)
                self._settle(file)
            except FileExistsError:
                raise
            except OSError:
                # It is not there, as the caller is told: what failed may have
                # been done all the same.
                self._unlink_same(name, file)
                raise

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in the place of one that is there."""
        with self._new(content) as file:
            # What is replaced is good, and may be all that there is.
            os.fsync(file)
            os.rename(NEW, name, src_dir_fd=self.descriptor,
                      dst_dir_fd=self.descriptor)
            os.fsync(self.descriptor)

    def remove(self, name: str) -> bool:
        """Remove a file.

        :returns: whether there was one
        """
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return False
        os.fsync(self.descriptor)
        return True

    @contextlib.contextmanager
    def _new(self, content: bytes) -> abc.Iterator[int]:
        try:
            os.unlink(NEW, dir_fd=self.descriptor)
        except FileNotFoundError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(NEW, flags, 0o600, dir_fd=self.descriptor),
                  'wb') as file:
            file.write(content)
            file.flush()
            yield file.fileno()

    def _link(self, name: str) -> None:
        try:
            # Unlike a rename, this never replaces another's file.
            os.link(NEW, name, src_dir_fd=self.descriptor,
                    dst_dir_fd=self.descriptor, follow_symlinks=False)
        finally:
            os.unlink(NEW, dir_fd=self.descriptor)

    def _unlink_same(self, name: str, file: int) -> None:
        try:
            found = os.stat(
                name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return
        if os.path.samestat(found, os.fstat(file)):
            os.unlink(name, dir_fd=self.descriptor)

    def _settle(self, file: int) -> None:
        # Last, so that a journalling filesystem writes all of it at once.
        # What a crash of the host tears, it makes stale as well.
        os.fsync(file)
        os.fsync(self.descriptor)


def _content(file: int) -> bytes:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise Unsafe('not a regular file')
    if status.st_uid != os.geteuid():
        raise Unsafe('belongs to user id %d' % status.st_uid)
    content = os.read(file, MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise Unsafe('larger than %d bytes' % MAX_SIZE)
    return content
