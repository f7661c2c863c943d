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
import contextlib
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
    """What is decided, tried and proven for one snapshot.

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
        self._usable = False
        self.record = consistency.crash(
            'this storage back end is snapshotted without a freeze')

    @property
    def record(self) -> consistency.Record:
        """What is claimed of it by now."""
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
            self._usable = True

    def cut(self, make: abc.Callable[[], None]) -> None:
        """Make the cut, inside a freeze where one can be had.

        The cut is made in any case, because it also ends the work that led
        up to it. Whether its result may be used, :meth:`check` tells.

        :param make: makes the cut
        """
        with self.frozen():
            make()

    def cut_or_refuse(self, make: abc.Callable[[], None]) -> None:
        """Make the cut, unless its result could not be used.

        :param make: makes the cut
        :raises QuiesceError: quiesce is required, and not proven
        """
        self.cut_unless_refused(make)
        self.check()

    def cut_unless_refused(self, make: abc.Callable[[], None]) -> None:
        """Make a cut that cannot be undone, unless it is sure to be useless.

        Whether its result may be used, :meth:`check` tells.

        :param make: makes the cut
        :raises QuiesceError: quiesce is required, and the guest was not
            frozen; nothing was made
        """
        with self.frozen() as window:
            if window is None:
                self.check()
            make()

    @contextlib.contextmanager
    def frozen(self, is_saved: bool = False
               ) -> abc.Iterator[windows.Window | None]:
        """Keep the guest frozen for the ``with`` block, if that can be had.

        What the block may be called, :attr:`record` tells after it.

        :param is_saved: whether the guest is suspended to disk inside it
        :returns: the window; None where the guest is not frozen
        """
        with contextlib.ExitStack() as freeze:
            window = self._enter(freeze, is_saved)
            yield window
        if window is not None:
            self.record = consistency.judge(window.evidence)

    def _enter(self, freeze: contextlib.ExitStack,
               is_saved: bool) -> windows.Window | None:
        if not self._usable:
            return None
        try:
            return freeze.enter_context(
                windows.frozen(self._new_window(is_saved)))
        except Exception as error:
            LOG.warning('The guest was not frozen for its snapshot: %s',
                        error)
            self.record = consistency.crash(
                str(error) if isinstance(error, errors.QuiesceError)
                else 'this compute host failed to freeze the guest')
            return None

    def check(self) -> None:
        """Refuse a snapshot that is not what its image requires.

        :raises QuiesceError: quiesce is required, and not proven
        """
        required = self._decision.policy is policy.Policy.REQUIRE
        if required and self.record.level not in _ENOUGH:
            raise errors.QuiesceError(self.record.reason)
