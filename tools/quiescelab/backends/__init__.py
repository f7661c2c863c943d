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

"""Where Cinder keeps volumes: one module for each way.

A back end is a service (``PACKAGES``, ``USER``, ``configure``, ``prepare``,
``daemons``) that also has a ``NAME``, an ``after_start`` for what needs its
daemons, an ``equip`` for what OpenStack's virtualenv needs of it, and the
options that Cinder, Glance and Nova need for it. ``NAME`` is also what Glance
calls its kind of store.
"""

from collections.abc import Mapping
from typing import Protocol

from quiescelab.backends import rbd
from quiescelab import daemon
from quiescelab import site


class Backend(Protocol):
    """What a module in this package offers."""

    NAME: str
    PACKAGES: tuple[str, ...]
    USER: str

    def configure(self, lab: site.Site) -> None:
        """Write the settings and make the directories."""

    def prepare(self, lab: site.Site) -> None:
        """Do once what its daemons need."""

    def daemons(self, lab: site.Site) -> list[daemon.Daemon]:
        """:returns: its processes."""
        ...

    def after_start(self, lab: site.Site) -> None:
        """Do once what needs its daemons."""

    def equip(self, lab: site.Site) -> None:
        """Do once what the virtualenv needs."""

    def cinder_options(self, lab: site.Site) -> Mapping[str, object]:
        """:returns: its section in cinder.conf."""
        ...

    def glance_options(self, lab: site.Site) -> Mapping[str, object]:
        """:returns: the section of its store in glance-api.conf."""
        ...

    def nova_options(self, lab: site.Site) -> Mapping[str, object]:
        """:returns: what Nova's [libvirt] needs to have its disks there."""
        ...


ALL: Mapping[str, Backend] = {rbd.NAME: rbd}


def chosen(lab: site.Site) -> Backend:
    """:returns: the back end of this lab."""
    return ALL[lab.state.get('backend') or rbd.NAME]
