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
"""When the volume snapshots of a request are cut, as Cinder tells it.

nova-api asks for the thaw as soon as it has asked for the last snapshot, and
nova-compute's manager then waits for one snapshot after the other, looking
each half second. Looking at all of them from the start, and more often, the
guest can be thawed as soon as the last one is cut.

Which snapshots are those of the request is not known before its image is
there. So the watch takes, of each volume, what was not there before the
freeze; the record is made later, and only of those that were seen complete
while the guest was frozen.
"""

from collections import abc
import threading
import time

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: Seconds between two looks: until a snapshot is seen, and from then on, when
#: the guest waits for nothing else. Both grow, up to the last of these.
EARLY = 0.1
CLOSE = 0.03
LONGEST = 2.0
_GROWTH = 1.05

#: Looks up the snapshots of a volume: states by id.
States = abc.Callable[[str], dict[str, str]]

_CREATING = 'creating'
_AVAILABLE = 'available'


class SnapshotWatch:
    """Watches the snapshots of an instance's volumes.

    :param states: asks Cinder
    :param volume_ids: the instance's volumes
    """

    def __init__(self, states: States,
                 volume_ids: abc.Collection[str]) -> None:
        self._states = states
        self._volume_ids = volume_ids
        #: Those that are there before the guest is frozen.
        self.earlier: frozenset[str] = frozenset()
        self._seen: dict[str, float] = {}
        self._has_begun = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._waiting: list[threading.Event] = []
        self._is_over = False

    def begin(self) -> None:
        """Note which snapshots there are, before the guest is frozen."""
        self.earlier = frozenset(
            snapshot_id for volume_id in self._volume_ids
            for snapshot_id in self._states(volume_id))

    def start(self, on_complete: abc.Callable[[], object]) -> None:
        """Look from now on, in the background.

        :param on_complete: called as soon as no snapshot is left to wait for
        """
        threading.Thread(target=self._run, args=(on_complete,), daemon=True,
                         name='watch-volume-snapshots').start()

    def stop(self) -> None:
        """Stop looking."""
        self._is_over = True
        self._wake.set()

    def look_again(self, timeout: float) -> None:
        """Wait for a look that begins from now on.

        :param timeout: seconds to wait at most
        """
        looked = threading.Event()
        with self._lock:
            if self._is_over:
                return
            self._waiting.append(looked)
        self._wake.set()
        looked.wait(timeout)

    def seen_until(self, moment: float) -> frozenset[str]:
        """The snapshots that were seen complete.

        :param moment: until when, by ``time.monotonic()``
        """
        return frozenset(snapshot_id for snapshot_id, seen
                         in list(self._seen.items()) if seen <= moment)

    def _run(self, on_complete: abc.Callable[[], object]) -> None:
        early, close = _pauses(EARLY), _pauses(CLOSE)
        is_complete = False
        while not (is_complete or self._is_over):
            self._wake.wait(next(close if self._has_begun else early))
            self._wake.clear()
            is_complete = self._look_for(self._take_waiting())
        self.stop()
        self._release(self._take_waiting())
        if is_complete:
            on_complete()

    def _take_waiting(self) -> list[threading.Event]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _look_for(self, waiting: list[threading.Event]) -> bool:
        if self._is_over:
            self._release(waiting)
            return False
        try:
            return self._look()
        except Exception as error:
            LOG.debug('Volume snapshots were not looked up: %s', error)
            return False
        finally:
            self._release(waiting)

    @staticmethod
    def _release(waiting: list[threading.Event]) -> None:
        for looked in waiting:
            looked.set()

    def _look(self) -> bool:
        is_settled = [self._look_at(volume_id)
                      for volume_id in self._volume_ids]
        return all(is_settled)

    def _look_at(self, volume_id: str) -> bool:
        new = {snapshot_id: state for snapshot_id, state
               in self._states(volume_id).items()
               if snapshot_id not in self.earlier}
        # The answer is at hand, so it was so before now.
        now = time.monotonic()
        self._has_begun = self._has_begun or bool(new)
        for snapshot_id, state in new.items():
            if state == _AVAILABLE:
                self._seen.setdefault(snapshot_id, now)
        return bool(new) and _CREATING not in new.values()


def _pauses(first: float) -> abc.Iterator[float]:
    while True:
        yield first
        first = min(LONGEST, first * _GROWTH)
