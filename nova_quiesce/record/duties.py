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

from collections import abc
import dataclasses
import threading
import time
import typing

from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce.freeze import duty as duty_directory
from nova_quiesce.record import owed as owing
from nova_quiesce.record import volume_backed
from nova_quiesce import seams

LOG = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 60.0
_GROWTH = 1.5
#: Seconds that one authority is used; a token does not last for ever.
_LONGEST_WORK = 3600

_RESTARTED = ('nova-compute was stopped while the volume snapshots were made, '
              'so nothing proves that the guest stayed frozen')


class Options(typing.Protocol):
    """The ``[quiesce]`` option that is read here."""

    @property
    def record_timeout(self) -> float:
        """Seconds after which it is told that a record takes longer."""


class NotNoted(exception.NotFrozen):
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
    :ivar is_worked_at: whether a thread is at it
    """

    owed: owing.Owed
    context: seams.RequestContext | None
    is_worked_at: bool = False
    wake: threading.Event = dataclasses.field(
        default_factory=threading.Event)


class Duties:
    """What this host's volume-backed snapshots owe.

    :param directory: where it is kept
    :param recorder: does it
    :param host: this compute host
    :param options: the operator's
    """

    def __init__(self, directory: duty_directory.DutyDirectory,
                 recorder: volume_backed.Recorder, host: str,
                 options: Options) -> None:
        self._directory = directory
        self._recorder = recorder
        self._host = host
        self._options = options
        self._lock = threading.RLock()
        self._open: dict[str, _Open] = {}
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
            self._go_on(duty)

    def _go_on(self, duty: duty_directory.Duty) -> None:
        try:
            owed = owing.Owed.of(duty)
        except owing.NotOwed as error:
            LOG.error('Duty %(id)s of instance %(uuid)s is left alone: '
                      '%(error)s', {'id': duty.id, 'error': error,
                                    'uuid': duty.instance_uuid})
            return
        with self._lock:
            self._open[owed.request_id] = _Open(owed, None)
        if owed.verdict is None:
            self.judge(owed.request_id, owing.Verdict.of(
                consistency.crash(_RESTARTED)))
        self._work_at(owed.request_id)

    def stop(self) -> None:
        """Leave what is open to the next nova-compute."""
        self._is_over.set()
        with self._lock:
            for one in self._open.values():
                one.wake.set()

    def begin(self, context: seams.RequestContext, instance_uuid: str,
              is_required: bool) -> None:
        """Note what a request will owe, before anything is frozen for it.

        :param context: the request's
        :param instance_uuid: whose snapshot it is
        :param is_required: whether only a proven snapshot may be left of it
        :raises NotNoted: it cannot be written
        """
        owed = owing.Owed.begin(instance_uuid, context.request_id,
                                context.project_id, is_required)
        try:
            self._directory.write(owed.duty)
        except duty_directory.DutyError as error:
            LOG.error('What a snapshot of instance %(uuid)s owes is not '
                      'written down, so it is not quiesced: %(error)s',
                      {'uuid': instance_uuid, 'error': error})
            raise NotNoted() from error
        with self._lock:
            self._open[owed.request_id] = _Open(owed, context)

    def is_wanted(self, request_id: str) -> bool:
        """Whether nova-api has not given up a request."""
        with self._lock:
            one = self._open.get(request_id)
            return one is not None and one.owed.snapshot_ids != ()

    def refuse(self, request_id: str) -> None:
        """Note that a request was refused: nova-api makes nothing of it."""
        self._end(request_id, 'it was refused')

    def judge(self, request_id: str, verdict: owing.Verdict) -> None:
        """Note what is proven, once the window is closed."""
        self._change(request_id, lambda owed: owed.judged(verdict))
        self._work_at(request_id)

    def list_came(self, context: seams.RequestContext, request_id: str,
                  snapshot_ids: tuple[str, ...]) -> None:
        """Note which volume snapshots nova-api made.

        :param context: the cast's
        :param request_id: the request's
        :param snapshot_ids: all of them; none where it gave up
        """
        with self._lock:
            one = self._open.get(request_id)
            if one is None:
                return
            one.context = context
        self._change(request_id, lambda owed: owed.listed(snapshot_ids))
        self._work_at(request_id)

    def lend(self, context: seams.RequestContext) -> None:
        """Use a request's authority for what its project's others owe.

        :param context: any request's of a user
        """
        with self._lock:
            theirs = [one for one in self._open.values()
                      if one.owed.project_id == context.project_id and
                      one.owed.verdict is not None]
            for one in theirs:
                one.context = context
        for one in theirs:
            self._work_at(one.owed.request_id)

    def _change(self, request_id: str,
                change: abc.Callable[[owing.Owed], owing.Owed]) -> None:
        with self._lock:
            one = self._open.get(request_id)
            if one is None:
                return
            one.owed = change(one.owed)
            try:
                self._directory.write(one.owed.duty)
            except duty_directory.DutyError as error:
                LOG.error('What is known of request %(request)s is not '
                          'written down, and is lost when nova-compute '
                          'ends: %(error)s',
                          {'request': request_id, 'error': error})

    def _end(self, request_id: str, how: str) -> None:
        with self._lock:
            one = self._open.pop(request_id, None)
        if one is None:
            return
        LOG.info('Volume-backed snapshot of instance %(uuid)s, request '
                 '%(request)s: %(how)s',
                 {'uuid': one.owed.instance_uuid, 'request': request_id,
                  'how': how})
        try:
            self._directory.end(one.owed.duty)
        except duty_directory.DutyError as error:
            LOG.error('A duty that is done stays behind: %s', error)

    def _work_at(self, request_id: str) -> None:
        with self._lock:
            one = self._open.get(request_id)
            if one is None or self._is_over.is_set():
                return
            one.wake.set()
            if one.is_worked_at:
                return
            one.is_worked_at = True
        threading.Thread(
            target=self._work, args=(one,), daemon=True,
            name='record-%s' % one.owed.instance_uuid).start()

    def _work(self, one: _Open) -> None:
        began = time.monotonic()
        pause = _FIRST_PAUSE
        try:
            while not self._is_over.is_set():
                if one.wake.is_set():
                    one.wake.clear()
                    pause = _FIRST_PAUSE
                how = self._attempt(one)
                if how is not None:
                    self._end(one.owed.request_id, how)
                    return
                waited = time.monotonic() - began
                if one.context is None or (
                        waited > self._options.record_timeout):
                    self._tell_late(one)
                if waited > _LONGEST_WORK:
                    return
                one.wake.wait(pause)
                pause = min(_LONGEST_PAUSE, pause * _GROWTH)
        finally:
            with self._lock:
                one.is_worked_at = False

    def _attempt(self, one: _Open) -> str | None:
        try:
            return self._recorder.attempt(one.context, one.owed)
        except Exception as error:
            LOG.warning('The record of request %(request)s for a snapshot of '
                        'instance %(uuid)s is tried again: %(error)s',
                        {'request': one.owed.request_id, 'error': error,
                         'uuid': one.owed.instance_uuid})
            return None

    def _tell_late(self, one: _Open) -> None:
        if one.owed.is_told:
            return
        try:
            volume_backed.Pending(one.owed, self._host).tell()
        except Exception as error:
            LOG.warning('No event tells that a record is late: %s', error)
            return
        self._change(one.owed.request_id, lambda owed: owed.told())
