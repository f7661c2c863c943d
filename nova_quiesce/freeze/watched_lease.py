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

"""The lease of one freeze window, with the guard's watch over it.

The lease on the disk tells the next nova-compute of a guest that may be
frozen, and the guard thaws it if this one dies or stalls. Both are there
before the freeze is sent, and end only with a proof.
"""

from collections import abc
import contextlib
import dataclasses
import logging

from nova_quiesce.freeze import errors
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

#: Seconds by which the guard lets this process go first at a deadline, so
#: that the guest's thaw hooks run once.
GRACE = 0.5
_RELEASE_PAUSE = 10.0


class NoLease(errors.NotFrozen):
    """The lease could not be written, so the guest was not frozen."""

    def __init__(self) -> None:
        super().__init__(
            'this compute host cannot write down that it freezes the guest; '
            'ask its operator, who can move the instance to another')


class WatchedLease:
    """The lease of a frozen guest, and the guard's watch: both outlive us.

    :param directory: where the lease is kept
    :param guard: watches; None where the operator switched it off
    :param is_guard_required: whether a freeze without a guard is refused
    :param new_lease: makes the lease, which begins as it is made; its deadline
        is the latest that may be
    :param answer: seconds until the freeze is answered, or will not be: then
        the guard thaws, unless :meth:`limit` has moved that
    :param machine: whose threads use it
    :param admit: refuses a freeze that must not begin now; called once the
        lease is there for others to see
    """

    def __init__(self, directory: lease_directory.LeaseDirectory,
                 guard: guard_client.GuardClient | None,
                 is_guard_required: bool,
                 new_lease: abc.Callable[[], leases.Lease], answer: float,
                 machine: machines.Machine,
                 admit: abc.Callable[[], None] = lambda: None) -> None:
        self._directory = directory
        self._guard = guard
        self._is_guard_required = is_guard_required
        self._new_lease = new_lease
        self._answer = answer
        self._admit = admit
        self._machine = machine
        # Whoever moves the deadline must not bring back what was given up.
        self._lock = machine.lock()
        self._lease: leases.Lease | None = None
        #: When the guard begins to thaw, give or take its grace.
        self._guard_from: float | None = None
        self._told_at = 0.0
        #: Whether it may have begun, and when it may have last gone on.
        self._is_guard_at_it = False
        self._guard_until: float | None = None

    @property
    def lease(self) -> leases.Lease:
        """The lease, while it is held."""
        assert self._lease is not None, 'the lease is not held'
        return self._lease

    def take(self) -> None:
        """Write the lease, and have it watched.

        :raises NotFrozen: another one holds this instance's lease, it cannot
            be written, nobody would watch over it, or no freeze may begin
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
            began = self._machine.monotonic()
            self._told_at, self._guard_from = began, began + self._answer
            self._have_watched(self._ending(lease, self._guard_from))
            self._admit()
            undo.pop_all()
        # A guard that was replaced took its time, which is none of the freeze.
        now = self._machine.monotonic()
        if now - began > GRACE:
            self.limit(now + self._answer)

    def limit(self, deadline: float) -> None:
        """Move the guard's deadline to where this process has its own.

        Never raises, and does not wait for the guard.

        :param deadline: when this process thaws by itself, by its machine's
            monotonic clock
        """
        with self._lock:
            if self._lease is not None and self._guard is not None:
                # A guard that has begun goes on until it is told to end.
                self._is_guard_at_it = self._may_guard_be_at_it()
                self._guard_from = deadline
                self._guard.defer(
                    self._guard.watch, self._ending(self._lease, deadline))

    def keep_guard_off(self, moment: float) -> None:
        """Have the guard begin no sooner, because this process is at it.

        Never raises, and does not wait for the guard.

        :param moment: when what this process does is over, by its machine's
            monotonic clock
        """
        if self._guard_from is not None and self._guard_from < moment:
            self.limit(moment)

    @staticmethod
    def _ending(lease: leases.Lease, deadline: float) -> leases.Lease:
        """Return a lease as the guard is told of it."""
        return dataclasses.replace(lease, deadline=deadline + GRACE)

    def drop(self) -> None:
        """Give both up: the guest is not frozen. Never raises."""
        with self._lock:
            lease, self._lease = self._lease, None
            if lease is None:
                return
            # One that has not begun by now will not; one that has ends the
            # call that it is at.
            self._guard_until = self.latest_call()
            self._is_guard_at_it, self._guard_from = False, None
            if self._guard is not None:
                self._guard.defer(self._guard.release, lease.id)
        if not self._release(lease):
            self._release_later(lease)

    def latest_call(self) -> float | None:
        """Return when the guard may have begun its latest call of the agent.

        :returns: by this machine's monotonic clock; None where it has not
            begun to thaw
        """
        if self._may_guard_be_at_it():
            return self._machine.monotonic()
        return self._guard_until

    def _may_guard_be_at_it(self) -> bool:
        if self._guard is None or self._guard_from is None:
            return False
        let_go_at = self._guard.let_go_at
        return (self._is_guard_at_it
                or self._machine.monotonic() >= self._guard_from
                or (let_go_at is not None and let_go_at >= self._told_at))

    def is_another(self) -> bool:
        """Tell whether the instance has another lease: see the directory."""
        return self._directory.is_another(self.lease)

    def _release(self, lease: leases.Lease) -> bool:
        try:
            self._directory.release(lease)
        except leases.LeaseError as error:
            LOG.error('The lease of instance %(uuid)s stays behind, and '
                      'keeps it from being quiesced: %(error)s',
                      {'uuid': lease.instance_uuid, 'error': error})
            return False
        return True

    def _release_later(self, lease: leases.Lease) -> None:
        try:
            self._machine.start('release-%s' % lease.instance_uuid,
                                self._keep_releasing, lease)
        except RuntimeError as error:
            LOG.error('The lease of instance %(uuid)s stays behind until '
                      'nova-compute is restarted: %(error)s',
                      {'uuid': lease.instance_uuid, 'error': error})

    def _keep_releasing(self, lease: leases.Lease) -> None:
        # Such as a full disk, or no file descriptors: it passes.
        self._machine.sleep(_RELEASE_PAUSE)
        while not self._release(lease):
            self._machine.sleep(_RELEASE_PAUSE)

    def _have_watched(self, lease: leases.Lease) -> None:
        if self._guard is None:
            return
        try:
            self._guard.watch(lease)
        except guard_client.GuardUnavailable:
            if self._is_guard_required:
                raise
            LOG.error('Instance %s is frozen without a thaw guard: it stays '
                      'frozen if nova-compute dies now',
                      lease.instance_uuid)
