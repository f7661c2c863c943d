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

"""What Nova cuts a disk with where that is no backup job of this driver's."""

from collections import abc
import typing

from nova.compute import power_state

from tests.simulation import hypervisors
from tests.simulation import world as worlds

if typing.TYPE_CHECKING:
    from tests.simulation import runs

#: How Nova calls the instance's image in the pool.
IMAGE = 'disk'


class Pool:
    """Nova's RBD driver, with one pool that has the instance's disk.

    :param run: the run
    :ivar snapshots: those of the disk
    """

    def __init__(self, run: 'runs.Run') -> None:
        self._run = run
        self.snapshots: set[str] = set()

    def open(self) -> None:
        """Open the disk, over a connection to the cluster."""
        self._run.world.point('rbd open: before')

    def create(self, name: str) -> None:
        """Snapshot the disk."""
        self._run.world.point('rbd create: before')
        self.snapshots.add(name)
        self._run.note_cut()
        self._run.world.point('rbd create: after')

    def remove_snap(self, _volume: str, name: str,
                    ignore_errors: bool = False) -> None:
        """Remove a snapshot of the disk."""
        try:
            self._run.world.point('rbd remove: before')
        except OSError:
            if not ignore_errors:
                raise
            return
        self.snapshots.discard(name)


class RBDVolumeProxy:
    """The disk, opened.

    :param driver: of the pool where it is
    """

    def __init__(self, driver: Pool, _name: str,
                 pool: str | None = None) -> None:
        self._pool = driver

    def __enter__(self) -> typing.Self:
        self._pool.open()
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def create_snap(self, name: str) -> None:
        """Snapshot it."""
        self._pool.create(name)

    def is_protected_snap(self, _name: str) -> bool:
        """Tell whether a snapshot is protected."""
        return False

    def protect_snap(self, _name: str) -> None:
        """Protect a snapshot."""


class _Guest:
    """Nova's handle of a guest.

    :param world: the world
    :param domain: libvirt's view of the guest
    :param note_cut: told of the cut
    """

    def __init__(self, world: worlds.World, domain: hypervisors.Domain,
                 note_cut: abc.Callable[[], None]) -> None:
        self._world = world
        self._domain = domain
        self._note_cut = note_cut


class MirroredGuest(_Guest):
    """That of one whose disk is mirrored."""

    _is_mirrored = False

    def get_block_device(self, disk: str) -> typing.Self:
        """Return the handle of its disk."""
        return self

    def rebase(self, *_args: object, **_kwargs: object) -> None:
        """Begin to mirror it."""
        self._world.point('blockRebase: before')
        self._domain.change_files(lambda: None)
        self._is_mirrored = True
        self._world.point('blockRebase: after')

    def abort_job(self, *_args: object, **_kwargs: object) -> None:
        """End the mirror: a cut, where there is one."""
        self._world.point('blockJobAbort: before')
        self._domain.change_files(
            self._note_cut if self._is_mirrored else lambda: None)
        self._is_mirrored = False
        self._world.point('blockJobAbort: after')


class VolumeGuest(_Guest):
    """That of one whose volume is a file."""

    def get_power_state(self, _host: object) -> int:
        """Tell whether it runs, as Nova has it."""
        return int(power_state.RUNNING if self._domain.isActive()
                   else power_state.SHUTDOWN)

    def snapshot(self, *_args: object, **kwargs: object) -> None:
        """Have the guest go on in a new file."""
        if kwargs['quiesce']:
            self._world.break_promise('libvirt freezes the guest')
        self._world.point('snapshotCreateXML: before')
        self._domain.change_files(self._note_cut)
        self._world.point('snapshotCreateXML: after')
