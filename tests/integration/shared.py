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

"""Servers that classes of tests use in turn: to boot one costs time."""

import atexit
import contextlib
import dataclasses

from quiescelab import api
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import tenant


@dataclasses.dataclass(frozen=True)
class Kind:
    """All of a server that the tests of a class care about.

    :ivar image: the name of its image
    :ivar is_made: whether the image is made for tests, and goes with it
    :ivar from_volume: whether its root disk is a volume
    :ivar volume_type: of the volume
    :ivar images_type: Nova's option of that name, as it boots
    """

    image: str
    is_made: bool
    from_volume: bool
    volume_type: str
    images_type: str

    def remove(self, user: tenant.Tenant, server: api.Json) -> None:
        """Delete a server of this kind, and what was made for it."""
        user.delete(server)
        if self.is_made:
            user.remove_image(user.image_named(self.image))


class Servers:
    """At most one idle server of each kind, until the tests end.

    It stands still meanwhile: a guest that only writes its lines takes a sixth
    of a processor where there is no KVM.
    """

    def __init__(self) -> None:
        self._idle: dict[Kind, tuple[tenant.Tenant, api.Json]] = {}

    def lend(self, user: tenant.Tenant, kind: Kind) -> api.Json | None:
        """Return an idle server of a kind; None where there is none.

        One that the class before left unwell is removed.
        """
        if kind not in self._idle:
            return None
        _, server = self._idle.pop(kind)
        if _is_well_again(user, server):
            return server
        kind.remove(user, server)
        return None

    def take_back(self, user: tenant.Tenant, kind: Kind,
                  server: api.Json) -> None:
        """Keep a server that a class is done with."""
        self._idle[kind] = (user, server)
        with contextlib.suppress(guestctl.ControlError):
            _guest(user, server).virsh('suspend')

    def remove(self) -> None:
        """Delete them all."""
        while self._idle:
            kind, (user, server) = self._idle.popitem()
            kind.remove(user, server)


def _guest(user: tenant.Tenant, server: api.Json) -> guestctl.Guest:
    return guestctl.Guest(server['id'], user.lab.libvirt_uri)


def _is_well_again(user: tenant.Tenant, server: api.Json) -> bool:
    """Have a guest go on, and tell whether it runs, and is thawed."""
    try:
        guest = _guest(user, server)
        guest.virsh('resume')
        found = user.show(server)
        return (found['status'] == 'ACTIVE'
                and found['OS-EXT-STS:task_state'] is None
                and not guest.frozen())
    except (errors.LabError, guestctl.ControlError):
        return False


SERVERS = Servers()
atexit.register(SERVERS.remove)
