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

"""Starting, finding and stopping the lab's processes.

Each process gets a record with its id and start time, so that an id which
the kernel gave to somebody else is never signalled, a session of its own, and
a variable in its environment, so that no child of it gets lost: some leave the
session, and some overwrite their environment.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import time

from quiescelab import errors
from quiescelab import layout
from quiescelab import proc
from quiescelab import ready
from quiescelab import system

MARK = 'NOVA_QUIESCE_LAB_DAEMON'
KILL_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Daemon:
    """A process that the lab keeps running.

    :param name: its name in the lab
    :param argv: the command, which stays in the foreground
    :param user: who runs it
    :param env: variables besides PATH, HOME and the language
    :param home: its home directory
    :param inputs: files whose new content asks for a restart
    :param versions: words whose change asks for a restart
    :param port: where it listens, if it does
    :param prepare: does what needs the daemons before it; run at each start
    :param ready: tells whether it answers; None if nothing tells
    :param patience: the seconds it may take to be ready
    :param grace: the seconds it gets to end before it is killed
    """

    name: str
    argv: tuple[str, ...]
    user: str = 'root'
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    home: pathlib.Path = pathlib.Path('/')
    inputs: tuple[pathlib.Path, ...] = ()
    versions: tuple[str, ...] = ()
    port: int | None = None
    prepare: Callable[[], None] | None = None
    ready: Callable[[], bool] | None = None
    patience: float = 120
    grace: float = 20

    def fingerprint(self) -> str:
        """Return what changes when the process has to be restarted."""
        told = (self.argv, self.user, sorted(self.env.items()), self.versions)
        digest = hashlib.sha256(repr(told).encode())
        for path in self.inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()


class Supervisor:
    """The lab's processes.

    :param paths: where the lab is
    """

    def __init__(self, paths: layout.Layout):
        self._paths = paths

    def find(self, name: str) -> proc.Process | None:
        """Return the running process of a daemon, or None."""
        found = self._leader(name)
        return found if found and found.alive else None

    def up_to_date(self, daemon: Daemon) -> bool:
        """Tell whether it runs, and with its present settings."""
        record = self._record(daemon.name)
        return (self.find(daemon.name) is not None and record is not None
                and record['fingerprint'] == daemon.fingerprint())

    def ensure(self, daemon: Daemon) -> bool:
        """Start a daemon unless it runs with its present settings.

        :returns: whether it was started
        """
        if self.up_to_date(daemon):
            return False
        self.stop(daemon.name, daemon.grace)
        self.start(daemon)
        return True

    def start(self, daemon: Daemon) -> None:
        """Start a daemon and wait until it is ready.

        :param daemon: one that does not run
        :raises LabError: it ends or does not get ready in time
        """
        if daemon.port and ready.busy_ports([daemon.port]):
            raise errors.LabError(
                f'{daemon.name} needs port {daemon.port} of {layout.HOST}, '
                f'which somebody else listens on: see "ss -ltnp"')
        if daemon.prepare:
            daemon.prepare()
        process = self._spawn(daemon)
        self._remember(daemon, process)
        self._wait(daemon, process)

    def stop(self, name: str, grace: float) -> None:
        """Ask a daemon to end, then what it left, and see to it.

        :param name: the daemon's name
        :param grace: the seconds that they get, each time, before they are
            killed
        """
        main = self.find(name)
        end([main] if main else [], grace)
        end(self.family(name), grace)
        self._pid_file(name).unlink(missing_ok=True)

    def family(self, name: str) -> list[proc.Process]:
        """Return the processes of one daemon, its children's too."""
        return self._of_family(name, proc.everyone())

    def idle(self, names: Iterable[str]) -> dict[str, str]:
        """Return the daemons that can do nothing, and why.

        :param names: those to look at
        """
        stopped = [one for one in proc.everyone() if proc.stands_still(one)]
        found = {}
        for name in names:
            if self.find(name) is None:
                found[name] = 'is down'
            elif self._of_family(name, stopped):
                found[name] = 'stands still'
        return found

    def everyone(self) -> list[proc.Process]:
        """Return the processes of all daemons, recorded or not."""
        names = [path.stem for path in self._paths.pids.glob('*.json')]
        known = {one for name in names for one in self.family(name)}
        marked = {one for one in proc.everyone() if proc.environment(one).get(
            MARK, '').startswith(self._mark(''))}
        return list(known | marked)

    def _of_family(self, name: str,
                   among: Iterable[proc.Process]) -> list[proc.Process]:
        leader, mark = self._leader(name), self._mark(name)
        return [one for one in among
                if proc.environment(one).get(MARK) == mark
                or leader and proc.in_session_of(one, leader)]

    def _leader(self, name: str) -> proc.Process | None:
        record = self._record(name)
        if record is None:
            return None
        return proc.Process(int(record['pid']), int(record['start']))

    def _mark(self, name: str) -> str:
        return f'{self._paths.root}:{name}'

    def _spawn(self, daemon: Daemon) -> proc.Process:
        argv = system.as_user(daemon.user, daemon.argv)
        log = os.open(self._paths.log(daemon.name),
                      os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            pid = os.posix_spawnp(
                argv[0], argv, self._environment(daemon), setsid=True,
                setsigmask=[], setsigdef=[signal.SIGPIPE, signal.SIGINT],
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2)])
        finally:
            os.close(log)
        process = proc.Process.of(pid)
        if process is None:
            raise self._failure(daemon, 'ended at once')
        return process

    def _environment(self, daemon: Daemon) -> dict[str, str]:
        path = f'{self._paths.venv}/bin:{system.PATH}'
        return {'PATH': path, 'HOME': str(daemon.home), 'LANG': 'C.UTF-8',
                'PYTHONUNBUFFERED': '1', **daemon.env,
                MARK: self._mark(daemon.name)}

    def _wait(self, daemon: Daemon, process: proc.Process) -> None:
        deadline = time.monotonic() + daemon.patience
        while daemon.ready and not daemon.ready():
            if not process.alive:
                raise self._failure(daemon, 'ended while it was starting')
            if time.monotonic() > deadline:
                raise self._failure(
                    daemon, f'did not get ready in {daemon.patience:.0f} s')
            time.sleep(proc.POLL_SECONDS)

    def _failure(self, daemon: Daemon, what: str) -> errors.LabError:
        return errors.LabError(f'{daemon.name} {what}',
                               self._paths.log(daemon.name))

    def _pid_file(self, name: str) -> pathlib.Path:
        return self._paths.pids / f'{name}.json'

    def _record(self, name: str) -> dict[str, str] | None:
        try:
            text = self._pid_file(name).read_text()
        except FileNotFoundError:
            return None
        return {key: str(value) for key, value in json.loads(text).items()}

    def _remember(self, daemon: Daemon, process: proc.Process) -> None:
        system.write_file(self._pid_file(daemon.name), json.dumps({
            'pid': process.pid, 'start': process.start,
            'fingerprint': daemon.fingerprint()}))


def end(family: Sequence[proc.Process], grace: float) -> None:
    """Ask processes to end, and kill those that have not done so in time.

    :param family: the processes
    :param grace: the seconds that they get
    """
    for one in family:
        one.signal(signal.SIGTERM)
    if not proc.wait_for_end(family, grace):
        kill_all(family)


def kill_all(family: Sequence[proc.Process]) -> None:
    """Kill processes, and wait until the kernel has done it."""
    for one in family:
        one.signal(signal.SIGKILL)
    proc.wait_for_end(family, KILL_SECONDS)
