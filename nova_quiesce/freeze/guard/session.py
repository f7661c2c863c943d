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

"""The conversation of the guard with one nova-compute, over one connection."""

from collections import abc
import logging
import os
import selectors
import socket
import struct
import typing

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import duties
from nova_quiesce.freeze.guard import job_watcher
from nova_quiesce.freeze.guard import lease_watcher
from nova_quiesce.freeze.guard import watcher
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

# Seconds from a process's last message to its end.
_LONGEST_EXIT = 0.5

#: Opens a connection to the hypervisor at a URI.
Open = abc.Callable[[str], domains.Connection]


class _PeerSocket(wire.MessageSocket):
    """The connection to a nova-compute, which ends when that process does.

    The socket alone would stay open in whatever nova-compute has forked.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.pid, self.uid, _gid = struct.unpack('3i', sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize('3i')))
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._process = self._watch_process()

    def is_peer_gone(self) -> bool:
        """Tell whether the nova-compute has ended, or cannot be seen."""
        if self._process is None:
            return True
        # A process that ends closes its sockets a moment before. What watches
        # it for messages may be at the descriptor itself.
        try:
            process = os.dup(self._process)
        except OSError:
            # The session is over, and its watchers were told.
            return True
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process, selectors.EVENT_READ)
                return bool(selector.select(_LONGEST_EXIT))
        finally:
            os.close(process)

    def hang_up(self) -> None:
        """End the connection; whoever waits for a message notices."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            LOG.debug('The connection of pid %d was closed before', self.pid)

    def close(self) -> None:
        """Close the connection."""
        self._selector.close()
        super().close()
        if self._process is not None:
            os.close(self._process)

    def _watch_process(self) -> int | None:
        try:
            process = os.pidfd_open(self.pid)
        except OSError:
            # It lives where its processes cannot be seen from here.
            return None
        self._selector.register(process, selectors.EVENT_READ)
        return process

    def _receive_some(self) -> bytes:
        ready = [key.fd for key, _ in self._selector.select()]
        if ready == [self._process]:
            return b''
        return super()._receive_some()


class Session:
    """The service for one nova-compute, over one connection.

    :param sock: the connection
    :param open_uri: opens a connection to the hypervisor
    :param machine: whose clocks and threads are used
    """

    def __init__(self, sock: socket.socket, open_uri: Open,
                 machine: machines.Machine = machines.REAL) -> None:
        self._peer = _PeerSocket(sock)
        self._open_uri = open_uri
        self._machine = machine
        self._settings: wire.GuardSettings | None = None
        self._lock = machine.lock()
        self._lease_watchers: dict[str, watcher.Watcher] = {}
        self._job_watchers: dict[str, watcher.Watcher] = {}
        self._over: str | None = None

    def run(self) -> None:
        """Serve until the connection ends, and all its guests are thawed."""
        peer = 'nova-compute (pid %d)' % self._peer.pid
        why = '%s is gone' % peer
        try:
            self._check_peer()
            self._answer_requests()
        except (OSError, wire.WireError) as error:
            why = '%s cannot be understood: %s' % (peer, error)
            LOG.error('The connection is closed, %s', why)
        finally:
            self.end(why)
            self._peer.close()
            self.join()

    def end(self, why: str) -> None:
        """Begin to thaw all guests, and take no others.

        The backup jobs of a nova-compute that lives are its own: it has lost
        this guard, and looks for another.

        :param why: for the log
        """
        with self._lock:
            self._over = self._over or why
            for one in self._lease_watchers.values():
                one.end(why)
            job_watchers = list(self._job_watchers.values())
        is_gone = bool(job_watchers) and self._peer.is_peer_gone()
        for one in job_watchers:
            if is_gone:
                one.end(why)
            else:
                one.release()

    def hang_up(self) -> None:
        """End the connection, so that nova-compute looks for another guard."""
        self._peer.hang_up()

    def join(self) -> None:
        """Wait until no guest is left to thaw."""
        with self._lock:
            watchers = [*self._lease_watchers.values(),
                        *self._job_watchers.values()]
        for one in watchers:
            one.join()

    def _check_peer(self) -> None:
        # The URI of another user could make this one run commands.
        if self._peer.uid not in (os.geteuid(), 0):
            raise wire.WireError('it runs as another user (uid %d)'
                                 % self._peer.uid)

    def _answer_requests(self) -> None:
        while (request := self._peer.receive()) is not None:
            answer: dict[str, object] = {'ok': True}
            try:
                self._carry_out(request)
            except Exception as error:
                # The one who asked can do without; the others' guests stay
                # guarded.
                answer = {'error': str(error) or repr(error)}
            self._peer.send(answer)

    def _carry_out(self, request: dict[str, typing.Any]) -> None:
        commands: dict[str, abc.Callable[[object], None]] = {
            'hello': self._hello, 'watch': self._watch,
            'keep_job': self._watch_job, 'release': self._release,
            'ping': lambda _: None}
        if len(request) != 1 or not request.keys() <= commands.keys():
            raise wire.RequestRefused('an unknown request')
        [(command, argument)] = request.items()
        commands[command](argument)

    def _hello(self, fields: object) -> None:
        settings = wire.GuardSettings.from_dict(fields)
        lease_directory.LeaseDirectory(settings.leases).prepare()
        # Better now than when a guest is frozen.
        self._open_uri(settings.uri).close()
        self._settings = settings

    def _watch(self, fields: object) -> None:
        lease = leases.Lease.from_dict(fields)
        settings = self._checked_settings()
        self._start(self._lease_watchers, lease.id, lease_watcher.LeaseWatcher(
            lease, lease_directory.LeaseDirectory(settings.leases),
            lambda: self._open_uri(settings.uri), settings, self._machine))

    def _watch_job(self, fields: object) -> None:
        lease = duties.Duty.from_dict(fields)
        settings = self._checked_settings()
        self._start(self._job_watchers, lease.id, job_watcher.JobWatcher(
            lease, jobs.Files.from_dict(lease.content),
            lambda: self._open_uri(settings.uri), settings.retry_interval,
            self._machine))

    def _start(self, watchers: dict[str, watcher.Watcher], identity: str,
               one: watcher.Watcher) -> None:
        with self._lock:
            if self._over:
                raise wire.RequestRefused(self._over)
            one.start()
            former = watchers.get(identity)
            watchers[identity] = one
        if former is not None:
            former.release()

    def _checked_settings(self) -> wire.GuardSettings:
        if self._settings is None:
            raise wire.RequestRefused('there was no hello')
        return self._settings

    def _release(self, lease_id: object) -> None:
        with self._lock:
            one = (self._lease_watchers.pop(str(lease_id), None) or
                   self._job_watchers.pop(str(lease_id), None))
        if one is not None:
            one.release()
