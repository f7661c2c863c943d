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

"""The virtualenv with OpenStack, made with the distribution's Python."""

import hashlib
import pathlib
import platform
import re
import sys

from quiescelab import checkout
from quiescelab import site
from quiescelab import system

PYTHON = '/usr/bin/python3'
# The versions that the lab was last seen to work with.
CONSTRAINTS = pathlib.Path(__file__).with_name('constraints.txt')
# The other releases of Nova that it was seen to work with, all else being as
# it is. Older ones have no module for a WSGI server.
NOVA_RELEASES = ('2025.1', '2025.2', '2026.1')
NOVA = re.compile(r'^nova==.*$', re.MULTILINE)
REQUIREMENTS = (
    'nova',
    'keystone',
    'glance',
    'openstack-placement',
    'cinder',
    'python-openstackclient',
    'python-novaclient',
    'PyMySQL',
    'uWSGI',
    'libvirt-python',
    *checkout.BUILD,
    'stestr',
    'testtools',
    'fixtures',
    'oslotest',
)


def install(lab: site.Site) -> None:
    """Make the virtualenv, unless this very one is there.

    :param lab: the lab
    :raises LabError: pip fails
    """
    lab.once('python', lambda: _install(lab), version(lab))


def version(lab: site.Site) -> str:
    """Return a word that changes with what is installed."""
    told = (sys.version, *REQUIREMENTS, constraints(lab.nova))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]


def constraints(release: str) -> str:
    """The versions to install.

    :param release: of Nova; the newest, where it is empty
    :returns: constraints as pip takes them
    """
    usual = CONSTRAINTS.read_text()
    if not release:
        return usual
    pinned = checkout.ROOT / 'constraints' / f'nova-{release}.txt'
    (nova,) = NOVA.findall(pinned.read_text())
    return NOVA.sub(nova, usual)


def _install(lab: site.Site) -> None:
    log = lab.paths.log('setup-python')
    # It outlives a "down --keep", which forgets all that was marked.
    marker = lab.paths.venv / 'nova-quiesce-lab.version'
    if marker.exists() and marker.read_text() == version(lab):
        return
    lab.screen.say('installing OpenStack into a virtualenv')
    if not _of_this_python(lab):
        system.run([PYTHON, '-m', 'venv', '--clear', str(lab.paths.venv)],
                   log=log)
    chosen = lab.paths.venv / 'nova-quiesce-lab.constraints'
    system.write_file(chosen, constraints(lab.nova))
    system.run([lab.paths.bin('pip'), 'install', '--no-cache-dir',
                '--no-compile', '--disable-pip-version-check',
                '--constraint', str(chosen), *REQUIREMENTS], log=log)
    # pip would compile on one core, and all of the packages' own tests too.
    # 1: some packages carry files that are not of this Python.
    system.run([lab.paths.bin('python'), '-m', 'compileall', '-q', '-j', '0',
                '-x', '/tests?/', str(lab.paths.venv / 'lib')], log=log,
               accept=(0, 1))
    system.write_file(marker, version(lab))


def _of_this_python(lab: site.Site) -> bool:
    settings = lab.paths.venv / 'pyvenv.cfg'
    version = f'version = {platform.python_version()}\n'
    whole = settings.exists() and pathlib.Path(lab.paths.bin('pip')).exists()
    return whole and version in settings.read_text()
