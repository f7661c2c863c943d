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

"""One snapshot in progress: from the policy to the record.

Nova's driver takes the snapshot; what happens here is called from the seams
in it, in the order of the methods below.
"""

from collections import abc
import dataclasses

from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import windows
from nova_quiesce import policy

LOG = logging.getLogger(__name__)

_ENOUGH = (consistency.Level.FILESYSTEM, consistency.Level.OFFLINE)


class Snapshot:
    """The decision, the freeze and the proof of one snapshot.

    :param decision: what the policy decided for it
    :param agent: the guest's agent
    :param new_window: makes a freeze window of this guest; told whether the
        guest is suspended to disk inside it
    :param remark: what every record of it says besides
    """

    def __init__(
            self, decision: policy.Decision,
            agent: guest_agent.Agent,
            new_window: abc.Callable[[bool], windows.Window],
            remark: str = '') -> None:
        self._remark = remark
        self._decision = decision
        self._agent = agent
        self._new_window = new_window
        self._is_usable = False
        self._window: windows.Window | None = None
        self.record = consistency.crash(
            'this storage back end is snapshotted without a freeze')

    @property
    def record(self) -> consistency.Record:
        """The record of what is proven by now."""
        return self._record

    @record.setter
    def record(self, record: consistency.Record) -> None:
        self._record = dataclasses.replace(record, remark=self._remark)

    def find_offline(self) -> None:
        """Note that the guest had shut itself down."""
        self.record = consistency.offline()

    def find_unfreezable(self, reason: str) -> None:
        """Note that this snapshot cannot have a freeze window.

        :param reason: why
        :raises QuiesceError: quiesce is required
        """
        self.record = consistency.crash(reason)
        self.check()

    def prepare(self) -> None:
        """Ask the agent whether it could freeze, before any data is copied.

        Nova may choose another path later, and ask again.

        :raises QuiesceError: quiesce is required, and cannot be had
        """
        if self._decision.reason is not None:
            self.find_unfreezable(self._decision.reason)
            return
        try:
            self._agent.preflight()
        except errors.NotFrozen as error:
            self.find_unfreezable(str(error))
        else:
            self._is_usable = True

    def freeze(self, is_saved: bool = False) -> None:
        """Freeze the guest, where that can be had.

        What comes next has to be inside a ``try`` that ends in :meth:`thaw`.

        :param is_saved: whether the guest is suspended to disk before it is
            thawed
        :raises QuiesceError: quiesce is required, and the guest was not
            frozen; a cut that is made now is sure to be useless
        """
        if self._is_usable:
            try:
                window = self._new_window(is_saved)
                window.open()
                self._window = window
                return
            except Exception as error:
                LOG.warning('The guest was not frozen for its snapshot: %s',
                            error)
                self.record = consistency.crash(
                    str(error) if isinstance(error, errors.QuiesceError)
                    else 'this compute host failed to freeze the guest')
        self.check()

    def restart(self) -> None:
        """Count the freeze's time anew, because the guest runs again."""
        if self._window is not None:
            self._window.restart()

    def thaw(self) -> None:
        """Thaw the guest, if it was frozen, and judge what that proves."""
        window, self._window = self._window, None
        if window is not None:
            self.record = consistency.judge(window.close())

    def cut(self, make: abc.Callable[[], None]) -> None:
        """Make a cut inside a freeze, unless it is sure to be useless.

        Whether its result may be used, :meth:`check` tells.

        :param make: makes the cut
        :raises QuiesceError: quiesce is required, and the guest was not
            frozen; nothing was made
        """
        try:
            self.freeze()
            make()
        finally:
            self.thaw()

    def cut_and_check(self, make: abc.Callable[[], None]) -> None:
        """Make a cut whose result can be thrown away.

        :param make: makes the cut
        :raises QuiesceError: quiesce is required, and not proven
        """
        self.cut(make)
        self.check()

    def cut_anyway(self, make: abc.Callable[[], None]) -> None:
        """Make a cut that also ends the work that led up to it.

        Whether its result may be used, :meth:`check` tells.

        :param make: makes the cut
        """
        try:
            try:
                self.freeze()
            except errors.QuiesceError as error:
                LOG.debug('The cut is made, and its result not used: %s',
                          error)
            make()
        finally:
            self.thaw()

    def check(self) -> None:
        """Refuse a snapshot that is not what its image requires.

        :raises QuiesceError: quiesce is required, and not proven
        """
        required = self._decision.policy is policy.Policy.REQUIRE
        if required and self.record.level not in _ENOUGH:
            raise errors.QuiesceError(self.record.reason)
