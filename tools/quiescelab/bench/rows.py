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

"""The guests that are snapshotted, and what they do meanwhile."""

from collections.abc import Iterator
import contextlib
import dataclasses

from quiescelab.backends import nfs
from quiescelab.backends import rbd
from quiescelab.campaign import subjects
from quiescelab import guestctl
from quiescelab import waiting

#: Megabytes that a heavy writer overwrites again and again.
HEAVY_MIB = 200
FILE = '/var/lib/bench'
SECONDS = 300
INTERVAL = f'{guestctl.KNOBS}/writer-interval'
#: Milliseconds between two lines of an idle guest's writer.
IDLE = 60000


@dataclasses.dataclass(frozen=True)
class Row:
    """A guest, and what it does.

    :ivar is_heavy: whether it writes as much as it can; else it is idle, but
        for a line a minute
    :ivar has_stock: whether stock Nova can freeze it
    """

    name: str
    kind: subjects.Kind
    is_heavy: bool = False
    has_stock: bool = True


IMAGE_BACKED = subjects.Kind('bench-image', subjects.REQUIRED)
ROWS = (
    Row('image-backed, idle', IMAGE_BACKED),
    Row('image-backed, heavy writer', IMAGE_BACKED, is_heavy=True),
    Row('volume-backed on RBD, idle',
        subjects.Kind('bench-rbd', subjects.REQUIRED, rbd.NAME)),
    Row('volume-backed on NFS, idle',
        subjects.Kind('bench-nfs', subjects.REQUIRED, nfs.NAME),
        has_stock=False),
)


@contextlib.contextmanager
def at_work(row: Row, guest: guestctl.Guest) -> Iterator[None]:
    """Have a guest do what its row says for the length of the block."""
    guest.run(f'echo {IDLE} > {INTERVAL}')
    try:
        if row.is_heavy:
            # What is there is overwritten, so that the disk does not grow.
            guest.run(f'dd if=/dev/zero of={FILE} bs=1M count={HEAVY_MIB} '
                      '2> /dev/null; sync', SECONDS)
            guest.run(f'(while :; do dd if=/dev/zero of={FILE} bs=1M '
                      f'count={HEAVY_MIB} conv=notrunc,fsync; done) '
                      '> /dev/null 2>&1 & echo $! > /run/bench')
        yield
    finally:
        waiting.wait(lambda: _is_quiet(row, guest), SECONDS,
                     'the guest to be quiet')


def _is_quiet(row: Row, guest: guestctl.Guest) -> bool:
    try:
        guest.run(f'rm -f {INTERVAL}')
        if row.is_heavy:
            guest.run('kill $(cat /run/bench); killall dd; true')
    except guestctl.ControlError:
        return False
    return True
