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

"""RabbitMQ, with a name daemon of its own, on loopback."""

from quiescelab import daemon
from quiescelab import layout
from quiescelab import ready
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = ('rabbitmq-server',)
USER = 'rabbitmq'
ACCOUNT = 'openstack'
# The wrapper in /usr/sbin would drop the environment.
SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server'


def url(lab: site.Site) -> str:
    """Return oslo.messaging's ``transport_url``."""
    password = lab.state.password('rabbitmq')
    return (f'rabbit://{ACCOUNT}:{password}@{layout.HOST}:'
            f'{layout.port("rabbitmq")}/')


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    system.make_directory(lab.paths.data('rabbitmq'), USER, 0o700)
    lab.config('rabbitmq', 'rabbitmq.conf', '\n'.join((
        f'listeners.tcp.1 = {layout.HOST}:{layout.port("rabbitmq")}',
        f'default_user = {ACCOUNT}',
        f'default_pass = {lab.state.password("rabbitmq")}',
        # A person's nearly full disk must not stop a lab.
        'disk_free_limit.absolute = 64MB',
        '')), USER)
    for name in ('enabled_plugins', 'rabbitmq-env.conf'):
        text = '[].\n' if name == 'enabled_plugins' else ''
        lab.config('rabbitmq', name, text, USER)


def prepare(lab: site.Site) -> None:
    """Do nothing: the server makes its data itself."""


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the Erlang name daemon and the broker."""
    names, port = layout.port('rabbitmq-epmd'), layout.port('rabbitmq')
    home = lab.paths.data('rabbitmq')
    return [
        daemon.Daemon(
            'rabbitmq-epmd', ('epmd', '-address', layout.HOST,
                              '-port', str(names)), USER, home=home,
            port=names, ready=ready.tcp(names)),
        daemon.Daemon(
            'rabbitmq', (SERVER,), USER, env=_environment(lab), home=home,
            inputs=(lab.paths.etc('rabbitmq') / 'rabbitmq.conf',),
            port=port, ready=ready.tcp(port))]


def _environment(lab: site.Site) -> dict[str, str]:
    etc, data = lab.paths.etc('rabbitmq'), lab.paths.data('rabbitmq')
    return {
        'RABBITMQ_NODENAME': 'nova-quiesce-lab@localhost',
        'RABBITMQ_CONF_ENV_FILE': str(etc / 'rabbitmq-env.conf'),
        'RABBITMQ_CONFIG_FILE': str(etc / 'rabbitmq.conf'),
        'RABBITMQ_ADVANCED_CONFIG_FILE': str(etc / 'advanced.config'),
        'RABBITMQ_ENABLED_PLUGINS_FILE': str(etc / 'enabled_plugins'),
        'RABBITMQ_MNESIA_BASE': str(data / 'mnesia'),
        'RABBITMQ_LOG_BASE': str(data / 'log'),
        'RABBITMQ_LOGS': '-',
        'RABBITMQ_PID_FILE': str(data / 'rabbitmq.pid'),
        'RABBITMQ_DIST_PORT': str(layout.port('rabbitmq-cluster')),
        'ERL_EPMD_PORT': str(layout.port('rabbitmq-epmd')),
        'ERL_EPMD_ADDRESS': layout.HOST,
        'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS':
            '-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}',
    }
