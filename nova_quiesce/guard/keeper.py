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

"""The guard's part for one lease: when to thaw its guest, and doing it.

Each lease has a thread of its own, and each try to thaw a libvirt connection
of its own, so that a guest that hangs delays no other: libvirtd carries out
only a few calls of one connection at a time.
"""

from collections import abc
import logging
import threading
import time
import typing

import libvirt

from nova_quiesce import agent as guest_agent
from nova_quiesce import exception
from nova_quiesce import lease as leases
from nova_quiesce import lease_directory

LOG = logging.getLogger(__name__)


class Connection(typing.Protocol):
    """What the guard calls of a libvirt ``virConnect``."""

    def lookupByUUIDString(self, uuidstr: str) -> guest_agent.Domain:
        """Find a domain."""

    def close(self) -> int:
        """Let go of the connection."""


#: Opens a connection to the hypervisor.
Connect = abc.Callable[[], Connection]


# Causes of a failure that are logged, each once, before it is assumed that
# the guest chooses the texts.
_MAX_CAUSES = 16


class _Over(Exception):
    """There is nothing left to thaw; the text says why."""


class Keeper:
    """Keeps one lease: its guest is thawed when it ends.

    :param lease: the lease
    :param directory: where its file is
    :param connect: opens a connection to the hypervisor
    :param thaw_timeout: seconds that the agent may take to answer one thaw
    :param retry_interval: seconds between two tries
    """

    def __init__(self, lease: leases.Lease,
                 directory: lease_directory.LeaseDirectory, connect: Connect,
                 thaw_timeout: int, retry_interval: float) -> None:
        self._lease = lease
        self._directory = directory
        self._connect = connect
        self._timeouts = guest_agent.Timeouts(
            ask=thaw_timeout, freeze=thaw_timeout, thaw=thaw_timeout)
        self._retry_interval = retry_interval
        self._said: set[str] = set()
        self._thawed_nothing = False
        self._why = 'its deadline has passed'
        self._ended = threading.Event()
        self._released = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, daemon=True, name=lease.instance_uuid)

    def start(self) -> None:
        """Begin to keep the lease.

        :raises RuntimeError: there are too many threads
        """
        self._thread.start()

    def release(self) -> None:
        """Forget the lease; the guest was thawed by another."""
        self._released.set()
        self._ended.set()

    def end(self, why: str) -> None:
        """Thaw the guest now.

        :param why: for the log
        """
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    def join(self) -> None:
        """Wait until nothing is left to do."""
        self._thread.join()

    def _keep(self) -> None:
        self._ended.wait(max(0, self._lease.deadline - time.monotonic()))
        if self._released.is_set():
            return
        self._say('thawing its guest, frozen for request %s (%s): %s' % (
            ', '.join(self._lease.owners), self._lease.purpose, self._why))
        outcome = None
        while outcome is None and not self._released.is_set():
            outcome = self._try() or self._pause()
        if outcome is not None:
            self._say(outcome)
            self._remove_lease()

    def _try(self) -> str | None:
        try:
            count = self._thaw()
        except (_Over, exception.GuestGone) as over:
            return str(over)
        except Exception as error:
            # Whatever it was, the guest may be frozen until it answers.
            self._say_once('its guest may still be frozen, thawing it again: '
                           '%s' % error)
            return None
        if count:
            return 'its guest is thawed (%d filesystems)' % count
        # A freeze that nova-compute sent before it died may still wait in
        # libvirtd, overtaken by this thaw. By the next one it has landed.
        is_repeated, self._thawed_nothing = self._thawed_nothing, True
        return 'its guest is not frozen any more' if is_repeated else None

    def _thaw(self) -> int:
        connection = self._connect()
        try:
            return guest_agent.Agent(
                lambda: self._domain(connection), self._timeouts).thaw()
        finally:
            _close(connection)

    def _domain(self, connection: Connection) -> guest_agent.Domain:
        domain = connection.lookupByUUIDString(self._lease.instance_uuid)
        stale = leases.stale_reason(
            self._lease, leases.host_boot_id(), domain.ID())
        if stale:
            raise _Over(stale)
        return domain

    def _pause(self) -> str | None:
        self._released.wait(self._retry_interval)
        try:
            holder = self._directory.read(self._lease.instance_uuid)
        except leases.LeaseError:
            return None
        if holder is None or holder.is_same(self._lease):
            return None
        return 'its guest was thawed by another, and is frozen anew'

    def _remove_lease(self) -> None:
        try:
            self._directory.release(
                self._lease.instance_uuid, only=self._lease)
        except leases.LeaseError as error:
            self._say('its lease stays until nova-compute starts: %s' % error)

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < _MAX_CAUSES:
            self._said.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        LOG.warning('Instance %(uuid)s: %(text)s',
                    {'uuid': self._lease.instance_uuid, 'text': text})


def _close(connection: Connection) -> None:
    try:
        connection.close()
    except libvirt.libvirtError as error:
        LOG.debug('A connection to libvirt was not closed: %s', error)
