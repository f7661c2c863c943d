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

"""nova-compute's end of the thaw guard: it starts the guard, and talks to it.

It needs plain sockets, locks and processes of the standard library only, so
it works with native threads and with eventlet's green ones.
"""

from collections import abc
import dataclasses
import logging
import socket
import subprocess
import sys

from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze.guard import deferred
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

#: The guard as a child: this interpreter, without its working directory
#: among the places that modules are imported from.
COMMAND = (sys.executable, '-P', '-m', 'nova_quiesce.freeze.guard')

#: Seconds that a guard has to answer.
ANSWER_TIMEOUT = 2
#: Seconds that it has to start and to reach the hypervisor.
START_TIMEOUT = 15
#: After a start that failed and took longer than that, nobody is kept waiting
#: by another one for a while; both in seconds.
SLOW, REST = 2, 10


class GuardUnavailable(errors.NotFrozen):
    """No guard would thaw the guest if nova-compute died."""

    def __init__(self) -> None:
        super().__init__(
            'the thaw guard of this compute host does not work; ask its '
            'operator, whom the log of nova-compute tells why')


class GuardClient:
    """The connection of this nova-compute to its thaw guard.

    Safe to use from several threads at once. The next call replaces a guard
    that died, or does not answer, and tells the new one of all open leases.

    :param settings: what the guard has to know
    :param socket_path: where a guard that is a service of its own listens;
        None starts one as a child of this process
    :param command: the child's command line
    :param machine: whose clocks and threads are used
    :ivar let_go_at: when a guard was last lost, or let go, by the machine's
        monotonic clock: one that lives thaws what it watched; None if never
    """

    def __init__(self, settings: wire.GuardSettings,
                 socket_path: str | None = None,
                 command: abc.Sequence[str] = COMMAND,
                 machine: machines.Machine = machines.REAL) -> None:
        self._settings = settings
        self._machine = machine
        self._socket_path = socket_path
        self._command = command
        self._lock = machine.lock()
        self._connection: wire.MessageSocket | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        #: What this was told to watch, as it was told, by its id.
        self._watched: dict[str, dict[str, object]] = {}
        self._is_stopped = False
        self._refused_until = 0.0
        self.let_go_at: float | None = None
        self._deferred = deferred.DeferredCalls(machine)

    def defer(self, call: abc.Callable[..., None],
              *arguments: object) -> None:
        """Tell the guard something, and do not wait for it.

        A guard that hangs keeps nobody waiting who has a guest frozen. What is
        deferred is told in its order. Never raises.

        :param call: one of this guard's methods
        """
        self._deferred.add(call, *arguments)

    def start(self) -> None:
        """Start the guard, or connect to it.

        :raises GuardUnavailable: that failed; :meth:`watch` tries it again
        """
        with self._lock:
            self._is_stopped = False
            if self._connection is None:
                self._connect()

    def watch(self, lease: leases.Lease) -> None:
        """Have a guest thawed when its lease ends, or this process does.

        To be called before the freeze is sent, and again when the lease was
        updated.

        :raises GuardUnavailable: nobody watches; do not freeze
        """
        self._have_watched(lease.id, {'watch': lease.to_dict()})

    def watch_job(self, lease: duties.Duty) -> None:
        """Have a backup job ended when this process ends.

        To be called before it begins.

        :param lease: the job's
        :raises GuardUnavailable: nobody does so
        """
        self._have_watched(
            lease.id, {'keep_job': dataclasses.asdict(lease)})

    def _have_watched(self, identity: str,
                      request: dict[str, object]) -> None:
        with self._lock:
            if self._is_stopped:
                raise GuardUnavailable()
            before = dict(self._watched)
            self._watched[identity] = request
            try:
                self._tell(request)
            except GuardUnavailable:
                self._watched = before
                raise

    def release(self, lease_id: str) -> None:
        """End a watch: the guest is thawed, or the job ended. Never raises.

        :param lease_id: of either's lease
        """
        with self._lock:
            if self._watched.pop(lease_id, None) is None:
                return
            try:
                self._tell({'release': lease_id})
            except GuardUnavailable:
                LOG.error('No thaw guard watches over the %d guests that are '
                          'frozen or copied now', len(self._watched))

    def is_usable(self) -> bool:
        """Tell whether it would watch now; one that died is replaced first."""
        with self._lock:
            if self._is_stopped:
                return False
            try:
                if self._connection is not None:
                    self._tell({'ping': True})
                if self._connection is None:
                    self._connect()
            except GuardUnavailable:
                return False
            return True

    def stop(self, timeout: float = 10) -> None:
        """Have the guard thaw what is left, and end it.

        :param timeout: seconds to wait for its end; it goes on without
        """
        deadline = self._machine.monotonic() + timeout
        # What was thawed just now must not be thawed once more.
        told = self._machine.event()
        self.defer(told.set)
        told.wait(ANSWER_TIMEOUT)
        with self._lock:
            self._is_stopped = True
            self._watched.clear()
            self._disconnect()
            for child in self._children:
                _wait_for(
                    child, max(0, deadline - self._machine.monotonic()))
            self._reap()

    def _tell(self, request: dict[str, object]) -> None:
        if self._connection is None:
            self._reconnect()
            return
        try:
            self._ask(request, ANSWER_TIMEOUT)
        except wire.RequestRefused as error:
            LOG.error('The thaw guard refuses: %s', error)
            raise GuardUnavailable() from error
        except (OSError, wire.WireError) as error:
            LOG.error('The thaw guard is lost: %s', error)
            self._abandon(error)
            self._reconnect()

    def _reconnect(self) -> None:
        if self._watched:
            self._connect()

    def _connect(self) -> None:
        began = self._machine.monotonic()
        if began < self._refused_until:
            raise GuardUnavailable()
        self._reap()
        try:
            self._connection = wire.MessageSocket(self._new_socket())
            self._ask({'hello': dataclasses.asdict(self._settings)},
                      START_TIMEOUT)
            for request in self._watched.values():
                self._ask(request, ANSWER_TIMEOUT)
        except (OSError, wire.WireError) as error:
            LOG.error('The thaw guard cannot be used: %s', error)
            self._abandon(error)
            if self._machine.monotonic() - began > SLOW:
                # Whoever comes next does not pay for it once more.
                self._refused_until = self._machine.monotonic() + REST
            raise GuardUnavailable() from error
        LOG.info('The thaw guard is ready')

    def _ask(self, request: dict[str, object], timeout: float) -> None:
        if self._connection is None:
            raise ConnectionError('it does not run')
        self._connection.ask(request, timeout)

    def _disconnect(self) -> None:
        # A guard that still lives thaws now all that it was told of.
        if self._connection is not None:
            self.let_go_at = self._machine.monotonic()
            self._connection.close()
            self._connection = None

    def _new_socket(self) -> socket.socket:
        if self._socket_path is None:
            return self._start_child()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(ANSWER_TIMEOUT)
            sock.connect(self._socket_path)
        except OSError:
            sock.close()
            raise
        return sock

    def _start_child(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # In a session of its own, a terminal's ^C does not reach it.
                self._children.append(subprocess.Popen(
                    [*self._command, '--fd', str(theirs.fileno())],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()], start_new_session=True))
            except OSError:
                ours.close()
                raise
        return ours

    def _abandon(self, error: Exception) -> None:
        if isinstance(error, TimeoutError) and self._socket_path is None:
            # It only sleeps, maybe, and would then, once awake, thaw what
            # its successor watches over.
            self._children[-1].kill()
        self._disconnect()

    def _reap(self) -> None:
        self._children = [child for child in self._children
                          if child.poll() is None]


def _wait_for(child: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        LOG.warning('The thaw guard (pid %d) goes on thawing guests that do '
                    'not answer', child.pid)
