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

"""The places of everything: one directory, and the ports on loopback.

No other module invents a path or a port.
"""

import dataclasses
import os
import pathlib

from quiescelab import errors

DEFAULT_ROOT = pathlib.Path('/var/lib/nova-quiesce-lab')
ROOT_VARIABLE = 'NOVA_QUIESCE_LAB'
HOST = '127.0.0.1'

PORT_VARIABLE = 'NOVA_QUIESCE_LAB_PORT'
# Below the kernel's range for outgoing connections (32768 and up), so that no
# client can hold one of them by chance.
DEFAULT_FIRST_PORT = 28700
OFFSETS = {
    'rabbitmq': 1,
    'rabbitmq-cluster': 2,
    'rabbitmq-epmd': 3,
    'keystone': 10,
    'glance': 11,
    'placement': 12,
    'nova': 13,
    'cinder': 14,
    'neutron': 15,
    # Where QEMU waits for a guest that is migrated to it.
    'migration-first': 16,
    'migration-last': 19,
    'ceph-mon-v2': 20,
    'ceph-mon-v1': 21,
    # Ceph's other daemons take what they find free from here to the end.
    'ceph-first': 30,
    'ceph-last': 49,
}

# A unix socket's path may have 107 bytes; the longest one below the root is
# about 40, and temporary names need a margin.
LONGEST_ROOT = 60


@dataclasses.dataclass(frozen=True)
class Layout:
    """The paths of one lab.

    :param root: the directory that holds all of it
    """

    root: pathlib.Path

    @classmethod
    def find(cls, root: str | os.PathLike[str] | None = None) -> 'Layout':
        """Return the lab at root, else the environment's, else default."""
        chosen = root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT
        return cls(pathlib.Path(chosen).absolute())

    @property
    def marker(self) -> pathlib.Path:
        """The file that says that this directory is a lab's."""
        return self.root / '.nova-quiesce-lab'

    @property
    def state(self) -> pathlib.Path:
        """The lab's memory: passwords, choices and steps done."""
        return self.root / 'state.json'

    @property
    def venv(self) -> pathlib.Path:
        """The virtualenv of OpenStack and of this project."""
        return self.root / 'venv'

    @property
    def tempest_venv(self) -> pathlib.Path:
        """The virtualenv of tempest and of its plugin, without Nova."""
        return self.root / 'tempest-venv'

    @property
    def tempest(self) -> pathlib.Path:
        """The directory of tempest: its configuration, log and results."""
        return self.root / 'tempest'

    @property
    def cache(self) -> pathlib.Path:
        """All that a ``down --keep`` keeps besides the virtualenv."""
        return self.root / 'cache'

    @property
    def guest_image(self) -> pathlib.Path:
        """The bootable guest image, a qcow2."""
        return self.cache / 'guest.qcow2'

    @property
    def agentless_image(self) -> pathlib.Path:
        """The guest image again, with an agent that never starts."""
        return self.cache / 'guest-without-agent.qcow2'

    @property
    def logs(self) -> pathlib.Path:
        """One log for each service and for each set-up step."""
        return self.root / 'logs'

    @property
    def run(self) -> pathlib.Path:
        """Sockets and pid files."""
        return self.root / 'run'

    @property
    def pids(self) -> pathlib.Path:
        """One record for each process that the lab started."""
        return self.run / 'pids'

    @property
    def mounts(self) -> pathlib.Path:
        """The directory of all that the lab mounts."""
        return self.root / 'mnt'

    @property
    def second(self) -> pathlib.Path:
        """The directory of a second compute host, while there is one."""
        return self.root / 'second'

    @property
    def helpers(self) -> pathlib.Path:
        """Programs that the services' root helpers find first."""
        return self.root / 'helpers'

    @property
    def mysql_socket(self) -> pathlib.Path:
        """MariaDB's only listener."""
        return self.run / 'mariadb' / 'mariadb.sock'

    @property
    def libvirt_socket(self) -> pathlib.Path:
        """The private libvirtd's socket."""
        return self.run / 'libvirt' / 'libvirt-sock'

    @property
    def libvirt_uri(self) -> str:
        """The address of the private libvirtd."""
        return f'qemu+unix:///system?socket={self.libvirt_socket}'

    @property
    def peers(self) -> pathlib.Path:
        """Each host's libvirtd, by Nova's name of the host."""
        return self.second / 'peers'

    @property
    def agent_log(self) -> pathlib.Path:
        """Each guest agent command that libvirtd sent."""
        return self.logs / 'libvirt-agent.log'

    @property
    def clouds(self) -> pathlib.Path:
        """The credentials for OpenStack's clients."""
        return self.root / 'clouds.yaml'

    def bin(self, name: str) -> str:
        """Return the path of a program of the virtualenv."""
        return str(self.venv / 'bin' / name)

    def etc(self, service: str) -> pathlib.Path:
        """Return the directory of a service's configuration."""
        return self.root / 'etc' / service

    def data(self, service: str) -> pathlib.Path:
        """Return the directory of a service's own data."""
        return self.root / 'data' / service

    def log(self, name: str) -> pathlib.Path:
        """Return the log of a service or of a set-up step."""
        return self.logs / f'{name}.log'


def first_port() -> int:
    """Return where the lab's 50 ports begin.

    :raises LabError: the environment names no such place
    """
    text = os.environ.get(PORT_VARIABLE) or str(DEFAULT_FIRST_PORT)
    if not text.isdecimal() or not 1024 <= int(text) <= 65000:
        raise errors.LabError(f'{PORT_VARIABLE} is "{text}", and has to be a '
                              'number from 1024 to 65000')
    return int(text)


def port(name: str) -> int:
    """Return the port of that name."""
    return first_port() + OFFSETS[name]


def url(service: str, path: str = '') -> str:
    """Return the address of one of the lab's HTTP services."""
    return f'http://{HOST}:{port(service)}{path}'
