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

"""The guard's program: it listens, logs, and ends in an orderly way."""

import argparse
from collections import abc
import logging
from logging import handlers
import os
import queue
import signal
import socket
import stat
import sys
import typing

import libvirt

from nova_quiesce.freeze.guard import session
from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOG_FORMAT = ('%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s '
               '%(message)s')
# In seconds: what a stuck log may delay the guard's end.
_LOG_TIMEOUT = 2


class GuardProcess:
    """All sessions of this process.

    :param open_uri: opens a connection to the hypervisor
    :param machine: whose clocks and threads are used
    """

    def __init__(self, open_uri: session.Open,
                 machine: machines.Machine) -> None:
        self._open_uri = open_uri
        self._machine = machine
        self._lock = machine.lock()
        self._sessions: set[session.Session] = set()
        self._is_stopping = False

    def attend(self, sock: socket.socket) -> None:
        """Serve one nova-compute until it is gone, and its guests thawed."""
        # eventlet, in the one who made it, makes a socket non-blocking.
        sock.setblocking(True)
        served = session.Session(sock, self._open_uri, self._machine)
        with self._lock:
            if self._is_stopping:
                sock.close()
                return
            self._sessions.add(served)
        served.run()
        with self._lock:
            self._sessions.discard(served)

    def accept(self, listener: socket.socket) -> None:
        """Serve whoever connects, each in a thread of its own, for ever."""
        while True:
            try:
                sock, _ = listener.accept()
                self._machine.start('serve', self.attend, sock)
            except (OSError, RuntimeError) as error:
                # Out of descriptors or threads, which passes.
                LOG.error('A connection was not accepted: %s', error)
                self._machine.sleep(1)

    def stop(self, why: str) -> None:
        """Thaw all guests, and wait until that is done.

        :param why: for the log
        """
        with self._lock:
            self._is_stopping = True
            sessions = list(self._sessions)
        for one in sessions:
            one.end(why)
            one.hang_up()
        for one in sessions:
            one.join()


def main(argv: abc.Sequence[str] | None = None,
         open_uri: session.Open = libvirt.open,
         machine: machines.Machine = machines.REAL) -> int:
    """Run the guard.

    :param argv: the command line, without the program
    :param open_uri: opens a connection to the hypervisor
    :param machine: whose clocks and threads are used
    :returns: the exit status
    """
    arguments = _arguments(argv)
    try:
        serve = _server(arguments)
    except OSError as error:
        print('the thaw guard cannot start: %s' % error, file=sys.stderr)
        return 1
    log = _start_log()
    _run(GuardProcess(open_uri, machine), serve, machine)
    if arguments.socket is not None:
        os.unlink(arguments.socket)
    _stop_log(log, machine)
    return 0


def run() -> typing.NoReturn:
    """The program ``nova-quiesce-guard``."""
    # Not sys.exit: threads may still wait in libvirt, or for a stuck log.
    os._exit(main())


def _arguments(argv: abc.Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='nova-quiesce-guard', description='Thaw the guests that '
        'nova-compute froze and cannot thaw any more.')
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument('--fd', type=int, help='serve the nova-compute at the '
                       'other end of this socket, and end with it')
    where.add_argument('--socket', type=os.path.abspath, metavar='PATH',
                       help='listen on this unix socket, as a service')
    return parser.parse_args(argv)


def _server(arguments: argparse.Namespace
            ) -> abc.Callable[[GuardProcess], None]:
    if arguments.socket is None:
        sock = socket.socket(fileno=arguments.fd)
        return lambda guard: guard.attend(sock)
    listener = _listen(arguments.socket)
    return lambda guard: guard.accept(listener)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_over(path)
        # It appears under its name once it can be connected to.
        new = path + '.new'
        _remove_left_over(new)
        umask = os.umask(0o177)
        try:
            listener.bind(new)
        finally:
            os.umask(umask)
        listener.listen()
        os.rename(new, path)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_left_over(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise
            os.unlink(path)
        else:
            raise FileExistsError('another guard listens on %s' % path)


def _run(guard: GuardProcess, serve: abc.Callable[[GuardProcess], None],
         machine: machines.Machine) -> None:
    # The one primitive that a signal handler may safely use.
    events: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def serve_until_eof() -> None:
        try:
            serve(guard)
        finally:
            events.put(None)

    for number in _SIGNALS:
        signal.signal(number, lambda got, _frame: events.put(
            'the guard was told to stop (%s)' % signal.Signals(got).name))
    # libvirt prints each error, also those that are dealt with.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    # No directory is kept from being unmounted.
    os.chdir('/')
    machine.start('serve', serve_until_eof)
    why = events.get()
    if why is not None:
        guard.stop(why)


def _start_log() -> handlers.QueueListener:
    # A log that is stuck must not keep a guest frozen: only the listener's
    # thread ever waits for it.
    logging.raiseExceptions = False
    stream = logging.StreamHandler()
    stream.setFormatter(logging.Formatter(_LOG_FORMAT, '%Y-%m-%d %H:%M:%S'))
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = handlers.QueueListener(records, stream)
    listener.start()
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handlers.QueueHandler(records))
    return listener


def _stop_log(listener: handlers.QueueListener,
              machine: machines.Machine) -> None:
    machine.start('stop-log', listener.stop).join(_LOG_TIMEOUT)
