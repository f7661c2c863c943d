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
import typing

import libvirt
from oslo_log import log as logging

from nova_quiesce.freeze import errors
from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

#: Seconds for which it is tried to have a guest run again, and between two
#: tries: libvirtd may be restarted meanwhile.
_PATIENCE, _PAUSE = 60.0, 1.0


class FreezableSnapshot(typing.Protocol):
    """The part of a snapshot in progress that is used here."""

    def freeze(self, is_saved: bool = ...) -> None:
        """Freeze the guest, where that can be had."""

    def restart(self) -> None:
        """Count the freeze's time anew, because the guest runs again."""

    def thaw(self) -> None:
        """Thaw the guest, if it was frozen."""


class Suspension:
    """The time that one guest is suspended for its snapshot.

    :param snapshot: the snapshot in progress
    :param resume: lets the guest run again
    :param is_suspended: tells whether it is suspended
    :param machine: whose clock is used
    """

    def __init__(self, snapshot: FreezableSnapshot,
                 resume: abc.Callable[[], object],
                 is_suspended: abc.Callable[[], bool],
                 machine: machines.Machine = machines.REAL) -> None:
        self._snapshot = snapshot
        self._resume = resume
        self._is_suspended = is_suspended
        self._machine = machine
        self._is_ours = True
        self._ending = contextlib.ExitStack()

    def begin(self, suspend: abc.Callable[[], None]) -> None:
        """Freeze the guest where that can be had, and suspend it.

        :param suspend: does the latter
        :raises QuiesceError: quiesce is required, and the guest was not
            frozen; it runs on
        """
        with contextlib.ExitStack() as ending:
            ending.callback(self._snapshot.thaw)
            self._snapshot.freeze(is_saved=True)
            # From here on whatever happens: it runs again, and is thawed. A
            # suspension that failed may have come about all the same.
            ending.callback(self._run_again)
            ending.callback(self._snapshot.restart)
            try:
                suspend()
            except libvirt.libvirtError as error:
                # What did not run before is suspended by somebody else.
                self._is_ours = (error.get_error_code() !=
                                 libvirt.VIR_ERR_OPERATION_INVALID)
                raise
            self._ending = ending.pop_all()

    def end(self) -> None:
        """Resume and thaw the guest, unless that was done already."""
        self._ending.close()

    def _run_again(self) -> None:
        deadline = self._machine.monotonic() + _PATIENCE
        failure: Exception | None = None
        while self._is_ours:
            try:
                if self._is_suspended():
                    self._resume()
                elif failure is not None:
                    # It runs, and not all was done that belongs to it.
                    raise failure
                return
            except Exception as error:
                if error is failure or self._machine.monotonic() >= deadline:
                    raise
                LOG.warning('The guest was suspended for its snapshot, and '
                            'does not run again yet: %s', error)
                if not isinstance(error, errors.HypervisorUnreachable):
                    failure = error
            self._machine.sleep(_PAUSE)
