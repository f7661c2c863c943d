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

"""The places where Cinder keeps volumes: one module for each.

A back end is a service (``PACKAGES``, ``USER``, ``configure``, ``prepare``,
``daemons``) that also has a ``NAME``, an ``after_start`` for what needs its
daemons, an ``equip`` for what OpenStack's virtualenv needs of it,
``cinder_options`` for its section in cinder.conf, ``export_snapshot`` for
those who look into what it keeps, and ``try_to_write`` for those who ask
whether it does. A volume type of its name chooses it.
"""

from collections.abc import Mapping
import pathlib
from typing import Protocol

from quiescelab.backends import nfs
from quiescelab.backends import rbd
from quiescelab import daemon
from quiescelab import site


class Backend(Protocol):
    """The interface of a module in this package."""

    NAME: str
    PACKAGES: tuple[str, ...]
    USER: str

    def configure(self, lab: site.Site) -> None:
        """Write the settings and make the directories."""

    def prepare(self, lab: site.Site) -> None:
        """Do once what its daemons need."""

    def daemons(self, lab: site.Site) -> list[daemon.Daemon]:
        """Return its processes."""
        ...

    def after_start(self, lab: site.Site) -> None:
        """Do once what needs its daemons."""

    def equip(self, lab: site.Site) -> None:
        """Do once what the virtualenv needs."""

    def cinder_options(self, lab: site.Site) -> Mapping[str, object]:
        """Return its section in cinder.conf."""
        ...

    def try_to_write(self, lab: site.Site) -> None:
        """See that it takes a write."""

    def export_snapshot(self, lab: site.Site, volume_id: str,
                        snapshot_id: str, target: pathlib.Path) -> None:
        """Copy a volume's snapshot to a raw file."""


ALL: Mapping[str, Backend] = {rbd.NAME: rbd, nfs.NAME: nfs}
#: For volumes that ask for no type.
DEFAULT = rbd.NAME
