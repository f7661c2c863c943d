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

"""The unprivileged users that run OpenStack's services."""

import pwd

from quiescelab import errors
from quiescelab import site
from quiescelab import system

PREFIX = 'nq-'
COMMENT = 'nova-quiesce lab'
NAMES = ('nq-keystone', 'nq-glance', 'nq-placement', 'nq-nova', 'nq-cinder')


def create(lab: site.Site) -> None:
    """Make the users that are not there.

    :param lab: the lab
    :raises LabError: a name belongs to somebody else
    """
    for name in NAMES:
        entry = _entry(name)
        if entry is None:
            system.run(['useradd', '--system', '--user-group',
                        '--no-create-home', '--home-dir', '/nonexistent',
                        '--shell', '/usr/sbin/nologin', '--comment', COMMENT,
                        name], log=lab.paths.log('setup-users'))
        elif entry.pw_gecos != COMMENT:
            raise errors.LabError(
                f'the user {name} exists and is not the lab\'s: remove or '
                'rename it')


def remove(lab: site.Site) -> None:
    """Remove the users that the lab made."""
    for name in made():
        system.run(['userdel', name], log=lab.paths.log('down'))


def made() -> list[str]:
    """Return the names of the lab's users that exist."""
    entries = ((name, _entry(name)) for name in NAMES)
    return [name for name, entry in entries
            if entry and entry.pw_gecos == COMMENT]


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
