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

"""Cinder: API, scheduler and volume service, over the back ends."""

from quiescelab import backends
from quiescelab import daemon
from quiescelab import rest
from quiescelab import rootwrap
from quiescelab.services import keystone
from quiescelab.services import mariadb
from quiescelab.services import nova
from quiescelab.services import rabbitmq
from quiescelab.services import wsgi
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = ('sudo',)
USER = 'nq-cinder'
CONFIG = 'cinder.conf'
#: Cinder's default, and what has to be added to it.
CORE_PROPERTIES = ('checksum', 'container_format', 'disk_format', 'image_name',
                   'image_id', 'min_disk', 'min_ram', 'name', 'size',
                   *nova.RECORD)


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    data = lab.paths.data('cinder')
    for part in ('', 'conversion', 'locks'):
        system.make_directory(data / part, USER, 0o750)
    etc = lab.paths.etc('cinder')
    shipped = lab.paths.venv / 'etc' / 'cinder'
    for name in ('api-paste.ini', 'resource_filters.json'):
        lab.config('cinder', name, (shipped / name).read_text(), USER)
    account = keystone.account(lab, 'cinder')
    lab.config('cinder', CONFIG, system.ini({
        'DEFAULT': {
            'debug': True,
            'host': nova.HOST,
            'my_ip': '127.0.0.1',
            'transport_url': rabbitmq.url(lab),
            'state_path': data,
            'image_conversion_dir': data / 'conversion',
            'api_paste_config': etc / 'api-paste.ini',
            'resource_query_filters_file': etc / 'resource_filters.json',
            'rootwrap_config': rootwrap.install(lab, 'cinder', USER),
            'enabled_backends': ','.join(backends.ALL),
            'default_volume_type': backends.DEFAULT,
            'quota_volumes': 100,
            'quota_snapshots': 200,
            'glance_core_properties': ','.join(CORE_PROPERTIES),
            # A back end tells the scheduler of itself as it starts. Where the
            # scheduler starts later, volumes would wait for a minute, or fail.
            'backend_stats_polling_interval': 10,
        },
        'database': {'connection': mariadb.url(lab, 'cinder', 'cinder')},
        'keystone_authtoken': keystone.token_check(lab, 'cinder'),
        'service_user': {'send_service_user_token': True, **account},
        'nova': account,
        'oslo_concurrency': {'lock_path': data / 'locks'},
        **{name: backend.cinder_options(lab)
           for name, backend in backends.ALL.items()},
    }), USER)


def prepare(lab: site.Site) -> None:
    """Make the tables."""
    lab.once('cinder-tables', lambda: lab.run('cinder', [
        lab.paths.bin('cinder-manage'), '--config-file', _config(lab),
        'db', 'sync'], user=USER), lab.software)


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the three services."""
    config = lab.paths.etc('cinder') / CONFIG
    api = wsgi.server(
        lab, 'cinder', 'cinder.wsgi.api', USER, config,
        extra=('--pyargv', f'--config-file {config}'))
    return [api, _service(lab, 'cinder-scheduler'),
            _service(lab, 'cinder-volume')]


def make_types(lab: site.Site) -> None:
    """Make a volume type for each back end, of the same name."""
    cloud = rest.Client(lab, 'admin')
    types = f'/v3/{cloud.project}/types'
    found = {one['name'] for one in cloud.get('cinder', types)['volume_types']}
    for name in backends.ALL:
        if name not in found:
            cloud.post('cinder', types, {'volume_type': {
                'name': name,
                'extra_specs': {'volume_backend_name': name}}})


def _service(lab: site.Site, name: str) -> daemon.Daemon:
    return daemon.Daemon(
        name, (lab.paths.bin(name), '--config-file', _config(lab)), USER,
        home=lab.paths.data('cinder'), versions=(lab.software,),
        inputs=(lab.paths.etc('cinder') / CONFIG,))


def _config(lab: site.Site) -> str:
    return str(lab.paths.etc('cinder') / CONFIG)
