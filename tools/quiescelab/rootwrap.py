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

"""The way for a service's user to become root, for some commands only.

As in production: sudo allows the user one program, rootwrap, and rootwrap's
filters, which the service ships, allow what that may run.
"""

import pathlib
import re

from quiescelab import errors
from quiescelab import site
from quiescelab import system

SUDOERS = pathlib.Path('/etc/sudoers.d')
SUDOERS_PREFIX = 'nova-quiesce-lab-'
RULES = """# Of the lab of nova-quiesce, which removes it when it goes down.
Defaults:{user} !requiretty, secure_path="{path}"
{user} ALL=(root) NOPASSWD: {program} {config} *
"""


def install(lab: site.Site, service: str, user: str) -> pathlib.Path:
    """Allow a service's user what its rootwrap filters allow.

    :param lab: the lab
    :param service: nova or cinder
    :param user: the service's user
    :returns: the configuration file of rootwrap
    """
    filters = _filters(lab, service)
    directories = f'{lab.paths.helpers}:{lab.paths.venv}/bin:{system.PATH}'
    config = lab.paths.etc(service) / 'rootwrap.conf'
    system.write_file(config, system.ini({'DEFAULT': {
        'filters_path': filters,
        'exec_dirs': directories.replace(':', ','),
        'use_syslog': False,
    }}))
    _allow(user, RULES.format(
        user=user, path=directories, config=config,
        program=lab.paths.bin(f'{service}-rootwrap')))
    return config


def remove() -> None:
    """Take all permissions back."""
    for path in granted():
        path.unlink()


def granted() -> list[pathlib.Path]:
    """Return the lab's files of sudo's rules."""
    return list(SUDOERS.glob(f'{SUDOERS_PREFIX}*'))


def _filters(lab: site.Site, service: str) -> pathlib.Path:
    shipped = lab.paths.venv / 'etc' / service / 'rootwrap.d'
    target = lab.paths.etc(service) / 'rootwrap.d'
    for path in shipped.glob('*.filters'):
        # The filters let privsep read configurations below /etc only.
        text = path.read_text().replace(
            '/etc/(?!', f'{re.escape(str(lab.paths.root))}/etc/(?!')
        system.write_file(target / path.name, text)
    return target


def _allow(user: str, rules: str) -> None:
    # A file with a dot in its name is ignored by sudo: nothing is allowed
    # before the rules were checked.
    draft = SUDOERS / f'{SUDOERS_PREFIX}{user}.draft'
    system.write_file(draft, rules, mode=0o440)
    if system.output(['visudo', '-c', '-f', str(draft)]) is None:
        draft.unlink()
        raise errors.LabError(f'sudo does not accept these rules:\n{rules}')
    draft.replace(draft.with_suffix(''))
