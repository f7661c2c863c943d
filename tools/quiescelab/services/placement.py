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

"""Placement."""

from quiescelab import daemon
from quiescelab.services import keystone
from quiescelab.services import mariadb
from quiescelab.services import wsgi
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = ()
USER = 'nq-placement'


def configure(lab: site.Site) -> None:
    """Write the settings and make the directory."""
    system.make_directory(lab.paths.data('placement'), USER, 0o750)
    lab.config('placement', 'placement.conf', system.ini({
        'DEFAULT': {'debug': True},
        'api': {'auth_strategy': 'keystone'},
        'placement_database': {
            'connection': mariadb.url(lab, 'placement', 'placement')},
        'keystone_authtoken': keystone.token_check(lab, 'placement'),
    }), USER)


def prepare(lab: site.Site) -> None:
    """Make the tables."""
    lab.once('placement-tables', lambda: lab.run('placement', [
        lab.paths.bin('placement-manage'), '--config-file',
        str(lab.paths.etc('placement') / 'placement.conf'), 'db', 'sync'],
        user=USER), lab.software)


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the API."""
    etc = lab.paths.etc('placement')
    return [wsgi.server(
        lab, 'placement', 'placement.wsgi.api', USER, etc / 'placement.conf',
        env={'OS_PLACEMENT_CONFIG_DIR': str(etc)}, processes=1)]
