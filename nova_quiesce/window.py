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

"""The freeze window: from sending the freeze to the thaw's answer.

Every way out of a window leads through a thaw, also out of one that never
opened properly: a freeze that failed or timed out may still have reached the
guest, or reach it later.
"""

from collections import abc
import contextlib
import datetime
import threading
import time

from oslo_log import log as logging

from nova_quiesce import agent as guest_agent
from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce import hold as holding

LOG = logging.getLogger(__name__)


class Window:
    """One freeze of one guest.

    :param agent: the guest's agent
    :param hold: what outlives this process while the guest is frozen
    :param name: what to call the guest in the log
    :param thaw_timeout: seconds to wait for a confirmed thaw before it is
        left to the background
    :param retry_interval: seconds between two tries to thaw
    :param longest: seconds that the guest may stay frozen, for what is cut
        meanwhile to be worth anything; None where it does not run then
    """

    def __init__(self, agent: guest_agent.Agent, hold: holding.Hold,
                 name: str, thaw_timeout: float, retry_interval: float,
                 longest: float | None = None) -> None:
        self._agent = agent
        self._hold = hold
        self._name = name
        self._thaw_timeout = thaw_timeout
        self._retry_interval = retry_interval
        self._longest = longest
        self._confirmed = 0.0
        self._started = 0.0
        self._ended = 0.0
        self._frozen_at: datetime.datetime | None = None
        self._frozen = 0
        self._evidence: consistency.Evidence | None = None

    def open(self) -> None:
        """Freeze the guest.

        :raises NotFrozen: the freeze did not reach the guest
        :raises MaybeFrozen: it may have; the guest was thawed, or is being
            thawed in the background
        """
        self._hold.take()
        self._started = time.monotonic()
        try:
            self._frozen = self._agent.freeze()
        except exception.NotFrozen:
            self._hold.drop()
            raise
        except BaseException:
            # Whatever it was, the freeze may have been sent.
            self._thaw()
            raise
        self._confirmed = time.monotonic()
        self._frozen_at = datetime.datetime.now(datetime.UTC)
        LOG.info('Guest %(name)s: froze %(count)d filesystems',
                 {'name': self._name, 'count': self._frozen})

    def limit(self, seconds: float) -> None:
        """Have the guest thawed from outside, should this process stall.

        :param seconds: from now
        """
        self._hold.limit(seconds)

    def close(self, lapse: str | None = None) -> consistency.Evidence:
        """Thaw the guest.

        :param lapse: why the cut was not complete by now, where that is so
        :returns: what the window proves
        """
        assert self._frozen_at is not None, 'the window was never open'
        closed_at = time.monotonic()
        lapse = lapse or self._overdue(closed_at)
        thawed = self._thaw()
        evidence = consistency.Evidence(
            frozen_at=self._frozen_at,
            seconds=(self._ended or time.monotonic()) - self._started,
            frozen=self._frozen, thawed=thawed, lapse=lapse,
            closed_at=closed_at, mountpoints=self._agent.mountpoints,
            listed=self._agent.listed)
        LOG.info('Guest %(name)s: thawed %(count)s filesystems, the freeze '
                 'window took %(ms)d ms',
                 {'name': self._name, 'count': thawed,
                  'ms': evidence.seconds * 1000})
        self._evidence = evidence
        return evidence

    def _overdue(self, now: float) -> str | None:
        # Nobody may have ended it: there may be no guard, and Windows lets
        # writes go on without telling its agent.
        if self._longest is None or now - self._confirmed <= self._longest:
            return None
        return ('the guest was frozen for longer than the %g s that it may be'
                % self._longest)

    @property
    def evidence(self) -> consistency.Evidence:
        """What the window proves, once it was closed."""
        assert self._evidence is not None, 'the window is not closed'
        return self._evidence

    def _thaw(self) -> int | None:
        deadline = time.monotonic() + self._thaw_timeout
        level = logging.WARNING
        while True:
            try:
                return self._thaw_once()
            except exception.GuestGone:
                return None
            except Exception as error:
                # Said once; the rest is the same again.
                LOG.log(level, 'Guest %(name)s may still be frozen, thawing '
                        'it again: %(error)s',
                        {'name': self._name, 'error': error})
                level = logging.DEBUG
            if time.monotonic() >= deadline:
                break
            time.sleep(self._retry_interval)
        threading.Thread(target=self._keep_thawing, daemon=True,
                         name='thaw-%s' % self._name).start()
        return None

    def _thaw_once(self) -> int:
        try:
            count = self._agent.thaw()
        except exception.GuestGone:
            self._end()
            raise
        self._end()
        return count

    def _end(self) -> None:
        # The window ends with the thaw's answer, and not with the lease's
        # way to the disk.
        self._ended = time.monotonic()
        self._hold.drop()

    def _keep_thawing(self) -> None:
        LOG.error('Guest %s did not confirm its thaw; nova-compute goes on '
                  'thawing it', self._name)
        while True:
            time.sleep(self._retry_interval)
            try:
                self._thaw_once()
            except exception.GuestGone:
                LOG.info('Guest %s is gone, nothing is left to thaw',
                         self._name)
                return
            except Exception as error:
                LOG.debug('Guest %(name)s is not thawed yet: %(error)s',
                          {'name': self._name, 'error': error})
            else:
                LOG.info('Guest %s is thawed at last', self._name)
                return


@contextlib.contextmanager
def frozen(window: Window) -> abc.Iterator[Window]:
    """Keep a guest frozen for the length of a ``with`` block.

    :param window: a window that was not opened yet
    :returns: the window; its evidence is there once the block was left
    :raises QuiesceError: the guest was not frozen; the block did not run
    """
    window.open()
    try:
        yield window
    finally:
        window.close()
