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
"""The cut of an instance that is suspended while its disk is copied.

The guest is frozen, and suspended to disk as it is: nothing it writes can
reach the disk from then on. It is thawed as soon as it runs again.
"""

from collections import abc
import contextlib

from nova_quiesce.freeze import windows
from nova_quiesce import snapshots


class Suspension:
    """The time that one guest is suspended for its snapshot.

    :param snapshot: the snapshot in progress
    :param resume: lets the guest run again
    """

    def __init__(self, snapshot: snapshots.Snapshot,
                 resume: abc.Callable[[], None]) -> None:
        self._snapshot = snapshot
        self._resume = resume
        self._freeze = contextlib.ExitStack()
        self._window: windows.Window | None = None
        self._is_suspended = False

    def begin(self, suspend: abc.Callable[[], None]) -> None:
        """Freeze the guest where that can be had, and suspend it.

        :param suspend: does the latter
        """
        with contextlib.ExitStack() as freeze:
            self._window = freeze.enter_context(
                self._snapshot.frozen(is_saved=True))
            suspend()
            # From here on whatever happens: it runs again, and is thawed.
            freeze.callback(self._resume)
            self._is_suspended = True
            self._freeze = freeze.pop_all()

    def end(self) -> None:
        """Resume and thaw the guest, unless that was done already."""
        if not self._is_suspended:
            return
        self._is_suspended = False
        with self._freeze.pop_all():
            if self._window is not None:
                self._window.restart()
