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

"""Backup jobs, which outlive the process that began them.

While one is active, what the guest overwrites is kept aside in a scratch file
that grows. So a job that nobody reads any more has to be ended: it would fill
the disk, and the guest would be paused at its next write. Its files are
removed only after that, because the hypervisor writes to them until then.
"""

from collections import abc
import dataclasses
import logging
import os
from xml.etree import ElementTree

import libvirt

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

#: What ``state()`` says of a guest whose write failed.
STUCK = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]
#: The format of a scratch file, as libvirt and ``qemu-img`` call it.
SCRATCH_FORMAT = 'qcow2'
# Where libvirt says so, there is none.
_NO_JOB = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID,
           libvirt.VIR_ERR_NO_DOMAIN_BACKUP)
# Seconds; on a busy host it took more than 5.
_LONGEST_END = 20
_LOOK_INTERVAL = 0.05
_MAX_PATH = 4096


class InvalidJob(Exception):
    """The description of a job is none; the text says why."""


@dataclasses.dataclass(frozen=True)
class Files:
    """The files that belong to a job; no two jobs share one.

    :ivar socket: the absolute path of the socket that exports its disk
    :ivar scratch: the absolute path of its scratch file
    :raises InvalidJob: these are no such paths
    """

    socket: str
    scratch: str

    def __post_init__(self) -> None:
        for path in (self.socket, self.scratch):
            if not (isinstance(path, str) and os.path.isabs(path) and
                    len(path) <= _MAX_PATH):
                raise InvalidJob('not the files of a job')

    @classmethod
    def from_dict(cls, fields: object) -> 'Files':
        """Read what :func:`dataclasses.asdict` made.

        :param fields: anything
        :raises InvalidJob: these are no files of a job
        """
        if not isinstance(fields, dict) or fields.keys() != {
                field.name for field in dataclasses.fields(cls)}:
            raise InvalidJob('not the files of a job')
        return cls(**fields)


def find(domain: domains.Domain) -> tuple[str, abc.Set[str]] | None:
    """Find the socket and the scratch files of the job that a domain has.

    :param domain: the domain
    :returns: None where there is no job
    :raises libvirtError: it cannot be told
    """
    try:
        job = ElementTree.fromstring(domain.backupGetXMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NO_JOB:
            return None
        raise
    server = job.find('server')
    return ('' if server is None else str(server.get('socket')),
            {str(scratch.get('file')) for scratch in job.iterfind(
                './/scratch')})


def is_active(domain: domains.Domain, files: Files) -> bool:
    """Tell whether a domain has the job with these files, and no other.

    :param domain: the domain
    :param files: the job's
    :raises libvirtError: it cannot be told
    """
    return find(domain) == (files.socket, {files.scratch})


def end(domain: domains.Domain, files: Files, machine: machines.Machine,
        is_repeated: bool = False) -> bool:
    """End a job, and wait until it has ended.

    A guest that was paused because its write did not fit into the scratch
    file goes on, and the write is done then.

    :param domain: the domain
    :param files: the job's; another one is left alone
    :param machine: whose clocks count
    :param is_repeated: whether this was tried before, and may have worked
    :returns: whether it is known that the job is not there any more
    :raises libvirtError: it cannot be told
    """
    # A second call that libvirt carries out late would end the job after this
    # one, whosever that is.
    with machine.turn(files.scratch):
        return _end(domain, files, machine, is_repeated)


def _end(domain: domains.Domain, files: Files, machine: machines.Machine,
         is_repeated: bool) -> bool:
    if not is_active(domain, files):
        if is_repeated:
            _let_go_on(domain)
        return True
    _abort(domain)
    # The hypervisor ends it in its own time. Until then there can be no
    # other job, and libvirt still wants the files of this one.
    deadline = machine.monotonic() + _LONGEST_END
    while is_active(domain, files):
        if machine.monotonic() > deadline:
            LOG.warning('A backup job was told to end, and has not ended '
                        'within %d s', _LONGEST_END)
            return False
        machine.sleep(_LOOK_INTERVAL)
    # Before that, it would only try the same write again.
    _let_go_on(domain)
    return True


def _let_go_on(domain: domains.Domain) -> None:
    if domain.state()[:2] == STUCK:
        domain.resume()


def _abort(domain: domains.Domain) -> None:
    try:
        domain.abortJob()
    except libvirt.libvirtError as error:
        # It has ended meanwhile, or the guest has.
        if error.get_error_code() not in _NO_JOB:
            raise
