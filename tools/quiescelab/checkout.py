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

"""This checkout, installed into the virtualenv as a user would have it."""

import hashlib
import pathlib
import shutil
import tempfile

from quiescelab import site
from quiescelab import system

ROOT = pathlib.Path(__file__).parents[2]
NAME = 'nova-quiesce'
# What of a checkout makes the package, and so asks for a new installation.
MATTERS = ('nova_quiesce*/**/*', 'etc/**/*', 'setup.*', 'pyproject.toml',
           '*.pth', 'requirements.txt', 'README.rst')
# What has to be there to build it.
BUILD = ('setuptools>=70.1', 'pbr')
LEFT_OUT = ('.git', '.tox', '.venv', 'build', 'dist', '*.egg-info',
            '__pycache__', '.*_cache', '.stestr', 'AUTHORS', 'ChangeLog')


def install(lab: site.Site) -> None:
    """Install the checkout, unless this very content is installed.

    :param lab: the lab
    :raises LabError: pip fails
    """
    lab.once('checkout', lambda: install_into(lab, lab.paths.venv), version())


def version() -> str:
    """Return a word that changes with the package's content."""
    digest = hashlib.sha256()
    for pattern in MATTERS:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and '__pycache__' not in path.parts:
                digest.update(f'{path.relative_to(ROOT)}\0'.encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def install_into(lab: site.Site, venv: pathlib.Path) -> None:
    """Install the checkout alone, without what it depends on.

    :param lab: the lab
    :param venv: a virtualenv, which has what builds the checkout
    :raises LabError: pip fails
    """
    # It outlives a "down --keep", as the virtualenv does.
    marker = venv / 'nova-quiesce.version'
    if not marker.exists() or marker.read_text() != version():
        marker.unlink(missing_ok=True)
        _install_copy(lab, venv)
        system.write_file(marker, version())


def _install_copy(lab: site.Site, venv: pathlib.Path) -> None:
    lab.screen.say(f'installing this checkout into {venv}')
    log = lab.paths.log('setup-checkout')
    with tempfile.TemporaryDirectory(prefix='nova-quiesce-lab-') as directory:
        copy = pathlib.Path(directory) / NAME
        _copy(copy, log)
        system.run([str(venv / 'bin' / 'pip'), 'install', '--no-deps',
                    '--no-build-isolation', '--no-cache-dir',
                    '--force-reinstall', '--disable-pip-version-check',
                    str(copy)], log=log,
                   env={'PBR_VERSION': f'0.0.0+lab.{version()}'})


def _copy(target: pathlib.Path, log: pathlib.Path) -> None:
    # A build leaves files in its source tree, and takes up stale ones.
    shutil.copytree(ROOT, target, symlinks=True,
                    ignore=shutil.ignore_patterns(*LEFT_OUT))
    # pbr packs what git lists; this way that is what is here, committed or
    # not, and a source archive without a history will do.
    for command in (['init', '-q'], ['add', '-A']):
        system.run(['git', '-C', str(target), *command], log=log)
