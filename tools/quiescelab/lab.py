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

"""A running lab, for those who try things on it: tests and the demo.

``Lab.from_env()`` finds it. Everything here can be used with ``tools`` on the
Python path, and needs nothing but the standard library.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import os
import pathlib
import signal
import time

from quiescelab import access
from quiescelab import backends
from quiescelab.backends import rbd
from quiescelab import catalogue
from quiescelab import console
from quiescelab import daemon
from quiescelab import errors
from quiescelab import layout
from quiescelab import proc
from quiescelab import rest
from quiescelab.services import mariadb
from quiescelab.services import nova
from quiescelab.services import second
from quiescelab import site
from quiescelab import system
from quiescelab import waiting
from quiescelab import whole

#: Seconds that a service gets to come to the end of its transactions.
STOP_SECONDS = 30
#: Seconds between two looks at a transaction, and how many of them.
LOOK, LOOKS = 0.05, 6


@dataclasses.dataclass(frozen=True)
class Host:
    """A compute host of the lab.

    :ivar name: what Nova calls it
    :ivar paths: where its own files are
    :ivar prefix: what its services' names begin with
    """

    name: str
    paths: layout.Layout
    prefix: str = ''


class Lab:
    """A lab that is up.

    :param lab: its paths, memory and screen
    """

    def __init__(self, lab: site.Site):
        self._site = lab
        self._is_disturbed = False
        self.paths = lab.paths

    @classmethod
    def from_env(cls) -> 'Lab':
        """Find the lab that the environment names, else the default one.

        :raises NotRunning: it is not up
        """
        paths = layout.Layout.find()
        found = site.Site.at(paths, console.Console())
        if not paths.marker.exists() or not found.supervisor.everyone():
            raise errors.NotRunning(
                f'there is no lab running in {paths.root}: run "tools/lab '
                f'up", or set {layout.ROOT_VARIABLE}')
        return cls(found)

    @property
    def agent_log(self) -> pathlib.Path:
        """The log that libvirtd has of each command sent to a guest agent."""
        return self.paths.agent_log

    @property
    def libvirt_uri(self) -> str:
        """The address of the lab's libvirtd."""
        return self.paths.libvirt_uri

    @property
    def clouds(self) -> Mapping[str, access.Credentials]:
        """The credentials of the tenant, ``demo``, and of ``admin``."""
        return {name: access.credentials(self._site, name)
                for name in access.CLOUDS}

    def client(self, cloud: str = 'demo') -> rest.Client:
        """Return a signed-in client of the lab's APIs.

        :param cloud: ``demo`` or ``admin``
        """
        return rest.Client(self._site, cloud)

    def env(self, cloud: str = 'demo') -> dict[str, str]:
        """Return an environment for OpenStack's clients.

        :param cloud: ``demo`` or ``admin``
        """
        inherited = {name: value for name, value in
                     system.environment().items()
                     if not name.startswith('OS_')}
        return inherited | self.clouds[cloud].environment() | {
            'PATH': f'{self.paths.venv}/bin:{system.PATH}',
            'LIBVIRT_DEFAULT_URI': self.libvirt_uri,
            'CEPH_CONF': str(self.paths.etc('ceph') / 'ceph.conf'),
            layout.ROOT_VARIABLE: str(self.paths.root),
            # The clients would leave these in the home directory.
            'XDG_CACHE_HOME': str(self.paths.cache / 'clients'),
            'NOVACLIENT_UUID_CACHE_DIR': str(self.paths.cache / 'clients'),
        }

    def export_snapshot(self, backend: str, volume_id: str, snapshot_id: str,
                        target: pathlib.Path) -> None:
        """Copy a volume's snapshot, as it is in its storage, to a file.

        :param backend: the name of the volume's type
        """
        backends.ALL[backend].export_snapshot(
            self._site, volume_id, snapshot_id, target)

    @property
    def disks_with_volumes(self) -> Mapping[str, Mapping[str, object]]:
        """Options of nova-compute: disks are kept where volumes are.

        Images whose snapshots are to stay there have to be there, too: in
        Glance's store ``ceph``.
        """
        return {'libvirt': rbd.nova_options(self._site)}

    def log(self, name: str) -> pathlib.Path:
        """Return the log of a service."""
        return self.paths.log(name)

    def services(self) -> list[str]:
        """Return the names of the lab's processes."""
        return [one.name for one in catalogue.daemons(self._site)]

    def process(self, name: str) -> proc.Process | None:
        """Return the main process of a service, None if it is down.

        The lab counts as disturbed then: who has it can do anything to it.
        """
        self._is_disturbed = True
        return self._site.supervisor.find(name)

    def family(self, name: str) -> list[proc.Process]:
        """Return the main process of a service and its children.

        The lab counts as disturbed then, too.
        """
        self._is_disturbed = True
        return self._site.supervisor.family(name)

    def serving(self, name: str) -> list[proc.Process]:
        """Return the processes of an API that are at a request.

        The lab counts as disturbed then, too.
        """
        self._is_disturbed = True
        return proc.serving(layout.port(name))

    def start(self, name: str) -> None:
        """Start a service that is down, and wait until it answers.

        :raises LabError: it does not come up
        """
        if self.process(name) is None:
            self._site.supervisor.start(self._daemon(name))

    def stop(self, name: str, grace: float | None = None) -> None:
        """Stop a service as a service manager would: SIGTERM, then SIGKILL.

        :param name: the service
        :param grace: the seconds that it and its children get to end before
            they are killed; None for the lab's usual patience
        """
        self._is_disturbed = True
        usual = self._daemon(name).grace
        self._site.supervisor.stop(name, usual if grace is None else grace)

    def kill(self, name: str,
             number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a service's main process, and to no other."""
        main = self.process(name)
        if main is None:
            raise errors.NotRunning(f'{name} is down')
        main.signal(number)

    def kill_all(self, name: str) -> None:
        """Kill a service and its children at once; it stays down."""
        daemon.kill_all(self.family(name))

    def end_process(self, one: proc.Process) -> None:
        """Kill one process of the lab, and wait until it is gone.

        :raises LabError: it is still there
        """
        self._is_disturbed = True
        one.signal(signal.SIGKILL)
        if not proc.wait_for_end([one], STOP_SECONDS):
            raise errors.LabError(f'process {one.pid} does not end')

    def hold(self, name: str) -> None:
        """Have a service and its children stand still.

        Not within a transaction: for as long as they stood still, everybody
        else who needs a row that it has locked would wait, too.

        :raises LabError: they are always within one
        """
        self._is_disturbed = True
        waiting.wait(lambda: self._hold(name), STOP_SECONDS,
                     f'{name} to be in no transaction', LOOK)

    def go_on(self, name: str) -> None:
        """Have a service and its children go on that stand still."""
        self._signal(name, signal.SIGCONT)

    def end_disturbance(self) -> None:
        """Wait until the cloud is whole, if something was done to it here.

        :raises LabError: it does not become so; it names what is not,
            once
        """
        is_disturbed, self._is_disturbed = self._is_disturbed, False
        if is_disturbed:
            whole.wait(self._site)

    def _hold(self, name: str) -> bool:
        self._signal(name, signal.SIGSTOP)
        if self._is_in_transaction(name):
            self.go_on(name)
            return False
        return True

    def _is_in_transaction(self, name: str) -> bool:
        # Of those of others, which go on, none stays for long.
        staying = set(self._transactions(name))
        for _ in range(LOOKS):
            if staying:
                time.sleep(LOOK)
                staying &= set(self._transactions(name))
        return bool(staying)

    def _transactions(self, name: str) -> list[mariadb.Transaction]:
        owner = name.partition('-')[0]
        return [one for one in mariadb.transactions(self._site)
                if one.owner == owner]

    def _signal(self, name: str, number: signal.Signals) -> None:
        for one in self.family(name):
            one.signal(number)

    @contextlib.contextmanager
    def compute_options(
            self, options: Mapping[str, Mapping[str, object]]
            ) -> Iterator[None]:
        """Run nova-compute with other options for the length of the block.

        It is started again at both ends.

        :param options: sections of nova.conf with their options
        :raises LabError: it does not come up
        """
        self._restart_compute(options)
        try:
            yield
        finally:
            self._restart_compute({})

    @contextlib.contextmanager
    def environment(self, name: str,
                    variables: Mapping[str, str]) -> Iterator[None]:
        """Run a service with more in its environment for the block.

        It is started again at both ends.

        :param name: the service
        :param variables: its variables; ``OS_GROUP__OPTION`` is an option
        :raises LabError: it does not come up
        """
        usual = self._daemon(name)
        self.stop(name)
        try:
            self._site.supervisor.start(dataclasses.replace(
                usual, env={**usual.env, **variables}))
            yield
        finally:
            self.stop(name)
            self.start(name)

    @property
    def host(self) -> Host:
        """The compute host that is always there."""
        return Host(nova.HOST, self.paths)

    @contextlib.contextmanager
    def second_host(
            self, options: Mapping[str, Mapping[str, object]]
            ) -> Iterator[Host]:
        """Have one more compute host for the length of the block.

        Servers that are there at the end go with it.

        :param options: what its nova-compute has besides, by sections
        :raises LabError: it does not come up, or cannot be removed
        """
        # One that a killed test left.
        second.remove(self._site)
        try:
            second.start(self._site, options)
            yield Host(second.NAME, second.at(self._site).paths,
                       second.PREFIX)
        finally:
            second.remove(self._site)

    def fail_second_host(self) -> None:
        """Have the second compute host end as if its power failed."""
        second.end(self._site)

    def restore_second_host(self) -> None:
        """Have it start again, with what is on its disk."""
        second.boot(self._site)

    def _restart_compute(
            self, options: Mapping[str, Mapping[str, object]]) -> None:
        # It has nothing to end, and takes 6 s to find that out.
        self.stop(nova.COMPUTE, 0)
        nova.override(self._site, options)
        self.start(nova.COMPUTE)

    def _daemon(self, name: str) -> daemon.Daemon:
        return catalogue.find(self._site, name)


@contextlib.contextmanager
def locked(paths: layout.Layout) -> Iterator[None]:
    """Keep a second ``up`` or ``down`` away for the length of the block."""
    descriptor = os.open(paths.root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise errors.LabError(f'another command is at work in {paths.root}'
                              ) from None
    finally:
        os.close(descriptor)
