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

"""Real installs of Nova and of this package.

What is costly is made once per run and shared: the packages that Nova
depends on lie in one directory, which each environment has on its path. Where
Nova and this package lie is what the layouts differ in, so these two are
installed anew in each.
"""

import atexit
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
CONSTRAINTS = pathlib.Path(os.environ.get('TOX_CONSTRAINTS_FILE')
                           or ROOT / 'upper-constraints.txt')
# Bytecode that a run leaves behind would look like a leftover of uninstall.
PYTHON_FLAGS = ('-B', '-I')


def run(*command: str | pathlib.Path, cwd: str | pathlib.Path = '/') -> str:
    """Run a command that has to succeed.

    :param command: the program and its arguments
    :param cwd: where to run it
    :returns: what it wrote to its standard output
    :raises AssertionError: it failed; tells all that it wrote
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True,
                          env=_environ())
    if done.returncode:
        raise AssertionError(f'{command}: {done.stdout}\n{done.stderr}')
    return done.stdout


def _environ() -> dict[str, str]:
    # nova-compute is to choose its concurrency mode by itself.
    return {name: value for name, value in os.environ.items()
            if name != 'OS_NOVA_DISABLE_EVENTLET_PATCHING'}


class Environment:
    """A virtualenv.

    :param name: its directory, below the scratch directory
    """

    def __init__(self, name: str) -> None:
        self.root = scratch() / name
        run(sys.executable, '-m', 'venv', '--without-pip', self.root)
        self.python = self.root / 'bin' / 'python'
        self.site_packages = pathlib.Path(self.run(
            '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'
        ).strip())

    def run(self, *arguments: str | pathlib.Path) -> str:
        """Run its Python.

        :param arguments: the arguments
        :returns: what it wrote to its standard output
        """
        return run(self.python, *PYTHON_FLAGS, *arguments)

    def try_to_run(self, *arguments: str | pathlib.Path
                   ) -> subprocess.CompletedProcess[str]:
        """Run its Python, which may fail.

        :param arguments: the arguments
        :returns: how it ended
        """
        return subprocess.run([self.python, *PYTHON_FLAGS, *arguments],
                              cwd='/', capture_output=True, text=True,
                              env=_environ())

    def pip(self, *arguments: str | pathlib.Path) -> str:
        """Run pip for it.

        :param arguments: the arguments
        :returns: what pip wrote
        """
        return run(sys.executable, '-m', 'pip', '--python', self.python,
                   *arguments)

    def install(self, *arguments: str | pathlib.Path) -> None:
        """Install what is told, with the versions that the tests use.

        :param arguments: pip's arguments
        """
        self.pip('install', '--constraint', CONSTRAINTS, *arguments)

    def add_path(self, directory: pathlib.Path) -> None:
        """Put a directory on the path, and nothing that it holds.

        :param directory: the directory
        """
        (self.site_packages / f'{directory.parent.name}.pth').write_text(
            f'{directory}\n')

    def add_site(self, directory: pathlib.Path) -> None:
        """Make a directory a site directory, whose .pth files count.

        :param directory: the directory
        """
        (self.site_packages / f'{directory.name}.pth').write_text(
            f'import site; site.addsitedir({str(directory)!r})\n')

    def modules(self) -> set[str]:
        """Tell which modules a Python has loaded as soon as it starts.

        :returns: their names
        """
        return set(self.run('-c', 'import sys; print(*sys.modules)').split())

    def files(self) -> set[pathlib.Path]:
        """List all files.

        :returns: their paths
        """
        return {path for path in self.root.rglob('*') if not path.is_dir()}


@functools.cache
def scratch() -> pathlib.Path:
    """Make the directory of all that is made here; it ends with the run.

    :returns: the directory
    """
    directory = tempfile.mkdtemp(prefix='nova-quiesce-layouts-')
    atexit.register(shutil.rmtree, directory)
    return pathlib.Path(directory)


@functools.cache
def checkout() -> pathlib.Path:
    """Copy this checkout, because builds leave files in it.

    What is not committed yet is tested too, so the copy has it committed:
    pbr packs what git knows.

    :returns: the copy
    """
    copy = scratch() / 'checkout'
    listed = run('git', 'ls-files', '-coz', '--exclude-standard', cwd=ROOT)
    for name in filter(None, listed.split('\0')):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    git = ('git', '-c', 'user.name=test', '-c', 'user.email=test@localhost')
    run(*git, 'init', '--quiet', cwd=copy)
    run(*git, 'add', '--all', cwd=copy)
    run(*git, 'commit', '--quiet', '--message', 'As it is', cwd=copy)
    return copy


@functools.cache
def built(directory: str = '') -> tuple[pathlib.Path, pathlib.Path]:
    """Build an sdist, and the wheel from the sdist.

    :param directory: where in the checkout the distribution is
    :returns: the wheel and the sdist
    """
    target = scratch() / 'dist' / directory
    run(sys.executable, '-m', 'build', '--outdir', target,
        checkout() / directory)
    wheel, = target.glob('*.whl')
    sdist, = target.glob('*.tar.gz')
    return wheel, sdist


@functools.cache
def dependencies() -> pathlib.Path:
    """Install all that Nova and this package need, without Nova.

    :returns: the directory that holds it
    """
    environment = Environment('dependencies')
    environment.install('--requirement', ROOT / 'requirements.txt')
    environment.pip('uninstall', '--yes', 'nova')
    return environment.site_packages


@functools.cache
def nova_source() -> pathlib.Path:
    """Fetch and unpack Nova's source.

    :returns: its directory
    """
    target = scratch() / 'source'
    run(sys.executable, '-m', 'pip', 'download', '--no-deps', '--no-binary',
        'nova', '--constraint', CONSTRAINTS, '--dest', target, 'nova')
    archive, = target.glob('nova-*.tar.gz')
    shutil.unpack_archive(archive, target)
    return target / archive.name.removesuffix('.tar.gz')
