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

"""MariaDB, with its own data directory and a unix socket only."""

import dataclasses

from quiescelab import daemon
from quiescelab import errors
from quiescelab import ready
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = ('mariadb-server',)
USER = 'mysql'
DATABASES = {
    'keystone': ('keystone',),
    'glance': ('glance',),
    'placement': ('placement',),
    'nova': ('nova_api', 'nova', 'nova_cell0'),
    'cinder': ('cinder',),
}
TRANSACTIONS = """SELECT trx_id, trx_mysql_thread_id, user
FROM information_schema.innodb_trx
JOIN information_schema.processlist ON id = trx_mysql_thread_id
WHERE trx_started <= NOW() - INTERVAL {seconds} SECOND"""
ANSWER_SECONDS = 10
# A lab's data may be lost with the machine, so nothing waits for the disk.
SETTINGS = """[mariadbd]
user = mysql
datadir = {data}
socket = {socket}
pid_file = {pid}
skip_networking
skip_log_bin
performance_schema = OFF
max_connections = 1000
innodb_buffer_pool_size = 128M
innodb_flush_log_at_trx_commit = 0
innodb_doublewrite = 0
innodb_stats_persistent = 0
sync_frm = 0
"""


def url(lab: site.Site, owner: str, database: str) -> str:
    """Return the connection of a service to one of its databases."""
    password = lab.state.password(f'db-{owner}')
    return (f'mysql+pymysql://{owner}:{password}@localhost/{database}'
            f'?unix_socket={lab.paths.mysql_socket}&charset=utf8')


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    run = lab.paths.mysql_socket.parent
    system.make_directory(run, USER)
    system.make_directory(lab.paths.data('mariadb'), USER, 0o700)
    lab.config('mariadb', 'my.cnf', SETTINGS.format(
        data=lab.paths.data('mariadb'), socket=lab.paths.mysql_socket,
        pid=run / 'mariadb.pid'), USER)


def prepare(lab: site.Site) -> None:
    """Make an empty database server."""
    lab.once('mariadb', lambda: lab.run('mariadb', [
        'mariadb-install-db', f'--defaults-file={_settings(lab)}',
        '--auth-root-authentication-method=socket', '--skip-test-db',
        '--skip-name-resolve'], user=USER))


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the server."""
    return [daemon.Daemon(
        'mariadb', ('mariadbd', f'--defaults-file={_settings(lab)}'), USER,
        home=lab.paths.data('mariadb'),
        ready=ready.unix(lab.paths.mysql_socket))]


def create_databases(lab: site.Site) -> None:
    """Make each service's databases, with the server running."""
    lab.once('databases', lambda: lab.run('mariadb', [
        'mariadb', f'--socket={lab.paths.mysql_socket}'],
        stdin='\n'.join(_statements(lab))))


@dataclasses.dataclass(frozen=True)
class Transaction:
    """A transaction that has not ended.

    :param number: its own, 0 while it has only read
    :param connection: the number of the connection
    :param owner: who made it, by :data:`DATABASES`
    """

    number: str
    connection: str
    owner: str


def transactions(lab: site.Site, seconds: int = 0) -> list[Transaction]:
    """Return the transactions that have not ended.

    :param seconds: that they have lasted at least
    :raises LabError: the server does not tell
    """
    answer = system.output([
        'mariadb', f'--socket={lab.paths.mysql_socket}', '--batch',
        '--skip-column-names', '--execute',
        TRANSACTIONS.format(seconds=seconds)], ANSWER_SECONDS)
    if answer is None:
        raise errors.LabError('MariaDB does not tell of its transactions',
                              lab.paths.log('mariadb'))
    return [Transaction(*line.split('\t')) for line in answer.splitlines()]


def _statements(lab: site.Site) -> list[str]:
    lines = []
    for owner, names in DATABASES.items():
        password = lab.state.password(f'db-{owner}')
        lines.append(f'CREATE OR REPLACE USER {owner}@localhost '
                     f"IDENTIFIED BY '{password}';")
        for name in names:
            lines.append(f'CREATE DATABASE IF NOT EXISTS {name} '
                         'CHARACTER SET utf8mb3;')
            lines.append(f'GRANT ALL ON {name}.* TO {owner}@localhost;')
    return lines


def _settings(lab: site.Site) -> str:
    return str(lab.paths.etc('mariadb') / 'my.cnf')
