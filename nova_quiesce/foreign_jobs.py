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
"""Jobs that libvirt does for others, seen before a guest is frozen.

A domain has one job at a time (a backup, a dump, a save), and each of its
disks one beside it (a copy, a commit, a pull, or its part of a backup). Where
one is in the way of a cut, libvirt refuses the cut, or lets it wait for 30 s;
and Nova's mirror begins with ending its disk's job. So jobs are looked for
before a guest is frozen, and those that are not this host's own go on.

What can be done beside which job was tried with libvirt 9.0 and QEMU 7.2.
"""

from collections import abc
import os
import re
import typing
from xml.etree import ElementTree

import libvirt

from nova_quiesce.cuts import backup_job
from nova_quiesce import exception
from nova_quiesce.freeze import domains

_ACTIVE = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
_BACKUP = libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP
#: What a job of a domain is called, for tenants.
_OPERATIONS = {
    _BACKUP: "another program's backup job",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "another program's memory dump",
}
#: What a job of a disk is called. Nova makes some of volumes.
_BLOCK_JOBS = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: 'another pull job',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: 'another copy job',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: 'another commit job',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: 'another commit job',
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: _OPERATIONS[_BACKUP],
}
_SOME_JOB = 'another job'
_NOVAS_MIRROR = 'a mirror that an earlier snapshot left behind'
#: Where Nova's ``snapshot`` and ``_live_snapshot`` have a disk mirrored to,
#: below its directory of snapshots.
_NOVAS_TARGET = re.compile(r'tmp[a-z0-9_]{8}/[0-9a-f]{32}\.delta')
# From a domain that does not run, and from hypervisors without jobs.
_NEVER_HAS_JOBS = (libvirt.VIR_ERR_OPERATION_INVALID,
                   libvirt.VIR_ERR_NO_SUPPORT)


class Jobs:
    """The jobs of a domain.

    Each method looks anew, and lets libvirt's error pass where it cannot be
    told what there is.

    :param domain: the domain
    :param directory: where Nova makes this host's snapshots
    """

    def __init__(self, domain: domains.Domain, directory: str) -> None:
        self._domain = domain
        self._directory = os.path.abspath(directory)

    def check_backup(self, disk_path: str) -> None:
        """See that no job is in the way of a backup job of a disk.

        :param disk_path: how Nova calls the disk
        :raises JobUnderWay: one is
        :raises Refused: one is, and not in the way of a mirror
        """
        disk = self._find(disk_path)
        self._check_disk(disk)
        if self._is_mirrored_by_nova(disk):
            raise backup_job.Refused('a mirror that Nova left behind goes on')
        if self._operation() == _BACKUP:
            raise backup_job.Refused('another disk of the domain is backed up')
        self._check_domain()

    def check_mirror(self, disk_path: str) -> None:
        """See that no job is in the way of Nova's mirror of a disk.

        Nova ends a mirror that it left behind itself.

        :param disk_path: how Nova calls the disk
        :raises JobUnderWay: one is
        """
        self._check_disk(self._find(disk_path))
        self._check_domain(_BACKUP)

    def check_suspend(self) -> None:
        """See that no job is in the way of suspending the domain to disk.

        :raises JobUnderWay: one is
        """
        self._check_domain()
        for disk in self._disks():
            self._check_disk(disk)
            if self._is_mirrored_by_nova(disk):
                raise exception.JobUnderWay(_NOVAS_MIRROR)

    def check_snapshot(self, volume_id: str) -> None:
        """See that no job is in the way of libvirt's snapshot of a volume.

        :param volume_id: Cinder's name of the volume
        :raises JobUnderWay: one is
        """
        self._check_domain()
        for disk in self._disks():
            if disk.findtext('serial') == volume_id:
                self._check_disk(disk)

    def has_foreign(self, disk_path: str) -> bool:
        """Tell whether a disk has a job that is none of Nova's snapshots.

        :param disk_path: how Nova calls the disk
        """
        try:
            self._check_disk(self._find(disk_path))
        except exception.JobUnderWay:
            return True
        return False

    def _check_domain(self, allowed: int | None = None) -> None:
        operation = self._operation()
        if operation not in (None, allowed):
            raise exception.JobUnderWay(
                _OPERATIONS.get(operation, _SOME_JOB))

    def _operation(self) -> int | None:
        job = _ask(self._domain.jobStats)
        if job.get('type') not in _ACTIVE:
            return None
        return int(job.get('operation', 0))

    def _check_disk(self, disk: ElementTree.Element) -> None:
        kind = _ask(self._domain.blockJobInfo, backup_job.target_of(disk)).get(
            'type')
        if kind is not None and not self._is_mirrored_by_nova(disk):
            raise exception.JobUnderWay(_BLOCK_JOBS.get(kind, _SOME_JOB))

    def _is_mirrored_by_nova(self, disk: ElementTree.Element) -> bool:
        # It takes one snapshot of an instance at a time, so that this one is
        # of a process that is gone.
        mirror = disk.find('mirror[@job="copy"]')
        if mirror is None:
            return False
        directory, _, target = str(mirror.get('file')).partition(
            self._directory + os.sep)
        return not directory and bool(_NOVAS_TARGET.fullmatch(target))

    def _find(self, disk_path: str) -> ElementTree.Element:
        return backup_job.find_disk(self._disks(), disk_path)

    def _disks(self) -> list[ElementTree.Element]:
        return ElementTree.fromstring(self._domain.XMLDesc(0)).findall(
            './devices/disk')


def _ask(call: abc.Callable[..., dict[str, typing.Any]],
         *arguments: str) -> dict[str, typing.Any]:
    try:
        return call(*arguments, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NEVER_HAS_JOBS:
            return {}
        raise
