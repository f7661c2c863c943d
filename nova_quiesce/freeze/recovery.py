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

"""The recovery of guests that an earlier nova-compute left frozen.

The leases on the disk tell of guests that may be frozen. They are followed up
as the service starts, before it takes requests.
"""

from collections import abc
import functools
import logging

from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import thawing

LOG = logging.getLogger(__name__)

#: Seconds between two tries to remove a lease that has ended.
_RELEASE_PAUSE = 10.0

#: The agent of an instance, by its UUID.
NewAgent = abc.Callable[[str], guest_agent.Agent]


class Recovery:
    """The follow-up of the leases of one directory.

    :param directory: where they are
    :param new_agent: finds an instance's agent
    :param retry: seconds of the first pause between two tries to thaw
    :param machine: whose clocks and threads are used
    """

    def __init__(self, directory: lease_directory.LeaseDirectory,
                 new_agent: NewAgent, retry: float,
                 machine: machines.Machine) -> None:
        self._directory = directory
        self._new_agent = new_agent
        self._retry = retry
        self._machine = machine

    def run(self, patience: float) -> None:
        """Thaw each guest that has a lease.

        :param patience: seconds to wait for all of them; what does not
            answer by then is thawed in the background
        """
        found, problems = self._directory.read_all()
        tasks = [(lease.instance_uuid, self._start(lease.instance_uuid, lease))
                 for lease in found]
        for problem in problems:
            LOG.error('In the directory of leases, %(name)s is none: '
                      '%(reason)s', {'name': problem.name,
                                     'reason': problem.reason})
            if problem.instance_uuid is not None:
                # Torn, it seems: the guest that it is named after may be
                # frozen. A file of another name is left alone.
                tasks.append((problem.instance_uuid,
                              self._start(problem.instance_uuid, None)))
        deadline = self._machine.monotonic() + patience
        for instance_uuid, task in tasks:
            task.join(max(0, deadline - self._machine.monotonic()))
            if task.is_alive():
                LOG.error('Instance %s is not proven to be thawed yet, '
                          'which goes on in the background', instance_uuid)

    def _start(self, instance_uuid: str,
               lease: leases.Lease | None) -> machines.Task:
        agent = self._new_agent(instance_uuid)
        # Decided now: once the service takes requests, whoever suspends it
        # wants it so.
        is_stuck = lease is not None and self._is_stuck(agent, lease)
        return self._machine.start(
            'recover-%s' % instance_uuid, self._recover, agent, instance_uuid,
            lease, is_stuck)

    @staticmethod
    def _is_stuck(agent: guest_agent.Agent, lease: leases.Lease) -> bool:
        """Tell whether a guest is still suspended to disk for its snapshot."""
        try:
            return lease.is_saved and agent.presence().is_saved
        except errors.HypervisorUnreachable:
            return False

    def _recover(self, agent: guest_agent.Agent, instance_uuid: str,
                 lease: leases.Lease | None, is_stuck: bool) -> None:
        if is_stuck:
            self._resume(agent, instance_uuid)
        thaw = thawing.Thawing(
            agent, functools.partial(self._look, agent, lease), None,
            self._retry, self._machine.monotonic, thawing.LOST_COMMAND)
        outcome = thaw.run(
            functools.partial(self._tell, instance_uuid), self._wait)
        assert outcome is not None, 'it was told to go on'
        LOG.warning('The lease of instance %(uuid)s, left behind by request '
                    '%(owners)s, has ended: %(reason)s',
                    {'uuid': instance_uuid, 'reason': outcome.reason,
                     'owners': ', '.join(lease.owners) if lease
                     else 'unknown'})
        if not self._release(instance_uuid, lease):
            self._release_later(instance_uuid, lease)

    def _release(self, instance_uuid: str, lease: leases.Lease | None) -> bool:
        try:
            if lease is None:
                self._directory.discard(instance_uuid)
            else:
                self._directory.release(lease)
        except leases.LeaseError as error:
            LOG.error('The lease of instance %(uuid)s stays behind, and keeps '
                      'it from being quiesced: %(error)s',
                      {'uuid': instance_uuid, 'error': error})
            return False
        return True

    def _release_later(self, instance_uuid: str,
                       lease: leases.Lease | None) -> None:
        # Nobody who waits for the thaw waits for that.
        try:
            self._machine.start('release-%s' % instance_uuid,
                                self._keep_releasing, instance_uuid, lease)
        except RuntimeError as error:
            LOG.error('The lease of instance %(uuid)s stays behind until '
                      'nova-compute is restarted: %(error)s',
                      {'uuid': instance_uuid, 'error': error})

    def _keep_releasing(self, instance_uuid: str,
                        lease: leases.Lease | None) -> None:
        # Such as a full disk, or no file descriptors: it passes.
        self._machine.sleep(_RELEASE_PAUSE)
        while not self._release(instance_uuid, lease):
            self._machine.sleep(_RELEASE_PAUSE)

    def _wait(self, seconds: float) -> bool:
        self._machine.sleep(seconds)
        return True

    @staticmethod
    def _tell(instance_uuid: str, error: Exception) -> None:
        LOG.warning('Instance %(uuid)s, which a snapshot left behind, may '
                    'still be frozen: %(error)s',
                    {'uuid': instance_uuid, 'error': errors.explain(error)})

    @staticmethod
    def _resume(agent: guest_agent.Agent, instance_uuid: str) -> None:
        LOG.warning('Instance %s was suspended for a snapshot that did not '
                    'come to its end, and is resumed', instance_uuid)
        try:
            agent.resume()
        except Exception as error:
            LOG.error('Instance %(uuid)s was not resumed: %(error)s',
                      {'uuid': instance_uuid, 'error': error})

    def _look(self, agent: guest_agent.Agent,
              lease: leases.Lease | None) -> str | None:
        """Tell why the guest cannot be frozen any more; None if it can."""
        if lease is None:
            return None
        if self._directory.is_another(lease):
            return 'another has thawed it, and frozen it anew'
        return leases.stale_reason(
            lease, self._machine.boot_id(), agent.presence())
