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

"""Glance, with images in files."""

from quiescelab.backends import rbd
from quiescelab import daemon
from quiescelab import layout
from quiescelab.services import keystone
from quiescelab.services import mariadb
from quiescelab.services import wsgi
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = ()
USER = 'nq-glance'
#: The stores: the first is the default, the second is the volumes'.
FILES, VOLUMES = 'files', 'ceph'


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    data = lab.paths.data('glance')
    for part in ('', 'images', 'staging', 'tasks', 'locks'):
        system.make_directory(data / part, USER, 0o750)
    lab.config('glance', 'glance-api.conf', system.ini({
        'DEFAULT': {
            'debug': True,
            'enabled_backends': f'{FILES}:file,{VOLUMES}:{rbd.NAME}',
            # Nova clones in Ceph what it is told the location of.
            'show_multiple_locations': True,
            # It would read the whole of what Nova clones.
            'do_secure_hash': False,
            'worker_self_reference_url': layout.url('glance'),
        },
        'database': {'connection': mariadb.url(lab, 'glance', 'glance')},
        'keystone_authtoken': keystone.token_check(lab, 'glance'),
        'paste_deploy': {'flavor': 'keystone'},
        'oslo_concurrency': {'lock_path': data / 'locks'},
        'glance_store': {'default_backend': FILES},
        FILES: {'filesystem_store_datadir': data / 'images'},
        VOLUMES: rbd.glance_options(lab),
        'os_glance_staging_store': {
            'filesystem_store_datadir': data / 'staging'},
        'os_glance_tasks_store': {
            'filesystem_store_datadir': data / 'tasks'},
    }), USER)
    shipped = lab.paths.venv / 'etc' / 'glance' / 'glance-api-paste.ini'
    lab.config('glance', 'glance-api-paste.ini', shipped.read_text(), USER)


def prepare(lab: site.Site) -> None:
    """Make the tables."""
    lab.once('glance-tables', lambda: lab.run('glance', [
        lab.paths.bin('glance-manage'), '--config-file',
        str(lab.paths.etc('glance') / 'glance-api.conf'), 'db_sync'],
        user=USER), lab.software)


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the API."""
    etc = lab.paths.etc('glance')
    return [wsgi.server(
        lab, 'glance', 'glance.wsgi.api', USER, etc / 'glance-api.conf',
        env={'OS_GLANCE_CONFIG_DIR': str(etc)})]
