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

"""Watching over one thing that nova-compute leased: a freeze, or a backup job.

It is ended by the guard once nova-compute can no longer end it itself.
"""

import logging

from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)


class Watcher:
    """The guard's watch over one leased thing, in a thread of its own.

    What is watched over is ended at its deadline, or on :meth:`end`, unless
    it was released before.

    :param instance_uuid: of which
    :param machine: whose clocks and threads are used
    :param deadline: when it ends by itself, by the machine's monotonic clock;
        None where it does not
    """

    def __init__(self, instance_uuid: str, machine: machines.Machine,
                 deadline: float | None = None) -> None:
        self._instance_uuid = instance_uuid
        self._machine = machine
        self._deadline = deadline
        self._why = 'its deadline has passed'
        self._ended = machine.event()
        self._released = machine.event()
        self._task: machines.Task | None = None

    def start(self) -> None:
        """Begin to watch.

        :raises RuntimeError: there are too many threads
        """
        self._task = self._machine.start(self._instance_uuid, self._run)

    def release(self) -> None:
        """Stop watching: another has put an end to it."""
        self._released.set()
        self._ended.set()

    def end(self, why: str) -> None:
        """End it now.

        :param why: for the log
        """
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    def join(self) -> None:
        """Wait until nothing is left to do."""
        assert self._task is not None, 'it was not started'
        self._task.join()

    def _run(self) -> None:
        self._ended.wait(None if self._deadline is None else max(
            0, self._deadline - self._machine.monotonic()))
        if not self._released.is_set():
            self._end_it(self._why)

    def _end_it(self, why: str) -> None:
        """Try to end it, until that is done or it is released.

        :param why: for the log
        """
        raise NotImplementedError

    def _wait(self, seconds: float) -> bool:
        """Wait; return whether to go on after that."""
        return not self._released.wait(seconds)

    def _say(self, text: str) -> None:
        LOG.warning('Instance %(uuid)s: %(text)s',
                    {'uuid': self._instance_uuid, 'text': text})
