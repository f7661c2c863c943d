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

"""The worker of one request's duty: it tries until the duty is fulfilled."""

from collections import abc
import typing

from oslo_log import log as logging

from nova_quiesce.freeze import duties
from nova_quiesce.freeze import machines
from nova_quiesce.nova import seams
from nova_quiesce.record import record_duty
from nova_quiesce.record import recorder

LOG = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 60.0
_GROWTH = 1.5
#: Seconds that one authority is used; a token does not last for ever.
_LONGEST_WORK = 3600
#: Seconds after which nobody waits any longer for a call of another service.
_HANGING = 300
#: How many hanging calls of one duty there may be.
_MAX_HANGING = 3


class Shared(typing.NamedTuple):
    """The things that all workers of one nova-compute share."""

    #: Keeps the duties on the disk.
    directory: duties.DutyDirectory
    #: Fulfils them.
    recorder: recorder.Recorder
    #: Set when nova-compute ends.
    is_over: machines.Event
    #: Its clocks and its threads are used.
    machine: machines.Machine


class DutyWorker:
    """The worker of one duty, with a thread of its own while it tries.

    The duty is on the disk, and its file goes when the duty has ended: where
    this process is killed, the next one makes a worker from what it finds.

    :ivar duty: the duty, with what is known by now
    :param duty: the duty as it begins, or as it was found on the disk
    :param context: of the request whose authority is used; None where there
        is none
    :param shared: the things that all workers share
    :param forget: called with this worker when its duty has ended, before
        the duty's file is removed
    """

    def __init__(self, duty: record_duty.RecordDuty,
                 context: seams.RequestContext | None, shared: Shared,
                 forget: abc.Callable[['DutyWorker'], None]) -> None:
        self.duty = duty
        self._context = context
        self._shared = shared
        self._forget = forget
        #: Held while the duty is changed, and so while the disk is written.
        self._changing = shared.machine.lock()
        #: Held for moments only: callers of :meth:`start` must not wait.
        self._starting = shared.machine.lock()
        #: The number of the thread that works; none is after 0.
        self._thread = 0
        #: How many threads there have been.
        self._threads = 0
        #: When it called the recorder, by the machine's monotonic clock; 0
        #: where it waits.
        self._busy_since = 0.0
        self._has_failed = False
        self._has_ended = False
        #: Set once nobody has to tell any more that the record is late.
        self._is_settled = shared.machine.event()
        #: Each wake has an event of its own.
        self._wake = shared.machine.event()

    @property
    def lacks_authority(self) -> bool:
        """True if another request's authority could bring it on.

        Its own may have come to nothing by the time that no thread works.
        """
        return self.duty.verdict is not None and (
            self._context is None or self._has_failed or not self._thread)

    def use(self, context: seams.RequestContext) -> None:
        """Work with the authority of this request from now on.

        :param context: the request's
        """
        self._context = context

    def change(self, change: recorder.Change) -> record_duty.RecordDuty:
        """Change the duty, here and on the disk.

        What cannot be written is logged, and known until this process ends.

        :param change: makes the new duty of the old one
        :returns: the new one
        """
        with self._changing:
            self.duty = change(self.duty)
            if self._has_ended:
                return self.duty
            try:
                self._shared.directory.write(self.duty.stored)
            except duties.DutyError as error:
                LOG.error('What is known of request %(request)s is not '
                          'written down, and is lost when nova-compute '
                          'ends: %(error)s',
                          {'request': self.duty.request_id, 'error': error})
            return self.duty

    def end(self, how: str) -> None:
        """End the duty, and remove it from the disk.

        Does nothing the second time.

        :param how: the way it ended, for the log
        """
        with self._changing:
            if self._has_ended:
                return
            self._has_ended = True
            self._forget(self)
            self._is_settled.set()
            LOG.info('Volume-backed snapshot of instance %(uuid)s, request '
                     '%(request)s: %(how)s',
                     {'uuid': self.duty.instance_uuid,
                      'request': self.duty.request_id, 'how': how})
            try:
                self._shared.directory.end(self.duty.stored)
            except duties.DutyError as error:
                LOG.error('A duty that is done stays behind: %s', error)

    def stop(self) -> None:
        """Leave the duty to the next nova-compute.

        To be called once :attr:`Shared.is_over` is set.
        """
        self._wake.set()
        self._is_settled.set()

    def tell_after(self, seconds: float) -> None:
        """Tell that the record is late if it is not written by then.

        :param seconds: from now
        """
        self._start_task('late-%s' % self.duty.instance_uuid,
                         self._tell_unless_settled, seconds)

    def _tell_unless_settled(self, seconds: float) -> None:
        if not self._is_settled.wait(seconds):
            self._tell_late()

    def start(self) -> None:
        """Try now, in another thread.

        A thread that waits is woken; one that hangs is replaced.
        """
        with self._starting:
            if self._shared.is_over.is_set():
                return
            self._wake.set()
            if self._thread and not self._is_hanging():
                return
            self._threads += 1
            self._thread = self._threads
            self._busy_since = 0.0
        if not self._start_task('record-%s' % self.duty.instance_uuid,
                                self._work, self._thread):
            self._thread = 0

    def _is_hanging(self) -> bool:
        return (0 < self._busy_since < self._now() - _HANGING and
                self._threads <= _MAX_HANGING)

    def _now(self) -> float:
        return self._shared.machine.monotonic()

    def _work(self, number: int) -> None:
        until, pause = self._now() + _LONGEST_WORK, _FIRST_PAUSE
        while self._goes_on(number, until):
            if self._wake.is_set():
                self._wake = self._shared.machine.event()
                until, pause = self._now() + _LONGEST_WORK, _FIRST_PAUSE
            how = self._attempt(number)
            if self._thread != number:
                # It hung, and another one is at it.
                return
            if how is not None:
                self.end(how)
                return
            if self._context is None:
                self._tell_late()
            self._wake.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * _GROWTH)

    def _goes_on(self, number: int, until: float) -> bool:
        with self._starting:
            if self._thread != number:
                return False
            if not self._shared.is_over.is_set() and (
                    self._wake.is_set() or self._now() < until):
                return True
            self._thread = 0
            return False

    def _attempt(self, number: int) -> str | None:
        self._note_attempt(number, self._now(), self._has_failed)
        has_failed = False
        try:
            return self._shared.recorder.attempt(
                self._context, self.duty, self.change)
        except Exception as error:
            has_failed = True
            LOG.warning('The record of request %(request)s for a snapshot of '
                        'instance %(uuid)s is tried again: %(error)s',
                        {'request': self.duty.request_id, 'error': error,
                         'uuid': self.duty.instance_uuid})
            return None
        finally:
            self._note_attempt(number, 0.0, has_failed)

    def _note_attempt(self, number: int, busy_since: float,
                      has_failed: bool) -> None:
        with self._starting:
            # One that hung, and was replaced, has nothing to say any more.
            if self._thread == number:
                self._busy_since, self._has_failed = busy_since, has_failed

    def _tell_late(self) -> None:
        if self.duty.is_told or self._has_ended:
            return
        try:
            self._shared.recorder.tell_late(self.duty)
        except Exception as error:
            LOG.warning('No event tells that a record is late: %s', error)
            return
        self.change(lambda duty: duty.with_told())

    def _start_task(self, name: str, target: abc.Callable[..., None],
                    *arguments: object) -> bool:
        try:
            self._shared.machine.start(name, target, *arguments)
        except RuntimeError as error:
            LOG.error('A record is made later, because no thread was to be '
                      'had: %s', error)
            return False
        return True
