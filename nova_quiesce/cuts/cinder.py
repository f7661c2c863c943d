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
"""The cuts of a request's volumes, which Cinder makes, as it tells of them.

nova-api asks for the thaw as soon as Cinder has accepted the last snapshot,
and nova-compute's manager then waits for one snapshot after the other,
looking each half second. Looking more often, the guest can be thawed as soon
as the last one is cut. One is looked at after the other, so that Cinder is
asked ten times a second, however many there are.

A snapshot that this host itself makes for Cinder (NFS and the like) is cut
before Cinder knows of it, and is not waited for.

Only snapshots that nova-api lists are looked at. It had them made after it
was told that the guest is frozen, so all of them began inside the window.
"""

from collections import abc

from oslo_log import log as logging

from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

#: Seconds between two looks.
PAUSE = 0.1

State = abc.Callable[[str], str]

_CREATING = 'creating'
_AVAILABLE = 'available'


class SnapshotPoll:
    """Polls Cinder for the volume snapshots of one request.

    :param state: asks Cinder for the state of one
    :param machine: whose clocks and threads are used
    """

    def __init__(self, state: State,
                 machine: machines.Machine = machines.REAL) -> None:
        self._state = state
        self._machine = machine
        self._lock = machine.lock()
        #: Each wake has an event of its own.
        self._wake = machine.event()
        self._waiting: list[machines.Event] = []
        self._pending: list[str] | None = None
        self._seen: dict[str, float] = {}
        self._is_over = False

    def expect(self, snapshot_ids: abc.Iterable[str]) -> None:
        """Say which snapshots there are, so that they are looked at.

        :param snapshot_ids: all of the request's
        """
        with self._lock:
            self._pending = list(snapshot_ids)
        self._wake.set()

    def note_cut(self, snapshot_id: str) -> None:
        """Take a snapshot for cut, because this host has cut it.

        Cinder may yet fail to complete it.

        :param snapshot_id: which
        """
        self._seen[snapshot_id] = self._machine.monotonic()
        self._wake.set()

    def start(self, on_complete: abc.Callable[[], object]) -> None:
        """Look in the background, as soon as it is known at what.

        :param on_complete: called as soon as no snapshot is left to wait for
        """
        self._machine.start('poll-volume-snapshots', self._run, on_complete)

    def stop(self) -> None:
        """Stop looking."""
        self._is_over = True
        self._wake.set()

    def look_again(self, timeout: float) -> None:
        """Wait for a look that begins from now on.

        :param timeout: seconds to wait at most
        """
        looked = self._machine.event()
        with self._lock:
            if self._is_over or self._pending is None:
                return
            self._waiting.append(looked)
        self._wake.set()
        looked.wait(timeout)

    def seen_until(self, moment: float) -> frozenset[str]:
        """The snapshots that were seen complete, or cut here.

        :param moment: until when, by the machine's monotonic clock
        """
        return frozenset(snapshot_id for snapshot_id, seen
                         in list(self._seen.items()) if seen <= moment)

    def _run(self, on_complete: abc.Callable[[], object]) -> None:
        pause: float | None = None
        is_complete = False
        while not (is_complete or self._is_over):
            self._wake.wait(pause)
            self._wake = self._machine.event()
            pause = PAUSE
            is_complete = self._look_for(self._take_waiting())
        self.stop()
        self._release(self._take_waiting())
        if is_complete:
            on_complete()

    def _take_waiting(self) -> list[machines.Event]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _look_for(self, waiting: list[machines.Event]) -> bool:
        try:
            return not self._is_over and self._look()
        except Exception as error:
            LOG.debug('Volume snapshots were not looked up: %s', error)
            return False
        finally:
            self._release(waiting)

    @staticmethod
    def _release(waiting: list[machines.Event]) -> None:
        for looked in waiting:
            looked.set()

    def _look(self) -> bool:
        if self._pending is None:
            return False
        pending = self._pending
        while pending and self._is_settled(pending[0]):
            pending.pop(0)
        return not self._pending

    def _is_settled(self, snapshot_id: str) -> bool:
        if snapshot_id in self._seen:
            return True
        state = self._state(snapshot_id)
        if state == _AVAILABLE:
            # The answer is at hand, so it was so before now.
            self._seen[snapshot_id] = self._machine.monotonic()
        return state != _CREATING
