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

"""The guard's part for one backup job: it ends once nova-compute is gone.

A guest that stands still because the job has filled the disk goes on then.
The job's files belong to the hypervisor's user, and stay for the next
nova-compute: the guard has no rights to remove them.
"""

import logging

from nova_quiesce.freeze import duty as duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import finder
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import machine as machines
from nova_quiesce.freeze import thawing

LOG = logging.getLogger(__name__)


class JobKeeper:
    """Keeps one backup job: it is ended when its nova-compute is gone.

    :param lease: the job's
    :param files: where it keeps what belongs to it
    :param connect: opens a connection to the hypervisor
    :param interval: seconds of the first pause between two tries
    :param machine: whose clocks and threads are used
    """

    def __init__(self, lease: duties.Duty, files: jobs.Files,
                 connect: finder.Connect, interval: float,
                 machine: machines.Machine) -> None:
        self._lease = lease
        self._files = files
        self._find = finder.Finder(connect, lease.instance_uuid)
        self._interval = interval
        self._machine = machine
        self._why = ''
        self._ended = machine.event()
        self._released = machine.event()
        self._task: machines.Task | None = None

    def start(self) -> None:
        """Begin to keep the job.

        :raises RuntimeError: there are too many threads
        """
        self._task = self._machine.start(
            'job-%s' % self._lease.instance_uuid, self._keep)

    def release(self) -> None:
        """Forget the job; it has ended."""
        self._released.set()
        self._ended.set()

    def end(self, why: str) -> None:
        """End the job now.

        :param why: for the log
        """
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    def join(self) -> None:
        """Wait until nothing is left to do."""
        assert self._task is not None, 'it was not started'
        self._task.join()

    def _keep(self) -> None:
        self._ended.wait()
        if self._released.is_set():
            return
        self._say('its backup job is ended: %s' % self._why)
        said, pause = False, self._interval
        while not self._released.is_set():
            try:
                if jobs.end(self._find(), self._files, self._machine,
                            is_repeated=said):
                    self._say('its backup job has ended; its files are left '
                              'for nova-compute to remove')
                    break
            except errors.GuestGone:
                self._say('it is gone, and its backup job with it')
                break
            except Exception as error:
                if not said:
                    self._say('its backup job is not ended, trying it again: '
                              '%s' % errors.explain(error))
                said = True
            self._released.wait(pause)
            pause = min(thawing.LONGEST_PAUSE, pause * 2)
        self._find.close()

    def _say(self, text: str) -> None:
        LOG.warning('Instance %(uuid)s: %(text)s',
                    {'uuid': self._lease.instance_uuid, 'text': text})
