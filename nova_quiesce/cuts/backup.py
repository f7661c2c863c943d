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
guest is never suspended.

Pull mode, because in push mode the hypervisor's own copying starves the guest
agent: a thaw took 0.7 s and more under it.
"""

from collections import abc
import logging
import time
import typing
from xml.etree import ElementTree

import libvirt

from nova_quiesce import agent as guest_agent
from nova_quiesce.cuts import workplace

LOG = logging.getLogger(__name__)

#: Makes the cut that it is handed, or raises.
Cutter = abc.Callable[[abc.Callable[[], None]], None]

# Where libvirt says so, no other way to cut would work, either.
_NO_GUEST = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
_NO_JOB = (*_NO_GUEST, libvirt.VIR_ERR_NO_DOMAIN_BACKUP)
#: What ``state()`` says of a guest whose write failed.
STUCK = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]
_SOURCES = ('file', 'dev', 'name')
# Seconds; on a busy host it took more than 5.
_LONGEST_END = 20
_LOOK_INTERVAL = 0.05


class Refused(Exception):
    """This disk cannot be cut by a backup job; nothing was begun."""


class Connection(typing.Protocol):
    """What this module calls of a libvirt ``virConnect``."""

    def getDomainCapabilities(
            self, emulatorbin: str | None, arch: str | None,
            machine: str | None, virttype: str | None,
            flags: int = ...) -> str:
        """Describe what domains of a kind can do."""


class Domain(typing.Protocol):
    """What this module calls of a libvirt ``virDomain``."""

    def connect(self) -> Connection:
        """The connection that the domain was found over."""

    def XMLDesc(self, flags: int = ...) -> str:
        """Describe the domain."""

    def backupBegin(self, backupXML: str, checkpointXML: str | None,
                    flags: int = ...) -> int:
        """Begin a backup job."""

    def backupGetXMLDesc(self, flags: int = ...) -> str:
        """Describe the backup job that is active."""

    def abortJob(self) -> int:
        """End the job that is active."""

    def state(self, flags: int = ...) -> list[int]:
        """What the domain does, and why."""

    def resume(self) -> int:
        """Let a paused domain go on."""


class Job:
    """One backup job of one disk.

    :param domain: the disk's domain
    :param disk_path: how Nova calls the disk: a path, or ``rbd:`` and its
        name
    :param place: where the job keeps its files
    :raises Refused: the hypervisor has no backup jobs, or the domain no such
        disk, or one that must not leave the host in plain text
    """

    def __init__(self, domain: Domain, disk_path: str,
                 place: workplace.Workplace) -> None:
        self._domain = domain
        self._place = place
        description = ElementTree.fromstring(domain.XMLDesc(0))
        _refuse_unsupported(domain.connect(), description)
        self._disks = description.findall('./devices/disk')
        self.target = self._find_target(disk_path)

    def begin(self) -> None:
        """Fix the disk's point in time, and export it.

        :raises Refused: the hypervisor cannot do this
        """
        try:
            self._domain.backupBegin(self._describe(), None, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() in _NO_GUEST:
                raise
            raise Refused(guest_agent.text_of(error)) from error

    def end(self) -> None:
        """End the job, if it is still there. Never raises."""
        end_if(self._domain, self._place.socket)

    def _find_target(self, disk_path: str) -> str:
        for disk in self._disks:
            source, target = disk.find('source'), disk.find('target')
            if source is None or target is None:
                continue
            if _path_of(source) == disk_path:
                _refuse_encrypted(disk)
                return str(target.get('dev'))
        raise Refused('the domain has no disk %s' % disk_path)

    def _describe(self) -> str:
        backup = ElementTree.Element('domainbackup', mode='pull')
        ElementTree.SubElement(
            backup, 'server', transport='unix', socket=self._place.socket)
        disks = ElementTree.SubElement(backup, 'disks')
        disk = ElementTree.SubElement(
            disks, 'disk', name=self.target, type='file')
        ElementTree.SubElement(disk, 'scratch', file=self._place.scratch)
        return ElementTree.tostring(backup, encoding='unicode')


def end_if(domain: Domain, socket_prefix: str) -> bool:
    """End the backup job of a domain, if it is one of this package's.

    A job outlives the process that began it. A guest that was paused because
    its write did not fit into the scratch file goes on, and the write is done
    then. Never raises.

    :param domain: the domain
    :param socket_prefix: what the path of the job's socket begins with
    :returns: whether there was one
    """
    try:
        server = ElementTree.fromstring(
            domain.backupGetXMLDesc(0)).find('server')
        if server is None or not str(server.get('socket')).startswith(
                socket_prefix):
            return False
        domain.abortJob()
        if domain.state()[:2] == STUCK:
            domain.resume()
    except libvirt.libvirtError as error:
        LOG.log(logging.DEBUG if error.get_error_code() in _NO_JOB
                else logging.ERROR,
                'No backup job was ended: %s', guest_agent.text_of(error))
        return False
    _wait_for_end(domain)
    return True


def _wait_for_end(domain: Domain) -> None:
    # The hypervisor ends it in its own time. Until then there can be no
    # other job, and libvirt still wants the files of this one.
    deadline = time.monotonic() + _LONGEST_END
    try:
        while time.monotonic() < deadline:
            domain.backupGetXMLDesc(0)
            time.sleep(_LOOK_INTERVAL)
    except libvirt.libvirtError:
        return
    LOG.warning('A backup job was told to end, and has not ended within '
                '%d s', _LONGEST_END)


def _refuse_unsupported(connection: Connection,
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
