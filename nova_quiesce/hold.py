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

"""What outlives this process while a guest is frozen.

A lease on the disk tells the next nova-compute of a guest that may be frozen,
and the guard thaws it if this one dies or stalls. Both are there before the
freeze is sent, and end only with a confirmed thaw.
"""

from collections import abc
import contextlib
import dataclasses
import logging
import time

from nova_quiesce import exception
from nova_quiesce.guard import handle
from nova_quiesce import lease as leases
from nova_quiesce import lease_directory

LOG = logging.getLogger(__name__)

#: Seconds by which the guard lets this process go first at a deadline, so
#: that the guest's thaw hooks run once.
GRACE = 0.5


class NoLease(exception.NotFrozen):
    """The lease could not be written, so the guest was not frozen."""

    def __init__(self) -> None:
        super().__init__(
            'this compute host cannot write down that it freezes the guest; '
            'ask its operator, who can move the instance to another')


class Hold:
    """The lease of one window, and the guard's watch over it.

    :param directory: where the lease is kept
    :param guard: watches; None where the operator switched it off
    :param is_guard_required: whether a freeze without a guard is refused
    :param new_lease: makes the lease, which begins as it is made
    """

    def __init__(self, directory: lease_directory.LeaseDirectory,
                 guard: handle.Guard | None, is_guard_required: bool,
                 new_lease: abc.Callable[[], leases.Lease]) -> None:
        self._directory = directory
        self._guard = guard
        self._is_guard_required = is_guard_required
        self._new_lease = new_lease
        self._lease: leases.Lease | None = None

    def take(self) -> None:
        """Write the lease, and have it watched.

        :raises NotFrozen: another one holds this instance's lease, it cannot
            be written, or nobody would watch over it
        """
        lease = self._new_lease()
        try:
            self._directory.acquire(lease)
        except leases.LeaseError as error:
            # Its text names paths of the host, which are not for tenants.
            LOG.error('The lease of instance %(uuid)s was not written, and '
                      'its guest is not frozen: %(error)s',
                      {'uuid': lease.instance_uuid, 'error': error})
            raise NoLease() from error
        self._lease = lease
        with contextlib.ExitStack() as undo:
            undo.callback(self.drop)
            self._have_watched(lease)
            undo.pop_all()

    def limit(self, seconds: float) -> None:
        """Bring the guard's deadline forward, now that the guest is frozen.

        :param seconds: from now until this process thaws by itself
        """
        if self._lease is not None:
            self._have_watched(dataclasses.replace(
                self._lease, deadline=time.monotonic() + seconds + GRACE))

    def drop(self) -> None:
        """Give both up: the guest is not frozen. Never raises."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if self._guard is not None:
            self._guard.release(lease.instance_uuid)
        try:
            self._directory.release(lease.instance_uuid, only=lease)
        except leases.LeaseError as error:
            LOG.error('The lease of instance %(uuid)s stays behind, and '
                      'keeps it from being quiesced until nova-compute is '
                      'restarted: %(error)s',
                      {'uuid': lease.instance_uuid, 'error': error})

    def _have_watched(self, lease: leases.Lease) -> None:
        if self._guard is None:
            return
        try:
            self._guard.watch(lease)
        except handle.GuardUnavailable:
            if self._is_guard_required:
                raise
            LOG.error('Instance %s is frozen without a thaw guard: it stays '
                      'frozen if nova-compute dies now',
                      lease.instance_uuid)
