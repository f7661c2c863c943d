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
"""An instance's disks, as Nova's driver finds them during a snapshot."""

from collections import abc
import typing

from nova.virt.libvirt import imagebackend

from nova_quiesce.cuts import backup_job
from nova_quiesce.cuts import rbd

#: Copies a disk to a file, in a format of Glance's.
Extract = abc.Callable[[str, str], None]


class Backend:
    """Nova's image backend, with the disks of snapshots in progress wrapped.

    :param backend: Nova's, which answers everything
    :param wrap: wraps the disk of an instance that has a path in libvirt,
        if it is being snapshotted
    """

    def __init__(self, backend: typing.Any,
                 wrap: abc.Callable[[typing.Any, str, typing.Any], object]
                 ) -> None:
        self._backend = backend
        self._wrap = wrap

    def by_libvirt_path(self, instance: typing.Any, path: str,
                        *args: object, **kwargs: object) -> object:
        """The disk of an instance that has a path in libvirt."""
        return self._wrap(instance, path, self._backend.by_libvirt_path(
            instance, path, *args, **kwargs))

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)


class RootDisk:
    """A disk that is snapshotted.

    :param disk: Nova's, which answers everything else
    :param cutter: makes the cut of a direct snapshot, or refuses to
    :param extract: copies the disk, given Nova's way to do so
    """

    def __init__(self, disk: typing.Any, cutter: backup_job.Cutter,
                 extract: abc.Callable[[Extract, str, str], None]) -> None:
        if isinstance(disk, imagebackend.Rbd):
            disk.driver = rbd.Driver(disk.driver, disk.rbd_name, cutter)
        self._disk = disk
        self._extract = extract

    def snapshot_extract(self, target: str, out_format: str) -> None:
        """Copy the disk to a file."""
        self._extract(self._disk.snapshot_extract, target, out_format)

    def __getattr__(self, name: str) -> object:
        return getattr(self._disk, name)
