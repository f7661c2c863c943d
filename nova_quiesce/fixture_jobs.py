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

"""The connection and the jobs of the fake guest.

The guest itself is in :mod:`nova_quiesce.fixture`.

What libvirt refuses beside which job was seen on a real one, too.
"""

import typing
from xml.etree import ElementTree

import libvirt


def libvirt_error(code: int, text: str) -> libvirt.libvirtError:
    """An error as libvirt-python raises it.

    :param code: one of libvirt's ``VIR_ERR_*``
    :param text: its message
    """
    error = libvirt.libvirtError(text)
    error.err = (code, libvirt.VIR_FROM_QEMU, text, 2, text, '', '', 0, 0)
    return error


def _disks_of(backup: str) -> list[str | None]:
    return [disk.get('name')
            for disk in ElementTree.fromstring(backup).iterfind('./disks/disk')
            if disk.get('backup') != 'no']


class FakeConnection:
    """A ``virConnect`` that is always good; it finds no domain itself.

    :ivar has_backup_jobs: whether its hypervisor has backup jobs
    """

    has_backup_jobs = True

    def isAlive(self) -> int:
        """Return 1: it can be used."""
        return 1

    def close(self) -> int:
        """Do nothing."""
        return 0

    def getDomainCapabilities(self, *_kind: object) -> str:
        """Describe what domains can do."""
        return ("<domainCapabilities><features><backup supported='%s'/>"
                '</features></domainCapabilities>'
                % ('yes' if self.has_backup_jobs else 'no'))

    def getCapabilities(self) -> str:
        """Describe the host."""
        return ('<capabilities><host><secmodel><model>dac</model><doi>0</doi>'
                "<baselabel type='qemu'>+64055:+108</baselabel></secmodel>"
                '</host></capabilities>')


class FakeJobs(FakeConnection):
    """The jobs of a ``virDomain``, which is its own connection.

    :ivar backup: the backup job that is active, as it was described when it
        began
    :ivar block_jobs: other jobs of disks that are active, by
        ``VIR_DOMAIN_BLOCK_JOB_TYPE_*``
    :ivar operation: another job of the domain that is active, by
        ``VIR_DOMAIN_JOB_OPERATION_*``
    """

    def __init__(self) -> None:
        self.backup_error: libvirt.libvirtError | None = None
        self.abort_error: libvirt.libvirtError | None = None
        self.backup: str | None = None
        self.block_jobs: dict[str, int] = {}
        self.operation: int | None = None

    def blockInfo(self, path: str, flags: int = 0) -> list[int]:
        """Tell the sizes of a disk, as it is for all that one can write."""
        return [1 << 30, 1 << 20, 1 << 20]

    def backupBegin(self, backupXML: str, checkpointXML: str | None,
                    flags: int = 0) -> int:
        """Begin a backup job, unless :attr:`backup_error` is set."""
        if self.backup_error is not None:
            raise self.backup_error
        if self._active_operation() is not None:
            # After 30 s, in libvirt.
            raise libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                'Timed out during operation: cannot acquire state change lock '
                '(held by monitor=remoteDispatchDomainBackupBegin)')
        for disk in _disks_of(backupXML):
            if disk in self.block_jobs:
                raise libvirt_error(
                    libvirt.VIR_ERR_INTERNAL_ERROR,
                    "internal error: disk '%s' has a blockjob assigned" % disk)
        self.backup = backupXML
        return 0

    def backupGetXMLDesc(self, flags: int = 0) -> str:
        """Describe the backup job that is active."""
        if self.backup is None:
            raise libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
                'Domain backup job id not found: no domain backup job '
                'present')
        return self.backup

    def abortJob(self) -> int:
        """End the backup job, unless :attr:`abort_error` is set."""
        if self.abort_error is not None:
            raise self.abort_error
        if self.backup is None:
            raise libvirt_error(
                libvirt.VIR_ERR_OPERATION_INVALID,
                'Requested operation is not valid: no job is active on the '
                'domain')
        self.backup = None
        return 0

    def jobStats(self, flags: int = 0) -> dict[str, typing.Any]:
        """Describe the job of the domain."""
        operation = self._active_operation()
        if operation is None:
            return {'type': libvirt.VIR_DOMAIN_JOB_NONE}
        return {'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
                'operation': operation}

    def blockJobInfo(self, disk: str,
                     flags: int = 0) -> dict[str, typing.Any]:
        """Describe the job of a disk."""
        if self.backup is not None and disk in _disks_of(self.backup):
            return {'type': libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP}
        kind = self.block_jobs.get(disk)
        return {} if kind is None else {'type': kind}

    def _active_operation(self) -> int | None:
        if self.backup is None:
            return self.operation
        return int(libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP)
