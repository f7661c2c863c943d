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

"""Build rules; what is built is described in setup.cfg."""

import os

import setuptools
from setuptools.command import build

PTH = 'nova_quiesce.pth'


class BuildPth(setuptools.Command):
    """Put the ``.pth`` file beside the package.

    A file of the package itself would land one directory too low, and a data
    file below ``sys.prefix``: Python reads neither there.
    """

    description = 'copy the .pth file that registers the alias'
    user_options: list[tuple[str, str | None, str]] = []

    # setuptools sets this where it builds an editable wheel.
    editable_mode = False

    def initialize_options(self) -> None:
        """Declare the options, as distutils asks."""
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        """Take the directory that the other build commands write to."""
        self.set_undefined_options('build', ('build_lib', 'build_lib'))

    def run(self) -> None:
        """Copy the file."""
        self.mkpath(self._target())
        self.copy_file(PTH, os.path.join(self._target(), PTH))

    def _target(self) -> str:
        # An editable wheel leaves out what was built, because the sources
        # stand in for it. The root of the wheel is where "install" points.
        if self.editable_mode:
            return str(self.get_finalized_command('install').install_lib)
        return str(self.build_lib)


class Build(build.build):
    """The stock build with the ``.pth`` file."""

    sub_commands = [*build.build.sub_commands, ('build_pth', None)]


class Distribution(setuptools.Distribution):
    """A distribution that knows the commands above.

    pbr puts its own commands in the place of those that ``setup()`` was
    called with.
    """

    _COMMANDS = {'build': Build, 'build_pth': BuildPth}

    def get_command_class(self, command: str) -> type[setuptools.Command]:
        """Find the class of a command.

        :param command: the command's name
        :returns: the class
        """
        return (self._COMMANDS.get(command)
                or super().get_command_class(command))


setuptools.setup(distclass=Distribution, pbr=True)
