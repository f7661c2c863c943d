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
"""Copying the disk of a running instance into an image file.

Freeze, begin the backup job, thaw, copy, end the job: only the second of
these is inside the freeze window.
"""

import dataclasses
import os
import typing

from nova.compute import utils as compute_utils
from nova import conf as nova_conf
from nova.privsep import utils as privileged
from oslo_log import log as logging

from nova_quiesce.cuts import backup
from nova_quiesce.cuts import convert
from nova_quiesce.cuts import watch
from nova_quiesce.cuts import workplace
from nova_quiesce import exception

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

#: Why no backup job could be used; the snapshot can be taken in another way.
UNAVAILABLE = (backup.Refused, workplace.Unusable)


class Domain(backup.Domain, watch.Domain, typing.Protocol):
    """What is called of a libvirt ``virDomain`` here."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A disk of a running instance.

    :ivar domain: the instance's domain
    :ivar disk_path: how Nova calls the disk
    :ivar instance: the instance, for the log
    :ivar show_image: looks up the image that is made of it
    """

    domain: Domain
    disk_path: str
    instance: object
    show_image: typing.Callable[[], object]


def prefix() -> str:
    """What the names of this host's workplaces begin with.

    Hosts may share the directory of snapshots.
    """
    return 'quiesce-%s-' % CONF.host


def clear(host: typing.Any) -> None:
    """End the jobs of this host's snapshots, and remove what they leave.

    Never raises: a job that goes on does no harm but to the disk's space.

    :param host: Nova's handle of the hypervisor
    """
    directory = CONF.libvirt.snapshots_directory
    try:
        for guest in host.list_guests(only_running=True):
            if backup.end_if(guest._domain,
                             os.path.join(directory, prefix())):
                LOG.warning('A backup job of domain %s, left behind by a '
                            'snapshot, was ended', guest.name)
        for path in workplace.left_over(directory, prefix()):
            workplace.remove(path)
    except Exception as error:
        LOG.error('Backup jobs that snapshots left behind were not ended: %s',
                  error)


def copy(source: Source, target: str, image_format: str,
         cutter: backup.Cutter) -> None:
    """Copy a disk, as it is at the cut.

    :param source: the disk
    :param target: the file to write
    :param image_format: Glance's name of its format
    :param cutter: makes the cut, or refuses to
    :raises Refused, Unusable: nothing was begun; try another way
    :raises CopyFailed: the disk could not be copied
    """
    # The cut comes when the copy can begin: what the guest overwrites while
    # it waits would be kept for nothing.
    with compute_utils.disk_ops_semaphore, workplace.workplace(
            CONF.libvirt.snapshots_directory, prefix(),
            source.domain.XMLDesc(0)) as place:
        job = backup.Job(source.domain, source.disk_path, place)
        try:
            cutter(job.begin)
            place.take_socket()
            _convert(source, job, place, target, image_format)
        finally:
            job.end()


def _convert(source: Source, job: backup.Job, place: workplace.Workplace,
             target: str, image_format: str) -> None:
    is_compressed = (CONF.libvirt.snapshot_compression and
                     image_format == 'qcow2')
    try:
        with watch.CopyWatch(source.domain, place, source.show_image,
                             source.instance) as watching:
            convert.convert(
                convert.export_url(place.socket, job.target), target,
                image_format, is_compressed,
                privileged.supports_direct_io(CONF.instances_path), watching)
    except convert.CopyFailed as error:
        # Its text names paths of the host, which are not for tenants.
        LOG.error('The disk was not copied: %s', error,
                  instance=source.instance)
        # Where the domain is gone, that is what Nova wants to hear.
        source.domain.state()
        raise exception.CopyFailed() from error
