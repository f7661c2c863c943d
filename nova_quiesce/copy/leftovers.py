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

"""Backup jobs that earlier snapshots left behind, and their files.

A job outlives the process that began it. One that goes on does no harm but to
the space on the disk; its files stay until it has ended, because the
hypervisor writes to them.
"""

import functools
import os.path
import typing

import libvirt
from nova import conf as nova_conf
from oslo_log import log as logging

from nova_quiesce.copy import workplace
from nova_quiesce import exception
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import replies

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

#: To end a job before the next one of its instance begins; each takes 20 s at
#: most. libvirt, seen in 9.0, ends no job, whosever it is, for 30 s after any
#: guest that has one opens or closes its agent's channel: its only thread for
#: events waits for that guest's job to end.
_TRIES = 5


def clear(host: typing.Any) -> None:
    """End the jobs of this host's snapshots, and remove what they leave.

    Never raises. Where a domain does not tell its job, all files stay.

    :param host: Nova's handle of the hypervisor
    """
    places = workplace.of_this_host()
    try:
        found = [guest._domain
                 for guest in host.list_guests(only_running=True)]
        for domain in found:
            _end(domain, places)
        needed = {place.path for place in (
            find(domain, places) for domain in found) if place}
        owners = workplace.users(host.get_connection().getCapabilities())
        for path in places.left_over():
            if path not in needed:
                workplace.remove(path, owners)
    except Exception as error:
        LOG.error('What snapshots left behind in %(directory)s was not '
                  'removed: %(error)s',
                  {'directory': CONF.libvirt.snapshots_directory,
                   'error': error})


def end(host: typing.Any) -> None:
    """End the jobs of this host's snapshots, and remove what those leave.

    Never raises. A snapshot that is under way may begin its job yet, so that
    other files stay for the next nova-compute.

    :param host: Nova's handle of the hypervisor
    """
    places = workplace.of_this_host()
    try:
        for guest in host.list_guests(only_running=True):
            _end(guest._domain, places)
    except Exception as error:
        LOG.error('What jobs of snapshots there are is not known, and the '
                  'next nova-compute ends them: %s', error)


def go_on(host: typing.Any, leases: leased_jobs.LeasedJobs) -> None:
    """Go on with the jobs that an earlier nova-compute left. Never raises.

    To be called after :func:`clear`: what is left then did not end.

    :param host: Nova's handle of the hypervisor
    :param leases: the jobs that may exist, by what is on the disk
    """
    try:
        places = workplace.of_this_host()
        for lease in leases.left():
            path = os.path.dirname(str(lease.content.get('socket')))
            leases.adopt(lease, functools.partial(
                _remove, host, places, path))
    except Exception as error:
        LOG.error('The backup jobs that an earlier nova-compute left are '
                  'not gone on with: %s', error)


def make_way(domain: domains.Domain) -> None:
    """End a job that an earlier snapshot of an instance left behind.

    Nova takes one snapshot of an instance at a time, so that a job of this
    host's that is there now is one that could not be ended.

    :param domain: the instance's
    :raises JobLeftBehind: it does not end
    :raises libvirtError: it cannot be told whether there is one
    """
    places = workplace.of_this_host()
    for _ in range(_TRIES):
        _end(domain, places)
        if find(domain, places) is None:
            return
    raise exception.JobLeftBehind()


def find(domain: domains.Domain,
         places: workplace.Places) -> workplace.Workplace | None:
    """Find where the backup job of a domain keeps its files, if it is ours.

    :param domain: the domain
    :param places: this host's
    :returns: None where there is no job, or one of somebody else
    :raises libvirtError: it cannot be told
    """
    found = jobs.find(domain)
    if found is None:
        return None
    socket, scratch_files = found
    place = workplace.Workplace(os.path.dirname(socket))
    is_one_of_ours = (socket, scratch_files) == (place.socket, {place.scratch})
    return place if is_one_of_ours and places.has(place.path) else None


def _end(domain: domains.Domain, places: workplace.Places) -> None:
    try:
        place = find(domain, places)
        if place is None or not _end_job(domain, place):
            return
        LOG.warning('A backup job of domain %s, left behind by a snapshot, '
                    'was ended', domain.name())
        workplace.remove(place.path, workplace.users(
            domain.connect().getCapabilities()))
    except Exception as error:
        LOG.error('A backup job that a snapshot may have left behind was not '
                  'ended: %s', error)


def _end_job(domain: domains.Domain, place: workplace.Workplace) -> bool:
    try:
        return jobs.end(domain, place.files, machines.REAL)
    except libvirt.libvirtError as error:
        LOG.error('The backup job in %s was not ended: %s', place.path,
                  replies.text_of(error))
        return False


def _remove(host: typing.Any, places: workplace.Places, path: str) -> None:
    if places.has(path):
        try:
            # It told that the job has ended, so that it is there by now.
            owners = workplace.users(host.get_connection().getCapabilities())
        except Exception as error:
            LOG.error('%(path)s stays until nova-compute is started again: '
                      '%(error)s', {'path': path, 'error': error})
            return
        workplace.remove(path, owners)
    elif os.path.lexists(path):
        # The operator has named another directory since.
        LOG.error('%s of a backup job that has ended stays behind, because '
                  'it is not in [libvirt] snapshots_directory; remove it by '
                  'hand', path)
