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

"""The distribution's packages, installed without starting their services."""

from collections.abc import Iterator, Sequence
import contextlib
import os
import pathlib

from quiescelab import errors
from quiescelab import site
from quiescelab import system

# What pip needs to build the few packages that have no wheel.
BUILD = ('python3-venv', 'python3-dev', 'gcc', 'pkg-config', 'libvirt-dev',
         'git', 'ca-certificates')
POLICY = pathlib.Path('/usr/sbin/policy-rc.d')
ASIDE = POLICY.with_name('policy-rc.d.before-nova-quiesce-lab')
OURS = """#!/bin/sh
# Of the lab of nova-quiesce, while it installs packages: start no service.
exit 101
"""
# Ubuntu's unattended upgrades may be at work.
WAIT = ('-o', 'DPkg::Lock::Timeout=300')
SETTINGS = {'DEBIAN_FRONTEND': 'noninteractive', 'NEEDRESTART_SUSPEND': '1'}


def install(lab: site.Site, names: Sequence[str]) -> None:
    """Install packages that are not there yet.

    :param lab: the lab
    :param names: the packages
    :raises LabError: apt fails
    """
    missing = sorted(set(names) - _installed())
    if not missing:
        return
    lab.screen.say(f'installing {len(missing)} packages: '
                   f'{" ".join(missing)}')
    log = lab.paths.log('setup-packages')
    # A broken third-party source must not stop what the others can give.
    system.run(['apt-get', 'update', '-q'], log=log, accept=(0, 100))
    with services_kept_down():
        # An installation of the lab's that was killed is finished first.
        system.run(['dpkg', '--configure', '-a'], log=log, env=SETTINGS)
        system.run(['apt-get', 'install', '-q', '-y',
                    '--no-install-recommends', *WAIT, *missing], log=log,
                   env=SETTINGS)


@contextlib.contextmanager
def services_kept_down() -> Iterator[None]:
    """Let no package start its services within the block."""
    restore_policy()
    if POLICY.exists() or POLICY.is_symlink():
        POLICY.rename(ASIDE)
    try:
        # Whole at once: a restore has to know it by its content.
        draft = POLICY.with_name('policy-rc.d.nova-quiesce-lab')
        system.write_file(draft, OURS, mode=0o755)
        draft.rename(POLICY)
        yield
    finally:
        restore_policy()


def restore_policy() -> None:
    """Put the machine's own policy back, also after a killed command."""
    if POLICY.is_file() and POLICY.read_text(errors='replace') == OURS:
        POLICY.unlink()
    if ASIDE.exists() or ASIDE.is_symlink():
        ASIDE.rename(POLICY)


def require_apt() -> None:
    """See that this machine is Debian or Ubuntu.

    :raises LabError: it is neither
    """
    if not os.path.exists('/usr/bin/apt-get'):
        raise errors.LabError('the lab installs packages with apt-get, for '
                              'Debian 12, 13 or Ubuntu 24.04: there is none')


def _installed() -> set[str]:
    listing = system.output([
        'dpkg-query', '-W', '-f', '${db:Status-Status} ${Package}\n'])
    lines = (line.split() for line in (listing or '').splitlines())
    return {name for status, name in lines if status == 'installed'}
