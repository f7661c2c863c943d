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

"""Watching over one lease: its guest is thawed when the lease ends.

Each lease has a thread of its own, and a libvirt connection of its own, so
that a guest that hangs delays no other: libvirtd carries out only a few calls
of one connection at a time.
"""

from nova_quiesce.freeze import errors
from nova_quiesce.freeze import finder
from nova_quiesce.freeze.guard import watcher
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import response_limits
from nova_quiesce.freeze import thawing


class LeaseWatcher(watcher.Watcher):
    """The watch over one lease, whose guest is thawed when it ends.

    :param lease: the lease
    :param directory: where its file is
    :param connect: opens a connection to the hypervisor
    :param settings: how long the agent may take
    :param machine: whose clocks and threads are used
    """

    def __init__(self, lease: leases.Lease,
                 directory: lease_directory.LeaseDirectory,
                 connect: finder.Connect, settings: wire.GuardSettings,
                 machine: machines.Machine) -> None:
        super().__init__(lease.instance_uuid, machine, lease.deadline)
        self._lease = lease
        self._directory = directory
        self._find = finder.Finder(connect, lease.instance_uuid)
        self._agent = guest_agent.Agent(self._find, guest_agent.Timeouts(
            ask=settings.ask_timeout, freeze=settings.thaw_timeout,
            thaw=settings.thaw_timeout),
            limit=response_limits.ResponseLimit(machine))
        self._agent.limit.share(self)
        self._thawing = thawing.Thawing(
            self._agent, self._why_stale, None, settings.retry_interval,
            machine.monotonic, thawing.LOST_COMMAND)

    def latest_call(self) -> float | None:
        """Return when nova-compute may have begun its latest call.

        It is gone where this was ended before the deadline, and not released.

        :returns: by this machine's monotonic clock; None where it is gone
        """
        if self._released.is_set() or not self._ended.is_set():
            return self._machine.monotonic()
        return None

    def _end_it(self, why: str) -> None:
        self._say('thawing its guest, frozen for request %s (%s): %s' % (
            ', '.join(self._lease.owners), self._lease.purpose, why))
        outcome = self._thawing.run(self._tell, self._wait)
        self._find.close()
        if outcome is not None:
            self._say(outcome.reason)
            self._remove_lease()

    def _tell(self, error: Exception) -> None:
        self._say('its guest may still be frozen, thawing it again: %s'
                  % errors.explain(error))

    def _why_stale(self) -> str | None:
        if self._directory.is_another(self._lease):
            return 'its guest was thawed by another, and is frozen anew'
        return leases.stale_reason(
            self._lease, self._machine.boot_id(), self._agent.presence())

    def _remove_lease(self) -> None:
        try:
            self._directory.release(self._lease)
        except leases.LeaseError as error:
            self._say('its lease stays until nova-compute starts: %s' % error)
