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

"""A disk of a running instance, exported as it is at its cut.

The cut is the beginning of a backup job. What can be done for it before the
guest is frozen, is done before: so nothing but that beginning is inside the
freeze window.
"""

import contextlib
import dataclasses
import functools
import typing

import libvirt
from oslo_log import log as logging

from nova_quiesce.copy import workplace
from nova_quiesce.cuts import backup_job
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)

#: Why no backup job could be used; the snapshot can be taken in another way.
UNAVAILABLE = (backup_job.Refused, workplace.Unusable)


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk of a running instance.

    :ivar domain: the instance's domain
    :ivar path: how Nova calls the disk
    :ivar instance: the instance
    :ivar find: finds the domain anew, because a handle does not survive a
        restart of libvirtd
    """

    domain: domains.Domain
    path: str
    instance: seams.Instance
    find: typing.Callable[[], domains.Domain]

    def state(self) -> list[int] | None:
        """Look up what the domain does, and why.

        :returns: None where that cannot be told
        :raises libvirtError: it is gone
        """
        try:
            return self.domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() in backup_job.NO_GUEST:
                raise
        try:
            return self.find().state()
        except errors.NotFrozen as error:
            LOG.debug('The hypervisor does not tell what the guest does: %s',
                      error, instance=self.instance)
            return None


class DiskExport:
    """The backup job of one disk, from before its beginning to its end.

    :param disk: the disk
    :param jobs: the backup jobs that may exist on this host
    """

    def __init__(self, disk: Disk, jobs: leased_jobs.LeasedJobs) -> None:
        self.disk = disk
        self._jobs = jobs
        self._place: workplace.Workplace | None = None
        self._job: backup_job.Job | None = None
        self._lease: duties.Duty | None = None
        self._ending = contextlib.ExitStack()

    @property
    def name(self) -> str:
        """The export's name."""
        assert self._job is not None
        return self._job.target

    @property
    def place(self) -> workplace.Workplace:
        """The directory with the export's socket and its scratch file."""
        assert self._place is not None
        return self._place

    def prepare(self) -> None:
        """Do all that can be done before the guest is frozen.

        From here on, :meth:`close` has to follow.

        :raises Refused, Unusable: there cannot be a job; try another way
        """
        # Its lease outlasts its files.
        self._ending.callback(self._drop_lease)
        description = self.disk.domain.XMLDesc(0)
        self._job = backup_job.Job(
            self.disk.domain, description, self.disk.path)
        self._place = self._ending.enter_context(
            workplace.of_this_host().new(description, self._job.size))
        self._lease = self._jobs.take(
            self.disk.instance.uuid, self._place.files)
        # Until the opposite is proven.
        self._place.is_kept = True
        self._ending.callback(self._end_for_good)

    def begin(self) -> None:
        """Make the cut.

        :raises Refused: the hypervisor cannot do this; try another way
        :raises JobUnderWay: it waited in vain for another job to end
        """
        assert self._job is not None
        self._job.begin(self.place.files)

    def open(self) -> None:
        """Make the export readable for Nova, and for nobody else."""
        self.place.take_socket()

    def end(self) -> bool:
        """End the job, as soon as all is read. Never raises.

        :returns: whether it is known to have ended
        """
        assert self._lease is not None
        return self._jobs.end(self._lease)

    def close(self) -> None:
        """End the job, unless it has ended, and remove its files."""
        self._ending.close()

    def _end_for_good(self) -> None:
        self.place.is_kept = not self.end()

    def _drop_lease(self) -> None:
        if self._lease is None:
            return
        if self.place.is_kept:
            self._jobs.end_later(self._lease, functools.partial(
                workplace.remove, self.place.path, self.place.owners))
        else:
            self._jobs.drop(self._lease)
