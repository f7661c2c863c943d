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

"""Watching over one backup job: it is ended once nova-compute is gone.

A guest that stands still because the job has filled the disk goes on then.
The job's files belong to the hypervisor's user, and stay for the next
nova-compute: the guard has no rights to remove them.
"""

from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import finder
from nova_quiesce.freeze.guard import watcher
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import thawing


class JobWatcher(watcher.Watcher):
    """The watch over one backup job, which ends when its nova-compute is gone.

    :param lease: the job's
    :param files: where it keeps what belongs to it
    :param connect: opens a connection to the hypervisor
    :param interval: seconds of the first pause between two tries
    :param machine: whose clocks and threads are used
    """

    def __init__(self, lease: duties.Duty, files: jobs.Files,
                 connect: finder.Connect, interval: float,
                 machine: machines.Machine) -> None:
        super().__init__(lease.instance_uuid, machine)
        self._files = files
        self._find = finder.Finder(connect, lease.instance_uuid)
        self._interval = interval

    def _end_it(self, why: str) -> None:
        self._say('its backup job is ended: %s' % why)
        said, pause = False, self._interval
        while not (ending := self._try(said)):
            said = True
            if not self._wait(pause):
                break
            pause = min(thawing.LONGEST_PAUSE, pause * 2)
        self._find.close()
        if ending:
            self._say(ending)

    def _try(self, is_repeated: bool) -> str | None:
        try:
            if jobs.end(self._find(), self._files, self._machine,
                        is_repeated):
                return ('its backup job has ended; its files are left for '
                        'nova-compute to remove')
        except errors.GuestGone:
            return 'it is gone, and its backup job with it'
        except Exception as error:
            if not is_repeated:
                self._say('its backup job is not ended, trying it again: %s'
                          % errors.explain(error))
        return None
