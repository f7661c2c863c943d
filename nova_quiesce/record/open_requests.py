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

"""The duties of this host's requests for volume-backed snapshots.

Each is worked at in the background, with the authority of its own request as
long as this process lives, and after that with that of the thaw that is
still cast, or of the project's next request: no token is on the disk.
"""

import collections
from collections import abc
import dataclasses
import functools
import threading
import time
import typing

from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.nova import seams
from nova_quiesce.record import owing
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
#: How many requests are remembered that gave up before they were heard of.
_MAX_GIVEN_UP = 1000

_RESTARTED = ('nova-compute was stopped while the volume snapshots were made, '
              'so nothing proves that the guest stayed frozen')


class Options(typing.Protocol):
    """The ``[quiesce]`` option that is read here."""

    @property
    def record_timeout(self) -> float:
        """Seconds after which it is told that a record takes longer."""


class NotNoted(errors.NotFrozen):
    """What the snapshot owes could not be written down."""

    def __init__(self) -> None:
        super().__init__(
            'this compute host cannot write down what it owes for the '
            'snapshot; ask its operator, or move the instance')


@dataclasses.dataclass
class _Open:
    """A duty that is not done.

    :ivar owed: what is known of it
    :ivar context: with whose authority it is done; None where there is none
    :ivar worker: the number of the thread that is at it; none is after 0
    :ivar busy_since: when that one called another service, by
        ``time.monotonic()``
    :ivar has_failed: whether that failed the last time
    :ivar late: tells when it takes longer than it should
    """

    owed: owing.Owed
    context: seams.RequestContext | None
    worker: int = 0
    workers: int = 0
    busy_since: float = 0.0
    has_failed: bool = False
    late: threading.Timer | None = None
    lock: threading.Lock = dataclasses.field(
        default_factory=threading.Lock)
    wake: threading.Event = dataclasses.field(
        default_factory=threading.Event)


class Duties:
    """What this host's volume-backed snapshots owe.

    :param directory: where it is kept
    :param recorder: does it
    :param host: this compute host
    :param options: the operator's
    """

    def __init__(self, directory: duties.DutyDirectory,
                 recorder: recorder.Recorder, host: str,
                 options: Options) -> None:
        self._directory = directory
        self._recorder = recorder
        self._host = host
        self._options = options
        self._lock = threading.RLock()
        self._open: dict[str, _Open] = {}
        self._given_up: collections.deque[str] = collections.deque(
            maxlen=_MAX_GIVEN_UP)
        self._is_over = threading.Event()

    def start(self) -> None:
        """Go on with what an earlier nova-compute left.

        :raises DutyError: the directory cannot be used
        """
        self._directory.prepare()
        found, problems = self._directory.read_all()
        for problem in problems:
            LOG.error('Among the duties in %(path)s is none: %(problem)s',
                      {'path': self._directory.path, 'problem': problem})
        for duty in found:
            if duty.kind != leased_jobs.KIND:
                self._go_on(duty)

    def _go_on(self, duty: duties.Duty) -> None:
        try:
            owed = owing.Owed.of(duty)
        except owing.NotOwed as error:
            LOG.error('Duty %(id)s of instance %(uuid)s is left alone: '
                      '%(error)s', {'id': duty.id, 'error': error,
                                    'uuid': duty.instance_uuid})
            return
        one = _Open(owed, None)
        with self._lock:
            self._open[owed.request_id] = one
        if owed.verdict is None:
            self._change(one, lambda owed: owed.judged(owing.Verdict.of(
                consistency.crash(_RESTARTED))))
        self._work_at(one)

    def stop(self) -> None:
        """Leave what is open to the next nova-compute."""
        self._is_over.set()
        with self._lock:
            everything = list(self._open.values())
        for one in everything:
            one.wake.set()
            if one.late is not None:
                one.late.cancel()

    def begin(self, context: seams.RequestContext, instance_uuid: str,
              is_required: bool) -> None:
        """Note what a request will owe, before anything is frozen for it.

        :param context: the request's
        :param instance_uuid: whose snapshot it is
        :param is_required: whether only a proven snapshot may be left of it
        :raises GivenUp: nova-api does not wait for it any more
        :raises NotNoted: it cannot be written
        """
        owed = owing.Owed.begin(instance_uuid, context.request_id,
                                context.project_id, is_required)
        with self._lock:
            if owed.request_id in self._given_up or (
                    owed.request_id in self._open):
                raise exception.GivenUp()
        try:
            self._directory.write(owed.duty)
        except duties.DutyError as error:
            LOG.error('What a snapshot of instance %(uuid)s owes is not '
                      'written down, so it is not quiesced: %(error)s',
                      {'uuid': instance_uuid, 'error': error})
            raise NotNoted() from error
        with self._lock:
            self._open[owed.request_id] = _Open(owed, context)

    def is_wanted(self, request_id: str) -> bool:
        """Whether nova-api has not given up a request."""
        one = self._find(request_id)
        return one is not None and one.owed.snapshot_ids != ()

    def refuse(self, request_id: str) -> None:
        """Note that a request was refused: nova-api makes nothing of it."""
        one = self._find(request_id)
        if one is not None:
            self._end(one, 'it was refused')

    def judge(self, request_id: str, verdict: owing.Verdict) -> None:
        """Note what is proven, once the window is closed."""
        one = self._find(request_id)
        if one is None:
            return
        self._change(one, lambda owed: owed.judged(verdict))
        one.late = threading.Timer(
            self._options.record_timeout, self._tell_late, (one,))
        one.late.daemon = True
        self._start(one.late)
        self._work_at(one)

    def list_came(self, context: seams.RequestContext, request_id: str,
                  snapshot_ids: tuple[str, ...]) -> None:
        """Note which volume snapshots nova-api made.

        :param context: the cast's
        :param request_id: the request's
        :param snapshot_ids: all of them; none where it gave up
        """
        one = self._find(request_id)
        if one is None:
            if not snapshot_ids:
                # The request itself may still wait for its turn.
                self._given_up.append(request_id)
            return
        one.context = context
        self._change(one, lambda owed: owed.listed(snapshot_ids))
        self._work_at(one)

    def lend(self, context: seams.RequestContext) -> None:
        """Use a request's authority for what its project's others owe.

        Never raises: it is not what the request is about.

        :param context: any request's of a user
        """
        with self._lock:
            lacking = [one for one in self._open.values()
                       if one.owed.project_id == context.project_id and
                       one.owed.verdict is not None and
                       (one.context is None or one.has_failed)]
        for one in lacking:
            one.context = context
            self._work_at(one)

    def _find(self, request_id: str) -> _Open | None:
        with self._lock:
            return self._open.get(request_id)

    def _change(self, one: _Open, change: abc.Callable[
            [owing.Owed], owing.Owed]) -> owing.Owed:
        with one.lock:
            one.owed = change(one.owed)
            if self._find(one.owed.request_id) is not one:
                return one.owed
            try:
                self._directory.write(one.owed.duty)
            except duties.DutyError as error:
                LOG.error('What is known of request %(request)s is not '
                          'written down, and is lost when nova-compute '
                          'ends: %(error)s',
                          {'request': one.owed.request_id, 'error': error})
            return one.owed

    def _end(self, one: _Open, how: str) -> None:
        request_id = one.owed.request_id
        with one.lock:
            with self._lock:
                if self._open.get(request_id) is not one:
                    return
                del self._open[request_id]
            if one.late is not None:
                one.late.cancel()
            LOG.info('Volume-backed snapshot of instance %(uuid)s, request '
                     '%(request)s: %(how)s',
                     {'uuid': one.owed.instance_uuid, 'request': request_id,
                      'how': how})
            try:
                self._directory.end(one.owed.duty)
            except duties.DutyError as error:
                LOG.error('A duty that is done stays behind: %s', error)

    def _work_at(self, one: _Open) -> None:
        with self._lock:
            if self._is_over.is_set():
                return
            one.wake.set()
            if one.worker and not self._is_hanging(one):
                return
            one.workers += 1
            one.worker = one.workers
            one.busy_since = 0.0
        worker = threading.Thread(
            target=self._work, args=(one, one.worker), daemon=True,
            name='record-%s' % one.owed.instance_uuid)
        if not self._start(worker):
            one.worker = 0

    @staticmethod
    def _is_hanging(one: _Open) -> bool:
        return (0 < one.busy_since < time.monotonic() - _HANGING and
                one.workers <= _MAX_HANGING)

    @staticmethod
    def _start(thread: threading.Thread) -> bool:
        try:
            thread.start()
        except RuntimeError as error:
            LOG.error('A record is made later, because no thread was to be '
                      'had: %s', error)
            return False
        return True

    def _work(self, one: _Open, number: int) -> None:
        until, pause = time.monotonic() + _LONGEST_WORK, _FIRST_PAUSE
        while self._is_at(one, number, until):
            if one.wake.is_set():
                one.wake.clear()
                until, pause = time.monotonic() + _LONGEST_WORK, _FIRST_PAUSE
            how = self._attempt(one)
            if one.worker != number:
                # It hung, and another one is at it.
                return
            if how is not None:
                self._end(one, how)
                return
            if one.context is None:
                self._tell_late(one)
            one.wake.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * _GROWTH)

    def _is_at(self, one: _Open, number: int, until: float) -> bool:
        with self._lock:
            if one.worker != number:
                return False
            if not self._is_over.is_set() and (
                    one.wake.is_set() or time.monotonic() < until):
                return True
            one.worker = 0
            return False

    def _attempt(self, one: _Open) -> str | None:
        one.busy_since = time.monotonic()
        try:
            how = self._recorder.attempt(
                one.context, one.owed, functools.partial(self._change, one))
            one.has_failed = False
            return how
        except Exception as error:
            one.has_failed = True
            LOG.warning('The record of request %(request)s for a snapshot of '
                        'instance %(uuid)s is tried again: %(error)s',
                        {'request': one.owed.request_id, 'error': error,
                         'uuid': one.owed.instance_uuid})
            return None
        finally:
            one.busy_since = 0.0

    def _tell_late(self, one: _Open) -> None:
        if one.owed.is_told or (
                self._find(one.owed.request_id) is not one):
            return
        try:
            recorder.Pending(one.owed, self._host).tell()
        except Exception as error:
            LOG.warning('No event tells that a record is late: %s', error)
            return
        self._change(one, lambda owed: owed.told())
