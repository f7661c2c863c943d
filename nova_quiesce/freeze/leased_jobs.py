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

"""Leases of backup jobs: each job that may exist has an owner on the disk.

It is written before the job begins, and ends once the job has, and its files
are removed. While nova-compute lives, it ends its jobs; when it is gone, the
guard does; the files are removed by the next nova-compute, because the guard
has no rights to do so.
"""

from collections import abc
import dataclasses
import logging

import libvirt

from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import finder
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import thawing

LOG = logging.getLogger(__name__)

#: The kind of duty that stands for a job.
KIND = 'backup-job'
#: Seconds that a job is tried to be ended, before that goes on in the
#: background; libvirtd may be about to start again.
PATIENCE = 5.0
_PAUSE = 0.5


class LeasedJobs:
    """The backup jobs of this service.

    :param directory: where their owner is noted
    :param guard: ends those of a service that is gone; None where there is
        none
    :param connect: opens a connection to the hypervisor
    :param machine: whose clocks and threads are used
    """

    def __init__(self, directory: duties.DutyDirectory,
                 guard: guard_client.GuardClient | None,
                 connect: finder.Connect,
                 machine: machines.Machine) -> None:
        self._directory = directory
        self._guard = guard
        self._connect = connect
        self._machine = machine

    def take(self, instance_uuid: str, files: jobs.Files) -> duties.Duty:
        """Note that a job may exist from now on. Never raises.

        A job without such a note is found by its domain as the next
        nova-compute starts.

        :param instance_uuid: whose domain has it
        :param files: the job's
        """
        lease = duties.Duty(instance_uuid, KIND, dataclasses.asdict(files))
        try:
            self._directory.write(lease)
        except duties.DutyError as error:
            LOG.error('The backup job of instance %(uuid)s is not noted: '
                      '%(error)s', {'uuid': instance_uuid, 'error': error})
        self._have_watched(lease)
        return lease

    def _have_watched(self, lease: duties.Duty) -> None:
        if self._guard is None:
            return
        try:
            self._guard.watch_job(lease)
        except guard_client.GuardUnavailable as error:
            LOG.error('Nobody ends the backup job of instance %(uuid)s if '
                      'nova-compute dies now: %(error)s',
                      {'uuid': lease.instance_uuid, 'error': error})

    def end(self, lease: duties.Duty, patience: float = PATIENCE,
            is_repeated: bool = False) -> bool:
        """End a job, over a connection of its own. Never raises.

        :param lease: the job's
        :param patience: seconds to wait for a hypervisor that is away
        :param is_repeated: whether this was tried before, and said
        :returns: whether it is known that the job is not there any more
        """
        find = finder.Finder(self._connect, lease.instance_uuid)
        deadline = self._machine.monotonic() + patience
        said = is_repeated
        while True:
            try:
                return jobs.end(find(), files_of(lease), self._machine, said)
            except errors.GuestGone:
                return True
            except (errors.HypervisorUnreachable,
                    libvirt.libvirtError) as error:
                LOG.log(logging.DEBUG if said else logging.ERROR,
                        'A backup job of instance %(uuid)s was not ended: '
                        '%(error)s', {'uuid': lease.instance_uuid,
                                      'error': errors.explain(error)})
                said = True
                is_over = (find.is_connected() or
                           self._machine.monotonic() >= deadline)
            finally:
                find.close()
            if is_over:
                return False
            self._machine.sleep(_PAUSE)

    def end_later(self, lease: duties.Duty,
                  remove: abc.Callable[[], None]) -> None:
        """Go on trying to end a job, in the background.

        :param lease: the job's
        :param remove: removes its files, once it has ended
        """
        try:
            self._machine.start('end-job-%s' % lease.instance_uuid,
                                self._keep_ending, lease, remove)
        except RuntimeError as error:
            LOG.error('The backup job of instance %(uuid)s is left to the '
                      'next nova-compute: %(error)s',
                      {'uuid': lease.instance_uuid, 'error': error})

    def adopt(self, lease: duties.Duty,
              remove: abc.Callable[[], None]) -> None:
        """Go on with a job that an earlier nova-compute left. Never raises.

        :param lease: the job's
        :param remove: removes its files, once it has ended
        """
        try:
            files_of(lease)
        except jobs.InvalidJob as error:
            LOG.error('Duty %(id)s is left alone: %(error)s',
                      {'id': lease.id, 'error': error})
            return
        # In the background: the service starts, and one that does not end may
        # take its time.
        self._have_watched(lease)
        self.end_later(lease, remove)

    def drop(self, lease: duties.Duty) -> None:
        """Note that a job has ended, and its files are gone. Never raises.

        :param lease: the job's
        """
        if self._guard is not None:
            self._guard.defer(self._guard.release, lease.id)
        try:
            self._directory.end(lease)
        except duties.DutyError as error:
            LOG.error('%s', error)

    def left(self) -> list[duties.Duty]:
        """List the jobs that an earlier nova-compute may have left.

        :raises DutyError: that cannot be told
        """
        return [one for one in self._directory.read_all()[0]
                if one.kind == KIND]

    def _keep_ending(self, lease: duties.Duty,
                     remove: abc.Callable[[], None]) -> None:
        pause = _PAUSE
        self._machine.sleep(pause)
        while not self.end(lease, patience=0, is_repeated=True):
            pause = min(pause * 2, thawing.LONGEST_PAUSE)
            self._machine.sleep(pause)
        LOG.info('No backup job of instance %s is left', lease.instance_uuid)
        try:
            remove()
        finally:
            self.drop(lease)


def files_of(lease: duties.Duty) -> jobs.Files:
    """Return the files of the job of a lease.

    :param lease: the job's
    :raises InvalidJob: it is the lease of no job
    """
    if lease.kind != KIND:
        raise jobs.InvalidJob('a duty of another kind: %s' % lease.kind)
    return jobs.Files.from_dict(lease.content)
