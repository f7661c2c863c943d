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

"""The open requests of this host for volume-backed snapshots.

A request is open until its duty has ended. A worker tries to fulfil the duty
in the background, with the authority of its own request as long as this
process lives, and after that with that of the thaw that is still cast, or of
the project's next request: no token is on the disk.
"""

import collections
import typing

from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.freeze import machines
from nova_quiesce.nova import seams
from nova_quiesce.record import duty_worker
from nova_quiesce.record import record_duty
from nova_quiesce.record import recorder

LOG = logging.getLogger(__name__)

#: How many requests are remembered that gave up before they were heard of.
_MAX_GIVEN_UP = 1000

_RESTARTED = ('nova-compute was stopped while the volume snapshots were made, '
              'so nothing proves that the guest stayed frozen')


class Options(typing.Protocol):
    """The ``[quiesce]`` option that is read here."""

    @property
    def record_timeout(self) -> float:
        """Seconds after which it is told that a record takes longer."""


class DutyNotWritten(errors.NotFrozen):
    """The duty of a snapshot cannot be written, so nothing is frozen."""

    def __init__(self) -> None:
        super().__init__(
            'this compute host cannot write down what it owes for the '
            'snapshot; ask its operator, or move the instance')


class OpenRequests:
    """The open requests of one nova-compute, by the request's id.

    :param directory: keeps their duties on the disk
    :param recorder: fulfils a duty
    :param options: the operator's
    :param machine: whose clocks and threads are used
    """

    def __init__(self, directory: duties.DutyDirectory,
                 recorder: recorder.Recorder, options: Options,
                 machine: machines.Machine = machines.REAL) -> None:
        self._directory = directory
        self._options = options
        self._machine = machine
        self._is_over = machine.event()
        self._shared = duty_worker.Shared(
            directory, recorder, self._is_over, machine)
        self._lock = machine.lock()
        self._workers: dict[str, duty_worker.DutyWorker] = {}
        self._given_up: collections.deque[str] = collections.deque(
            maxlen=_MAX_GIVEN_UP)

    def start(self) -> None:
        """Go on with the duties that an earlier nova-compute left.

        :raises DutyError: the directory cannot be used
        """
        self._directory.prepare()
        found, problems = self._directory.read_all()
        for problem in problems:
            LOG.error('Among the duties in %(path)s is none: %(problem)s',
                      {'path': self._directory.path, 'problem': problem})
        for stored in found:
            if stored.kind != leased_jobs.KIND:
                self._go_on(stored)

    def _go_on(self, stored: duties.Duty) -> None:
        try:
            duty = record_duty.RecordDuty.of(stored)
        except record_duty.NotARecordDuty as error:
            LOG.error('Duty %(id)s of instance %(uuid)s is left alone: '
                      '%(error)s', {'id': stored.id, 'error': error,
                                    'uuid': stored.instance_uuid})
            return
        worker = self._add(duty, None)
        if duty.verdict is None:
            verdict = record_duty.Verdict.of(consistency.crash(_RESTARTED))
            worker.change(lambda duty: duty.with_verdict(verdict))
        worker.start()

    def stop(self) -> None:
        """Leave the open requests to the next nova-compute."""
        self._is_over.set()
        with self._lock:
            everything = list(self._workers.values())
        for worker in everything:
            worker.stop()

    def begin(self, context: seams.RequestContext, instance_uuid: str,
              is_required: bool) -> None:
        """Write down the duty of a request, before anything is frozen for it.

        :param context: the request's
        :param instance_uuid: the instance whose snapshot it is
        :param is_required: whether only a proven snapshot may be left of it
        :raises GivenUp: nova-api does not wait for the request any more
        :raises DutyNotWritten: the duty cannot be written
        """
        duty = record_duty.RecordDuty.begin(
            instance_uuid, context.request_id, context.project_id,
            is_required, self._machine.now())
        with self._lock:
            if duty.request_id in self._given_up or (
                    duty.request_id in self._workers):
                raise exception.GivenUp()
        try:
            self._directory.write(duty.stored)
        except duties.DutyError as error:
            LOG.error('What a snapshot of instance %(uuid)s owes is not '
                      'written down, so it is not quiesced: %(error)s',
                      {'uuid': instance_uuid, 'error': error})
            self._take_back(duty)
            raise DutyNotWritten() from error
        worker = self._add(duty, context)
        if duty.request_id in self._given_up:
            # While it was written: a disk may be slow.
            worker.end('nova-api gave it up')
            raise exception.GivenUp()

    def _take_back(self, duty: record_duty.RecordDuty) -> None:
        # What failed may have been done all the same.
        try:
            self._directory.end(duty.stored)
        except duties.DutyError as error:
            LOG.error('It may be there until nova-compute is started again, '
                      'and is nothing that is owed: %s', error)

    def is_wanted(self, request_id: str) -> bool:
        """Tell whether nova-api still waits for a request.

        :param request_id: the request's
        """
        worker = self._find(request_id)
        return worker is not None and worker.duty.snapshot_ids != ()

    def refuse(self, request_id: str) -> None:
        """End a request that was refused: nova-api makes nothing of it.

        :param request_id: the request's
        """
        worker = self._find(request_id)
        if worker is not None:
            worker.end('it was refused')

    def judge(self, request_id: str, verdict: record_duty.Verdict) -> None:
        """Note the verdict on a request's window, once that is closed.

        :param request_id: the request's
        :param verdict: the verdict
        """
        worker = self._find(request_id)
        if worker is None:
            return
        worker.change(lambda duty: duty.with_verdict(verdict))
        worker.tell_after(self._options.record_timeout)
        worker.start()

    def list_came(self, context: seams.RequestContext, request_id: str,
                  snapshot_ids: tuple[str, ...]) -> None:
        """Note which volume snapshots nova-api made.

        :param context: the cast's
        :param request_id: the request's
        :param snapshot_ids: all of them; none where it gave up
        """
        with self._lock:
            worker = self._workers.get(request_id)
            if worker is None:
                if not snapshot_ids:
                    # The request itself may still wait for its turn.
                    self._given_up.append(request_id)
                return
        worker.use(context)
        now = self._machine.now()
        worker.change(lambda duty: duty.with_snapshots(snapshot_ids, now))
        worker.start()

    def lend(self, context: seams.RequestContext) -> None:
        """Use a request's authority for the open ones of its project.

        Never raises: it is not what the request is about.

        :param context: any request's of a user
        """
        with self._lock:
            lacking = [worker for worker in self._workers.values()
                       if worker.duty.project_id == context.project_id and
                       worker.lacks_authority]
        for worker in lacking:
            worker.use(context)
            worker.start()

    def _add(self, duty: record_duty.RecordDuty,
             context: seams.RequestContext | None) -> duty_worker.DutyWorker:
        worker = duty_worker.DutyWorker(
            duty, context, self._shared, self._forget)
        with self._lock:
            self._workers[duty.request_id] = worker
        return worker

    def _find(self, request_id: str) -> duty_worker.DutyWorker | None:
        with self._lock:
            return self._workers.get(request_id)

    def _forget(self, worker: duty_worker.DutyWorker) -> None:
        request_id = worker.duty.request_id
        with self._lock:
            if self._workers.get(request_id) is worker:
                del self._workers[request_id]
