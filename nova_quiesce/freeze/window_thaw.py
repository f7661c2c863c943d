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

"""The thaw that ends a freeze window.

The thread that closes the window waits for it only for a while. After that,
it goes on in the background until the agent shows that the guest is not
frozen. The window's lease ends only then.
"""

import functools
import logging

from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import replies
from nova_quiesce.freeze import thawing
from nova_quiesce.freeze import watched_lease

LOG = logging.getLogger(__name__)


class WindowThaw:
    """The thaw of the guest of one window.

    :param agent: the guest's agent
    :param watched: the window's lease, which is dropped once the guest is
        not frozen any more
    :param lease: that lease, as it was when the window was opened
    :param name: what to call the guest in the log
    :param machine: whose clocks and threads it uses
    :param patience: seconds to wait for it, and for one answer
    :param retry: seconds of the first pause between two tries
    :param frozen: how many filesystems were frozen; None where it is not
        known whether a freeze has reached the guest, or will
    :param settling: seconds until a freeze of which nothing is known has
        reached the guest, if it ever does
    :ivar ended: when it ended, by the machine's monotonic clock; None where
        it has not
    """

    def __init__(self, agent: guest_agent.Agent,
                 watched: watched_lease.WatchedLease, lease: leases.Lease,
                 name: str, machine: machines.Machine, patience: float,
                 retry: float, frozen: int | None,
                 settling: float) -> None:
        self.ended: float | None = None
        self._agent = agent
        self._watched = watched
        self._lease = lease
        self._name = name
        self._machine = machine
        self._patience = patience
        #: Seconds that one try takes at the most.
        self._longest = patience + min(patience, replies.SYNCHRONIZATION)
        self._thawing = thawing.Thawing(
            agent, self._why_stale, frozen, retry, machine.monotonic,
            settling, is_fresh=True)

    @property
    def count(self) -> int | None:
        """The count of filesystems that the first thaw found frozen."""
        return self._thawing.count

    @property
    def refusal(self) -> str | None:
        """The words of an agent that answered with no count."""
        return self._thawing.refusal

    def run(self) -> None:
        """Thaw the guest; go on in the background if that takes too long."""
        deadline = self._machine.monotonic() + self._patience
        try:
            self._keep_guard_off()
            outcome = self._thawing.run(
                self._tell, functools.partial(self._wait, deadline))
        except BaseException:
            self._go_on()
            raise
        if outcome is not None:
            self._end()
            return
        LOG.error('Guest %s did not confirm its thaw; nova-compute goes on '
                  'thawing it', self._name)
        self._go_on()

    def _go_on(self) -> None:
        try:
            self._machine.start('thaw-%s' % self._name, self._keep_thawing)
        except RuntimeError:
            # There are too many threads: then it is this one's.
            self._keep_thawing()

    def _keep_thawing(self) -> None:
        self._keep_guard_off()
        self._thawing.run(self._tell, functools.partial(self._wait, None))
        self._end()
        LOG.info('Guest %s is not frozen any more, at last', self._name)

    def _keep_guard_off(self) -> None:
        # One at a time, or the guest's hooks run for both: the guard's turn
        # comes where this process is not over with a try by then.
        self._watched.keep_guard_off(
            self._machine.monotonic() + self._longest)

    def _end(self) -> None:
        # The window ends with the thaw's answer, and not with the lease's
        # way to the disk.
        self.ended = self._machine.monotonic()
        self._watched.drop()

    def _why_stale(self) -> str | None:
        if self._watched.is_another():
            return 'another has thawed it, and frozen it anew'
        return leases.stale_reason(
            self._lease, self._machine.boot_id(), self._agent.presence())

    def _tell(self, error: Exception) -> None:
        LOG.warning('Guest %(name)s may still be frozen, thawing it again: '
                    '%(error)s',
                    {'name': self._name, 'error': errors.explain(error)})

    def _wait(self, deadline: float | None, seconds: float) -> bool:
        now = self._machine.monotonic()
        if deadline is not None and now >= deadline:
            return False
        self._watched.limit(now + seconds + self._longest)
        self._machine.sleep(seconds)
        return True
