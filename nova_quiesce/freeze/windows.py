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
guest, or reach it later. And it has one deadline, counted from the freeze's
answer: this process thaws then, whatever the cut does; the guard does so a
little later, should this process be gone; and what was cut until then is
worth nothing.
"""

from collections import abc
import dataclasses
import datetime
import logging

from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import proof
from nova_quiesce.freeze import thawing
from nova_quiesce.freeze import watched_lease
from nova_quiesce.freeze import window_thaw

LOG = logging.getLogger(__name__)

#: Called once with what a window shows, after it closed.
OnClose = abc.Callable[[proof.Evidence], None]


@dataclasses.dataclass(frozen=True)
class WindowLimits:
    """The time limits of a window's steps, in seconds.

    :ivar frozen: the guest may stay frozen, while it runs
    :ivar thaw: a thaw is waited for, before it goes on in the background
    :ivar retry: the first pause between two tries to thaw
    """

    frozen: float
    thaw: float
    retry: float


class Window:
    """One freeze of one guest.

    :param agent: the guest's agent
    :param lease: what outlives this process while the guest is frozen
    :param name: what to call the guest in the log
    :param limits: how long its steps may take
    :param machine: whose clocks and threads it uses
    :param is_saved: whether the guest is suspended to disk inside it: while
        it stands still, its time does
    """

    def __init__(self, agent: guest_agent.Agent,
                 lease: watched_lease.WatchedLease, name: str,
                 limits: WindowLimits, machine: machines.Machine,
                 is_saved: bool = False) -> None:
        self._agent = agent
        self._lease = lease
        self._name = name
        self._limits = limits
        self._machine = machine
        self._is_saved = is_saved
        self._on_close: OnClose | None = None
        self._started = 0.0
        self._deadline = 0.0
        self._frozen_at: datetime.datetime | None = None
        self._frozen = 0
        self._evidence: proof.Evidence | None = None
        self._lock = machine.lock()
        self._is_closing = False
        #: The freeze was answered, or will not be.
        self._answered = machine.event()
        #: The window closes, or never opened.
        self._left = machine.event()
        self._closed = machine.event()

    def open(self, on_close: OnClose | None = None) -> None:
        """Freeze the guest.

        :param on_close: called once the window is closed, by :meth:`close`
            or at the deadline
        :raises NotFrozen: the guest was not frozen
        :raises MaybeFrozen: it may have been; it was thawed, or is being
            thawed in the background
        """
        self._on_close = on_close
        self._lease.take()
        lease = self._lease.lease
        try:
            self._refuse_restarted(lease)
            self._prepare_deadline()
            self._started = self._machine.monotonic()
            self._frozen = self._agent.freeze()
            self._deadline = self._machine.monotonic() + self._limits.frozen
            self._frozen_at = self._machine.now()
        except errors.NotFrozen:
            self._left.set()
            self._lease.drop()
            raise
        except BaseException as error:
            # Whatever it was, the freeze may have been sent.
            self._left.set()
            self._new_thaw(lease, getattr(error, 'frozen', None),
                           _settling(error)).run()
            raise
        finally:
            self._answered.set()
        LOG.info('Guest %(name)s: froze %(count)d filesystems',
                 {'name': self._name, 'count': self._frozen})

    def _refuse_restarted(self, lease: leases.Lease) -> None:
        # To write the lease may have taken long. A freeze of another start of
        # the domain than the lease's would be taken for over.
        number = self._agent.presence().domain_id
        if number is None:
            raise errors.GuestGone()
        if number != lease.domain_id:
            raise errors.GuestRestarted()

    def _prepare_deadline(self) -> None:
        try:
            self._machine.start('deadline-%s' % self._name,
                                self._keep_deadline)
        except RuntimeError as error:
            raise errors.NoThread() from error

    def restart(self) -> None:
        """Count the time anew, because the guest begins to run again."""
        self._deadline = self._machine.monotonic() + self._limits.frozen
        self._lease.limit(self._deadline)

    def close(self, lapse: str | None = None) -> proof.Evidence:
        """Thaw the guest, if nobody has by now.

        :param lapse: why the cut was not complete by now, where that is so
        :returns: what the window proves
        """
        assert self._frozen_at is not None, 'the window was never open'
        with self._lock:
            is_first, self._is_closing = not self._is_closing, True
        if not is_first:
            self._closed.wait()
            return self.evidence
        self._left.set()
        closed_at = self._machine.monotonic()
        # What is shown if this is interrupted.
        self._evidence = self._show(
            closed_at, lapse or 'the thaw was interrupted')
        try:
            self._evidence = self._close(closed_at, lapse)
        finally:
            self._closed.set()
            if self._on_close is not None:
                self._on_close(self._evidence)
        return self._evidence

    def thaw(self) -> None:
        """Thaw a guest that somebody else has frozen.

        :raises NotFrozen: the lease for it cannot be had
        """
        self._lease.take()
        self._new_thaw(self._lease.lease, None).run()

    @property
    def is_closing(self) -> bool:
        """True if the guest is thawed, or is being thawed."""
        return self._is_closing

    @property
    def evidence(self) -> proof.Evidence:
        """The proof that the window gives, once it was closed."""
        assert self._evidence is not None, 'the window is not closed'
        return self._evidence

    def _close(self, closed_at: float, lapse: str | None) -> proof.Evidence:
        # This thread may have been kept from running.
        if lapse is None and not self._is_saved and (
                closed_at > self._deadline):
            lapse = ('the guest was frozen for longer than the %g s that it '
                     'may be' % self._limits.frozen)
        thaw = self._new_thaw(self._lease.lease, self._frozen)
        thaw.run()
        evidence = self._show(closed_at, lapse, thaw)
        LOG.info('Guest %(name)s: thawed %(count)s filesystems, the freeze '
                 'window took %(ms)d ms',
                 {'name': self._name, 'count': thaw.count,
                  'ms': evidence.seconds * 1000})
        return evidence

    def _show(self, closed_at: float, lapse: str | None,
              thaw: window_thaw.WindowThaw | None = None) -> proof.Evidence:
        assert self._frozen_at is not None, 'the window was never open'
        ended = thaw.ended if thaw else None
        return proof.Evidence(
            frozen_at=self._frozen_at,
            seconds=(ended or self._machine.monotonic()) - self._started,
            frozen=self._frozen, thawed=thaw.count if thaw else None,
            lapse=lapse, closed_at=closed_at,
            mountpoints=self._agent.mountpoints, listed=self._agent.listed,
            refusal=thaw.refusal if thaw else None)

    def _keep_deadline(self) -> None:
        self._answered.wait()
        if self._left.is_set():
            return
        lapse = self._wait_for_deadline()
        if lapse is None:
            return
        LOG.error('Guest %(name)s is thawed before its cut is complete: '
                  '%(lapse)s', {'name': self._name, 'lapse': lapse})
        self.close(lapse)

    def _wait_for_deadline(self) -> str | None:
        """Wait; return why the guest has to be thawed, None if it is."""
        try:
            self._lease.limit(self._deadline)
            while not self._left.wait(
                    max(0, self._deadline - self._machine.monotonic())):
                if self._machine.monotonic() < self._deadline:
                    # It was restarted.
                    continue
                if self._is_saved and self._agent.stands_still():
                    self.restart()
                    continue
                return ('the guest was thawed at its deadline of %g s, before '
                        'the snapshot was complete' % self._limits.frozen)
        except Exception as error:
            # Whatever it was: nobody else would. Some have no text.
            return str(error) or repr(error)
        return None

    def _new_thaw(self, lease: leases.Lease, frozen: int | None,
                  settling: float = 0.0) -> window_thaw.WindowThaw:
        return window_thaw.WindowThaw(
            self._agent, self._lease, lease, self._name, self._machine,
            self._limits.thaw, self._limits.retry, frozen, settling)


def _settling(error: BaseException) -> float:
    # What libvirt itself has ended, it does not send any more.
    is_over = (isinstance(error, errors.MaybeFrozen) and
               not isinstance(error, errors.FreezeLost))
    return 0.0 if is_over else thawing.LOST_COMMAND
