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

"""The cut of Nova's live snapshot: ending a mirror of the root disk.

Nova copies the disk into a mirror, waits until the two are in step, and
aborts the job: what the mirror holds at that moment is the snapshot. Nova
freezes the guest around much more than that. Here, the objects that Nova's
code works with are wrapped, so that the freeze is around the abort alone.
"""

from collections import abc
import contextlib
import functools
import typing

from nova_quiesce.cuts import cutter
from nova_quiesce import exception
from nova_quiesce.nova import wrapper


class BlockDevice(typing.Protocol):
    """The part of Nova's ``BlockDevice`` that is replaced here."""

    def rebase(self, *args: object, **kwargs: object) -> object:
        """Start the mirror."""

    def abort_job(self, *args: object, **kwargs: object) -> None:
        """End the mirror."""


class Guest(typing.Protocol):
    """The part of Nova's libvirt ``Guest`` that is replaced here."""

    def get_block_device(self, disk: str) -> BlockDevice:
        """The handle of one of the guest's disks."""


@contextlib.contextmanager
def kept_defined(guest: typing.Any, define: abc.Callable[[str], object],
                 ) -> abc.Iterator[None]:
    """Have a guest persistently defined after the block, as before it.

    Nova undefines it for the mirror, and forgets to define it again where
    ending the mirror fails.

    :param guest: Nova's guest
    :param define: defines a domain from its description
    """
    description = guest.get_xml_desc(dump_inactive=True, dump_sensitive=True)
    try:
        yield
    except BaseException:
        # It may be gone, which raises again, and hides nothing: the error
        # before is the cause that is told.
        if not guest.has_persistent_configuration():
            define(description)
        raise


class MirroredGuest(wrapper.Wrapper[Guest]):
    """A guest whose mirrors are ended inside a freeze.

    :param guest: Nova's guest
    :param cut: called with the abort of a running mirror
    :param has_foreign: whether a disk has a job that is not Nova's, and must
        not be aborted
    """

    def __init__(self, guest: Guest, cut: cutter.Cutter,
                 has_foreign: abc.Callable[[str], bool]) -> None:
        super().__init__(guest)
        self._cut = cut
        self._has_foreign = has_foreign

    def get_block_device(self, disk: str) -> '_Mirror':
        """The handle of a disk, wrapped.

        :param disk: the disk's path or target
        """
        return _Mirror(self._wrapped.get_block_device(disk), self._cut,
                       functools.partial(self._has_foreign, disk))


class _Mirror(wrapper.Wrapper[BlockDevice]):
    def __init__(self, device: BlockDevice, cut: cutter.Cutter,
                 has_foreign: abc.Callable[[], bool]) -> None:
        super().__init__(device)
        self._cut = cut
        self._has_foreign = has_foreign
        self._running = False

    def rebase(self, *args: object, **kwargs: object) -> object:
        answer = self._wrapped.rebase(*args, **kwargs)
        self._running = True
        return answer

    def abort_job(self, *args: object, **kwargs: object) -> None:
        # Nova also aborts before it starts a mirror, in case one was left
        # over, and after one that could not be started. Neither is a cut,
        # and a freeze around it would be for nothing.
        abort = functools.partial(self._wrapped.abort_job, *args, **kwargs)
        if self._has_foreign():
            # A mirror may also have ended by itself, and left its place.
            raise exception.JobUnderWay('another job')
        if not self._running:
            abort()
            return
        self._running = False
        self._cut(abort)
