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

"""The servers that are snapshotted while things fail."""

from collections.abc import Iterator
import contextlib
import dataclasses
import time

from quiescelab import api
from quiescelab.backends import nfs
from quiescelab.backends import rbd
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import images
from quiescelab import remains
from quiescelab import tenant
from quiescelab import waiting

#: What a snapshot may take, in seconds, whatever fails meanwhile.
PATIENCE = 180
#: Seconds between two looks. Each costs the API's services some 50 ms, and
#: several servers are looked at.
LOOK = 0.5
REQUIRED = 'quiesce-guest'
#: Milliseconds between two lines that a guest writes.
INTERVAL = 1000


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of server.

    :ivar name: for the reader
    :ivar image: the name of its image
    :ivar volume_type: of its root disk, where that is a volume
    """

    name: str
    image: str
    volume_type: str | None = None

    @property
    def is_required(self) -> bool:
        """Whether its image requires quiesce; all others prefer it."""
        return self.image == REQUIRED


KINDS = (
    Kind('image-backed', REQUIRED),
    Kind('image-backed-preferred', images.PREFERRED),
    Kind('volume-backed', REQUIRED, rbd.NAME),
    Kind('volume-backed-preferred', images.PREFERRED, rbd.NAME),
    Kind('nfs', REQUIRED, nfs.NAME),
)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A snapshot that was asked for.

    :ivar subject: of which server
    :ivar name: its image's
    :ivar refusal: what the API answered; None where it accepted
    :ivar seconds: until the server was idle again
    """

    subject: 'Subject'
    name: str
    refusal: str | None
    seconds: float


class Subject:
    """A server, and its guest.

    :param user: its owner
    :param kind: what it is
    :ivar server: as Nova answered when it was made
    """

    def __init__(self, user: tenant.Tenant, kind: Kind) -> None:
        self.kind = kind
        self.user = user
        self.server = user.boot(f'campaign-{kind.name}', kind.image,
                                kind.volume_type is not None,
                                kind.volume_type)
        self.guest = guestctl.Guest(self.server['id'], user.lab.libvirt_uri)
        self._count = 0

    def ready(self) -> None:
        """Wait until its guest writes and its agent answers.

        From then on it writes less, for there are several, and each line is
        synchronized: without KVM, they would take a processor.
        """
        self.user.ready(self.server)
        self.guest.run(f'echo {INTERVAL} > {guestctl.KNOBS}/writer-interval')

    def snapshot(self) -> Attempt:
        """Have an image made, and wait until Nova is done with it."""
        self._count += 1
        name = f'{self.server["id"]}-{self._count}'
        began = time.monotonic()
        refusal = None
        try:
            self.user.begin_snapshot(self.server, name)
        except errors.LabError as error:
            refusal = str(error)
        waiting.wait(self.is_idle, PATIENCE, f'the end of snapshot {name}',
                     LOOK)
        return Attempt(self, name, refusal, time.monotonic() - began)

    def is_idle(self) -> bool:
        """Tell whether Nova does nothing with it, and its freeze is over.

        A volume-backed snapshot's thaw comes after its image.
        """
        if self.server['id'] in remains.leases(self.user.lab.host):
            return False
        with contextlib.suppress(errors.LabError):
            return self.user.show(self.server)['OS-EXT-STS:task_state'] is None
        return False

    def images(self, name: str) -> list[api.Json]:
        """Return the images of an attempt, of which there is one at most."""
        return self.user.images_named(name)

    def remove(self) -> None:
        """Delete it."""
        self.user.delete(self.server)


@contextlib.contextmanager
def booted(user: tenant.Tenant,
           kinds: tuple[Kind, ...]) -> Iterator[list[Subject]]:
    """Have a server of each kind for the length of the block.

    :param user: their owner
    """
    with contextlib.ExitStack() as ending:
        made = []
        for kind in kinds:
            subject = Subject(user, kind)
            ending.callback(subject.remove)
            made.append(subject)
        for subject in made:
            subject.ready()
        yield made
