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

"""All of the lab's services and processes, in the order of starting."""

from typing import Protocol

from quiescelab import backends
from quiescelab import daemon
from quiescelab import errors
from quiescelab.services import cinder
from quiescelab.services import glance
from quiescelab.services import keystone
from quiescelab.services import libvirt
from quiescelab.services import mariadb
from quiescelab.services import neutron
from quiescelab.services import nova
from quiescelab.services import placement
from quiescelab.services import rabbitmq
from quiescelab.services import second
from quiescelab import site


class Service(Protocol):
    """The interface of a service's module."""

    PACKAGES: tuple[str, ...]
    USER: str

    def configure(self, lab: site.Site) -> None:
        """Write the settings and make the directories."""

    def prepare(self, lab: site.Site) -> None:
        """Do once what its daemons need."""

    def daemons(self, lab: site.Site) -> list[daemon.Daemon]:
        """Return its processes, in the order of starting."""
        ...


def services(lab: site.Site) -> list[Service]:
    """Return every service."""
    return [mariadb, rabbitmq, libvirt, *backends.ALL.values(), neutron,
            keystone, glance, placement, cinder, nova]


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return every process, in the order of starting."""
    return [one for service in services(lab) for one in service.daemons(lab)]


def find(lab: site.Site, name: str) -> daemon.Daemon:
    """Return the process of that name, also of a second compute host.

    :raises LabError: there is none
    """
    known = {one.name: one for one in (*daemons(lab), *second.daemons(lab))}
    if name not in known:
        raise errors.LabError(f'there is no service {name}; there are '
                              f'{", ".join(known)}')
    return known[name]


def packages(lab: site.Site) -> list[str]:
    """Return the distribution's packages that the services need."""
    return [name for service in services(lab) for name in service.PACKAGES]
