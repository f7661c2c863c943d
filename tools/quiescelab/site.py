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

"""One lab at work: its paths, its memory, and where it tells of progress."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import pathlib

from quiescelab import console
from quiescelab import daemon
from quiescelab import layout
from quiescelab import state
from quiescelab import system

OUR_DRIVER = 'quiesce.QuiesceLibvirtDriver'


@dataclasses.dataclass(frozen=True)
class Site:
    """The things that each part of the lab works with.

    :param paths: where everything is
    :param state: what is remembered
    :param screen: where progress is told
    """

    paths: layout.Layout
    state: state.State
    screen: console.Console

    @classmethod
    def at(cls, paths: layout.Layout, screen: console.Console) -> 'Site':
        """Return the lab of a directory."""
        return cls(paths, state.State(paths.state), screen)

    @functools.cached_property
    def supervisor(self) -> daemon.Supervisor:
        """The supervisor, which starts and stops the lab's processes."""
        return daemon.Supervisor(self.paths)

    @property
    def driver(self) -> str:
        """Nova's ``compute_driver``."""
        return self.state.get('driver') or OUR_DRIVER

    @property
    def nova(self) -> str:
        """The release of Nova; empty for the newest."""
        return self.state.get('nova') or ''

    @property
    def virt_type(self) -> str:
        """Nova's ``[libvirt] virt_type``."""
        return self.state.get('virt_type') or 'qemu'

    @property
    def software(self) -> str:
        """The version of what is installed in the virtualenv."""
        return self.state.get('done:python') or ''

    def run(self, step: str, argv: Sequence[str], user: str = 'root',
            env: dict[str, str] | None = None, stdin: str = '',
            accept: Sequence[int] = (0,)) -> None:
        """Run a set-up command with the virtualenv's programs on its path.

        :param step: the name of the log
        :param argv: the command
        :param user: who runs it
        :param env: variables to set besides
        :param stdin: what it reads
        :param accept: the exit codes that are no failure
        :raises CommandFailed: on any other exit code
        """
        path = f'{self.paths.venv}/bin:{system.PATH}'
        home = str(self.paths.root)
        system.run(argv, log=self.paths.log(f'setup-{step}'), user=user,
                   env={'PATH': path, 'HOME': home, **(env or {})},
                   stdin=stdin, accept=accept)

    def once(self, step: str, does: Callable[[], None],
             version: str = 'yes') -> None:
        """Do a step unless it was finished before, for the same version."""
        if not self.state.done(step, version):
            does()
            self.state.mark(step, version)

    def config(self, service: str, name: str, text: str,
               user: str) -> pathlib.Path:
        """Write a configuration file that its service's user may read.

        :param service: the directory below ``etc``
        :param name: the file
        :param text: the content, which may hold passwords
        :param user: the service's user
        :returns: the path of the file
        """
        path = self.paths.etc(service) / name
        system.write_file(path, text, group=user, mode=0o640)
        return path
