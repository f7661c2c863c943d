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

"""Thawing what a nova-compute left frozen that did not end well.

The leases on the disk tell of guests that may be frozen. They are followed up
as the service starts, before it takes requests.
"""

from collections import abc
import functools
import logging
import threading
import typing

from nova_quiesce import agent as guest_agent
from nova_quiesce import exception
from nova_quiesce import lease as leases
from nova_quiesce import lease_directory

LOG = logging.getLogger(__name__)


class Domain(guest_agent.Domain, typing.Protocol):
    """What is called of a libvirt ``virDomain`` here, besides its agent."""

    def create(self) -> int:
        """Start it, from where it was suspended."""


#: Finds the domain of an instance by its UUID.
Lookup = abc.Callable[[str], Domain]


class Recovery:
    """The follow-up of the leases of one directory.

    :param directory: where they are
    :param lookup: finds a domain; raises GuestGone where there is none
    :param timeouts: of the agents
    :param retry_interval: seconds between two tries to thaw
    """

    def __init__(self, directory: lease_directory.LeaseDirectory,
                 lookup: Lookup, timeouts: guest_agent.Timeouts,
                 retry_interval: float) -> None:
        self._directory = directory
        self._lookup = lookup
        self._timeouts = timeouts
        self._retry_interval = retry_interval

    def run(self, patience: float) -> None:
        """Thaw each guest that has a lease.

        :param patience: seconds to wait for all of them; what does not
            answer by then is thawed in the background
        """
        found, problems = self._directory.read_all()
        threads = [
            self._start(lease.instance_uuid,
                        functools.partial(self._try, lease), lease)
            for lease in found]
        for problem in problems:
            LOG.error('In the directory of leases, %(name)s is none: '
                      '%(reason)s', {'name': problem.name,
                                     'reason': problem.reason})
            if problem.instance_uuid is not None:
                # Torn, it seems: the guest that it is named after may be
                # frozen. A file of another name is left alone.
                threads.append(self._start(
                    problem.instance_uuid, functools.partial(
                        self._thaw, problem.instance_uuid), None))
        for thread in threads:
            thread.join(patience / len(threads))
            if thread.is_alive():
                LOG.error('%s goes on in the background', thread.name)

    def _start(self, instance_uuid: str, attempt: abc.Callable[[], str],
               lease: leases.Lease | None) -> threading.Thread:
        thread = threading.Thread(
            target=self._recover, args=(instance_uuid, attempt, lease),
            daemon=True, name='thawing instance %s' % instance_uuid)
        thread.start()
        return thread

    def _recover(self, instance_uuid: str, attempt: abc.Callable[[], str],
                 lease: leases.Lease | None) -> None:
        pause = threading.Event()
        reason: str | None = None
        while reason is None:
            try:
                reason = attempt()
            except Exception as error:
                LOG.warning('Instance %(uuid)s, which a snapshot left '
                            'behind, may still be frozen: %(error)s',
                            {'uuid': instance_uuid, 'error': error})
                pause.wait(self._retry_interval)
        LOG.warning('The lease of instance %(uuid)s, left behind by request '
                    '%(owners)s, has ended: %(reason)s',
                    {'uuid': instance_uuid, 'reason': reason,
                     'owners': ', '.join(lease.owners) if lease
                     else 'unknown'})
        self._directory.release(instance_uuid, only=lease)

    def _try(self, lease: leases.Lease) -> str:
        try:
            domain_id = self._agent(lease.instance_uuid).domain_id()
        except exception.GuestGone:
            domain_id = None
        stale = leases.stale_reason(lease, leases.host_boot_id(), domain_id)
        if stale:
            return stale
        if lease.is_saved:
            self._resume(lease.instance_uuid)
        return self._thaw(lease.instance_uuid)

    def _resume(self, instance_uuid: str) -> None:
        try:
            domain = self._lookup(instance_uuid)
        except exception.GuestGone:
            return
        if not domain.isActive() and domain.hasManagedSaveImage():
            LOG.warning('Instance %s was suspended for a snapshot that did '
                        'not come to its end, and is resumed', instance_uuid)
            domain.create()

    def _thaw(self, instance_uuid: str) -> str:
        try:
            return '%d filesystems were thawed' % self._agent(
                instance_uuid).thaw()
        except exception.GuestGone:
            return 'the guest is gone'

    def _agent(self, instance_uuid: str) -> guest_agent.Agent:
        return guest_agent.Agent(
            functools.partial(self._lookup, instance_uuid), self._timeouts)
