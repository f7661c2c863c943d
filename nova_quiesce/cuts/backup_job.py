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
"""The cut of a disk of a running instance: a backup job in pull mode.

As the job begins, its disk's point in time is fixed: the hypervisor keeps
aside, in a scratch file, what the guest overwrites from then on, and exports
the disk as it was over NBD. So only the beginning has to be inside the freeze
window, and copying may take its time. The domain is never undefined, and the
guest is never suspended. The scratch file is there before: to have libvirt
make it would take as long as all else that it does at the beginning.

Pull mode, because in push mode the hypervisor's own copying starves the guest
agent: a thaw took 0.7 s and more under it.
"""

from collections import abc
from xml.etree import ElementTree

import libvirt

from nova_quiesce import exception
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import replies

#: Where libvirt says so, no other way to cut would work, either.
NO_GUEST = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
_SOURCES = ('file', 'dev', 'name')


class Refused(Exception):
    """This disk cannot be cut by a backup job; nothing was begun."""


class Job:
    """One backup job of one disk.

    :param domain: the disk's domain
    :param description: libvirt's of the domain, as it runs
    :param disk_path: how Nova calls the disk: a path, or ``rbd:`` and its
        name
    :ivar target: how libvirt calls the disk
    :ivar size: the disk's, as the guest sees it, in bytes
    :raises Refused: the hypervisor has no backup jobs, or the domain no such
        disk, or one that must not leave the host in plain text
    """

    def __init__(self, domain: domains.Domain, description: str,
                 disk_path: str) -> None:
        self._domain = domain
        described = ElementTree.fromstring(description)
        _refuse_unsupported(domain.connect(), described)
        disk = find_disk(described.iterfind('./devices/disk'), disk_path)
        _refuse_encrypted(disk)
        self.target = target_of(disk)
        self.size = int(domain.blockInfo(self.target)[0])

    def begin(self, files: jobs.Files) -> None:
        """Fix the disk's point in time, and export it.

        :param files: where the job keeps its files; the scratch file is there
        :raises Refused: the hypervisor cannot do this
        :raises JobUnderWay: it waited in vain for another job to end
        """
        try:
            self._domain.backupBegin(
                self._describe(files), None,
                libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)
        except libvirt.libvirtError as error:
            if error.get_error_code() in NO_GUEST:
                raise
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_TIMEOUT:
                raise exception.JobUnderWay('another job') from error
            raise Refused(replies.text_of(error)) from error

    def _describe(self, files: jobs.Files) -> str:
        backup = ElementTree.Element('domainbackup', mode='pull')
        ElementTree.SubElement(
            backup, 'server', transport='unix', socket=files.socket)
        disks = ElementTree.SubElement(backup, 'disks')
        disk = ElementTree.SubElement(
            disks, 'disk', name=self.target, type='file')
        ElementTree.SubElement(disk, 'driver', type=jobs.SCRATCH_FORMAT)
        ElementTree.SubElement(disk, 'scratch', file=files.scratch)
        return ElementTree.tostring(backup, encoding='unicode')


def find_disk(disks: abc.Iterable[ElementTree.Element],
              path: str) -> ElementTree.Element:
    """Find a disk among libvirt's descriptions.

    :param disks: the descriptions
    :param path: how Nova calls the disk
    :raises Refused: it is not there
    """
    for disk in disks:
        source = disk.find('source')
        if source is not None and _path_of(source) == path:
            return disk
    raise Refused('the domain has no disk %s' % path)


def target_of(disk: ElementTree.Element) -> str:
    """Read from its description what libvirt calls a disk.

    :param disk: its description
    """
    target = disk.find('target')
    assert target is not None
    return str(target.get('dev'))


def _refuse_unsupported(connection: domains.Connection,
                        domain: ElementTree.Element) -> None:
    # Before the guest is frozen for it. An older libvirt does not tell.
    kind = domain.find('./os/type')
    told = ElementTree.fromstring(connection.getDomainCapabilities(
        domain.findtext('./devices/emulator'),
        None if kind is None else kind.get('arch'),
        None if kind is None else kind.get('machine'),
        domain.get('type'), 0)).find('./features/backup')
    if told is not None and told.get('supported') == 'no':
        raise Refused('the hypervisor has no backup jobs')


def _path_of(source: ElementTree.Element) -> str | None:
    for name in _SOURCES:
        if source.get(name) is not None:
            protocol = source.get('protocol')
            return '%s%s' % (protocol + ':' if protocol else '',
                             source.get(name))
    return None


def _refuse_encrypted(disk: ElementTree.Element) -> None:
    # The export would be the plain text.
    if disk.find('.//encryption') is not None:
        raise Refused('the disk is encrypted')
