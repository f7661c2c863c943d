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

"""The table of cuts by storage back end: where a new back end is added.

Nova's driver snapshots a root disk in one of three ways, and chooses by the
back end and by what the instance does:

* Some back ends snapshot the disk themselves, beside Nova's driver (a *direct
  snapshot*). Their cut is deep inside the back end's code; :data:`DIRECT` says
  how it comes to be made inside a freeze.
* Nova copies the disk of a running instance (files: Qcow2, Flat, Ploop), or
  suspends the instance and copies it then (Lvm, and Rbd whose direct snapshot
  is not possible). In both cases the cut is a backup job instead
  (:mod:`nova_quiesce.cuts.backup_job`), which any disk that QEMU opens by
  itself can have. Where the hypervisor refuses one, it is what Nova chose:
  :mod:`nova_quiesce.cuts.mirror` or :mod:`nova_quiesce.cuts.suspension`.
* Nova copies the disk of an instance that is off. There is no cut.
"""

from collections import abc
import typing

from nova.virt.libvirt import imagebackend

from nova_quiesce.cuts import cutter
from nova_quiesce.cuts import rbd
from nova_quiesce.nova import wrapper

#: How the cut of a direct snapshot comes to be made by a cutter, by the class
#: of the disk. What is not here has none, or none that is known.
DIRECT: dict[type, abc.Callable[[typing.Any, cutter.Cutter], None]] = {
    imagebackend.Rbd: rbd.intercept,
}

#: Copies a disk to a file, in a format of Glance's.
Extract = abc.Callable[[str, str], None]


class Backend(wrapper.Wrapper[typing.Any]):
    """Nova's image backend, with the disks of snapshots in progress wrapped.

    :param backend: Nova's
    :param wrap: wraps the disk of an instance that has a path in libvirt,
        if it is being snapshotted
    """

    def __init__(self, backend: typing.Any,
                 wrap: abc.Callable[[typing.Any, str, typing.Any], object]
                 ) -> None:
        super().__init__(backend)
        self._wrap = wrap

    def by_libvirt_path(self, instance: typing.Any, path: str,
                        *args: object, **kwargs: object) -> object:
        """Find the disk of an instance that has a path in libvirt."""
        return self._wrap(instance, path, self._wrapped.by_libvirt_path(
            instance, path, *args, **kwargs))


class RootDisk(wrapper.Wrapper[typing.Any]):
    """A root disk that is being snapshotted.

    :param disk: Nova's
    :param cut: makes the cut of a direct snapshot, or refuses to
    :param extract: copies the disk, given Nova's way to do so
    """

    def __init__(self, disk: typing.Any, cut: cutter.Cutter,
                 extract: abc.Callable[[Extract, str, str], None]) -> None:
        super().__init__(disk)
        self._extract = extract
        for kind, intercept in DIRECT.items():
            if isinstance(disk, kind):
                intercept(disk, cut)

    def snapshot_extract(self, target: str, out_format: str) -> None:
        """Copy the disk to a file."""
        self._extract(self._wrapped.snapshot_extract, target, out_format)
