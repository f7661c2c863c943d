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

"""Nova: API, conductor, scheduler, and the compute service under test."""

from collections.abc import Callable, Mapping
import concurrent.futures
import dataclasses
import pathlib

from quiescelab.backends import nfs
from quiescelab import daemon
from quiescelab import rootwrap
from quiescelab.services import keystone
from quiescelab.services import mariadb
from quiescelab.services import rabbitmq
from quiescelab.services import wsgi
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = ('sudo',)
USER = 'nq-nova'
HOST = 'quiesce-lab'
DISCOVER_SECONDS = 2
REPORT_SECONDS = 1
COMPUTE = 'nova-compute'
CONFIG = 'nova-compute.conf'
#: What a test may set for nova-compute besides; empty otherwise.
OVERRIDES = 'nova-compute-overrides.conf'
# Nova 34's compute service takes its whole manager_shutdown_timeout (160 s)
# to stop, also when it has nothing to do: the shutdown of its thread pool
# hangs. What it does of use is done in 3 s.
GRACE_SECONDS = 6
#: A snapshot's record, which no other image may inherit.
RECORD = ('quiesce_consistency', 'quiesce_reason', 'quiesce_reason_code',
          'quiesce_frozen_at', 'quiesce_window_ms', 'quiesce_filesystems')
#: Nova's default, and what has to be added to it.
NON_INHERITABLE = ('cache_in_nova', 'bittorrent', *RECORD)
#: What the compute service logs once it takes requests. Those that come
#: before it gives up as interrupted by its restart.
JOINS = b'Join ServiceGroup membership for this service compute'


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    make_directories(lab)
    wrapper = rootwrap.install(lab, 'nova', USER)
    common = _common(lab)
    lab.config('nova', 'nova.conf', system.ini(
        common | _databases(lab) | {'DEFAULT': {
            # Without it the scheduler may take a minute to see the host.
            **common['DEFAULT'], 'periodic_fuzzy_delay': 0,
            'non_inheritable_image_properties': ','.join(NON_INHERITABLE),
            # Who wants to know whether the cloud is whole asks them.
            'rpc_ping_enabled': True,
        }}), USER)
    # The compute service must not be able to reach a database.
    lab.config('nova', CONFIG, system.ini(
        common | _compute(lab) | {'DEFAULT': {
            **common['DEFAULT'], 'compute_driver': lab.driver,
            # It tells whether it reaches the conductor.
            'report_interval': REPORT_SECONDS,
            'rootwrap_config': wrapper}}), USER)
    override(lab, {})
    shipped = lab.paths.venv / 'etc' / 'nova' / 'api-paste.ini'
    lab.config('nova', 'api-paste.ini', shipped.read_text(), USER)


def make_directories(lab: site.Site) -> None:
    """Make what a host's compute service takes for granted."""
    for part in ('', 'instances', 'locks'):
        # QEMU's user has to pass through.
        system.make_directory(lab.paths.data('nova') / part, USER)


def override(lab: site.Site,
             options: Mapping[str, Mapping[str, object]]) -> None:
    """Set what nova-compute reads last, from its next start on.

    :param options: sections with their options
    """
    lab.config('nova', OVERRIDES, system.ini(options), USER)


def prepare(lab: site.Site) -> None:
    """Make the tables, three databases at a time, and the cells."""
    cell0 = {'OS_DATABASE__CONNECTION': mariadb.url(lab, 'nova',
                                                    'nova_cell0')}
    _together(
        lambda: _once(lab, 'api-tables', 'api_db', 'sync'),
        lambda: _once(lab, 'tables', 'db', 'sync', '--local_cell'),
        lambda: _once(lab, 'cell0-tables', 'db', 'sync', '--local_cell',
                      env=cell0))
    _once(lab, 'cell0', 'cell_v2', 'map_cell0')
    _once(lab, 'cell1', 'cell_v2', 'create_cell', '--name', 'cell1')


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the four services, the compute service last."""
    etc = lab.paths.etc('nova')
    return [
        _service(lab, 'nova-conductor', 'nova.conf'),
        _service(lab, 'nova-scheduler', 'nova.conf'),
        # In the time it takes, the conductor gets ready for the last one.
        wsgi.server(lab, 'nova', 'nova.wsgi.osapi_compute', USER,
                    etc / 'nova.conf', env={'OS_NOVA_CONFIG_DIR': str(etc)}),
        compute(lab, COMPUTE)]


def compute(lab: site.Site, name: str, *configs: str) -> daemon.Daemon:
    """The compute service, on one host or another.

    :param name: its name in the lab
    :param configs: files of its own, which count for more than the common one
    """
    return dataclasses.replace(
        _service(lab, COMPUTE, CONFIG, *configs, OVERRIDES,
                 version=lab.state.get('done:checkout') or ''),
        name=name, ready=_logs(lab.paths.log(name), JOINS))


def _logs(log: pathlib.Path, what: bytes) -> Callable[[], bool]:
    """Return a check whether something was logged from now on."""
    offset = log.stat().st_size if log.exists() else 0

    def check() -> bool:
        with log.open('rb') as stream:
            stream.seek(offset)
            return what in stream.read()
    return check


def _service(lab: site.Site, name: str, *configs: str,
             version: str = '') -> daemon.Daemon:
    paths = tuple(lab.paths.etc('nova') / config for config in configs)
    return daemon.Daemon(
        name, (lab.paths.bin(name),
               *('--config-file=%s' % path for path in paths)), USER,
        home=lab.paths.data('nova'), inputs=paths,
        versions=(lab.software, version), grace=GRACE_SECONDS)


def _common(lab: site.Site) -> dict[str, Mapping[str, object]]:
    account = keystone.account(lab, 'nova')
    data = lab.paths.data('nova')
    return {
        'DEFAULT': {
            'debug': True,
            'host': HOST,
            'my_ip': '127.0.0.1',
            'transport_url': rabbitmq.url(lab),
            'state_path': data,
            'instances_path': data / 'instances',
        },
        'api': {'auth_strategy': 'keystone'},
        'conductor': {'workers': 1},
        'scheduler': {
            'workers': 1,
            'discover_hosts_in_cells_interval': DISCOVER_SECONDS,
        },
        'quota': {'instances': 100, 'cores': 100, 'ram': 102400},
        'keystone_authtoken': keystone.token_check(lab, 'nova'),
        'service_user': {'send_service_user_token': True, **account},
        'placement': account,
        'glance': account,
        'cinder': account,
        'neutron': account,
        'oslo_concurrency': {'lock_path': data / 'locks'},
        'vnc': {'enabled': False},
    }


def _databases(lab: site.Site) -> dict[str, Mapping[str, object]]:
    return {
        'api_database': {'connection': mariadb.url(lab, 'nova', 'nova_api')},
        'database': {'connection': mariadb.url(lab, 'nova', 'nova')},
    }


def _compute(lab: site.Site) -> dict[str, Mapping[str, object]]:
    return {'libvirt': {
        'connection_uri': lab.paths.libvirt_uri,
        'virt_type': lab.virt_type,
        'cpu_mode': 'none',
        'images_type': 'qcow2',
        'nfs_mount_point_base': nfs.mount_base(lab, 'nova'),
        'live_migration_uri':
            f'qemu+unix:///system?socket={lab.paths.peers}/%s',
    }}


def _once(lab: site.Site, step: str, *command: str,
          env: dict[str, str] | None = None) -> None:
    config = str(lab.paths.etc('nova') / 'nova.conf')
    argv = [lab.paths.bin('nova-manage'), '--config-file', config, *command]
    # 2: the cell is there already, from an attempt that was cut short.
    accept = (0, 2) if 'create_cell' in command else (0,)
    lab.once(f'nova-{step}', lambda: lab.run(
        f'nova-{step}', argv, user=USER, env=env, accept=accept),
        lab.software)


def _together(*steps: Callable[[], None]) -> None:
    with concurrent.futures.ThreadPoolExecutor(len(steps)) as pool:
        for future in [pool.submit(step) for step in steps]:
            future.result()
