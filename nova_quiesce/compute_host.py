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

"""What the driver's snapshots, of both kinds, have in common."""

import os.path
import typing

from nova import conf as nova_conf
from oslo_log import log as logging

from nova_quiesce import conf
from nova_quiesce.copy import disk_copy
from nova_quiesce.freeze import finder
from nova_quiesce.freeze import freezer
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import windows
from nova_quiesce import instances
from nova_quiesce.nova import seams
from nova_quiesce import policy
from nova_quiesce import properties
from nova_quiesce.record import open_requests
from nova_quiesce.record import recorder
from nova_quiesce.shutdown import notes
from nova_quiesce.shutdown import shutdowns
from nova_quiesce.shutdown import traces
from nova_quiesce import snapshots

if typing.TYPE_CHECKING:
    _Base = seams.LibvirtDriver
else:
    _Base = object

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF


class CoreMixin(_Base):
    """The policy, the agents and what keeps guests from being stranded."""

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        conf.register_opts(CONF)
        conf.validate(CONF)
        super().__init__(virtapi, read_only)
        self._freezer = freezer.Freezer(
            freezer.Settings(
                uri=self._uri(), leases=CONF.quiesce.lease_directory,
                ask=CONF.quiesce.agent_timeout,
                thaw=CONF.quiesce.thaw_timeout,
                retry=CONF.quiesce.thaw_retry_interval,
                has_guard=CONF.quiesce.guard != policy.GUARD_OFF,
                is_guard_required=(
                    CONF.quiesce.guard == policy.GUARD_REQUIRED),
                guard_socket=CONF.quiesce.guard_socket),
            self._new_connection)
        self._shutdowns = shutdowns.Shutdowns(
            notes.Notes(os.path.join(
                CONF.quiesce.lease_directory, lease_directory.SHUTDOWNS)),
            self._find_domain, traces.of_root_disk)
        self._shutdowns.events.listen(self._host)
        self._properties = properties.Reader(
            self._image_api, self._volume_api, instances.root_volume_id,
            CONF.quiesce)
        self._duties = open_requests.OpenRequests(
            self._freezer.duties,
            recorder.Recorder(CONF.host, CONF.quiesce), CONF.quiesce)

    def init_host(self, host: str) -> None:
        """Thaw what an earlier nova-compute left frozen, and end its jobs.

        What it owed is gone on with.
        """
        super().init_host(host)
        self._freezer.start()
        self._duties.start()
        self._shutdowns.start()
        disk_copy.clear(self._host)
        disk_copy.go_on(self._host, self._freezer.jobs)

    def cleanup_host(self, host: str) -> None:
        """Thaw what is frozen, and end what jobs there are.

        Nova closes its connection to the hypervisor after that. What is owed
        by then is left to the next nova-compute.
        """
        self._freezer.stop()
        self._duties.stop()
        self._shutdowns.stop()
        disk_copy.clear(self._host)
        super().cleanup_host(host)

    def lapse(self, instance: seams.Instance, operation: str,
              what: str = 'the instance') -> None:
        """End the freeze of a guest that another operation would meet.

        :param instance: whose guest
        :param operation: what ends it, for the record
        :param what: what is operated on
        """
        self._freezer.spanning.lapse(
            instance.uuid,
            '%s was %s during the snapshot' % (what, operation))

    def _find_shut_off(self, instance: seams.Instance,
                       snapshot: snapshots.Snapshot) -> None:
        reason = self._shutdowns.why_not_clean(instance.uuid)
        if reason is None:
            snapshot.find_offline()
        else:
            snapshot.find_unfreezable(reason)

    def _decide(self, context: seams.RequestContext,
                instance: seams.Instance) -> policy.Decision:
        counting = self._properties.read(
            context, instance, instances.image_properties(instance))
        decision = policy.decide(
            counting, CONF.quiesce, instances.state_of(
                self._host, instance, self._freezer.is_guarded()))
        for remark in decision.remarks:
            LOG.info('%s', remark, instance=instance)
        return decision

    def _agent_of(self, instance: seams.Instance,
                  decision: policy.Decision) -> guest_agent.Agent:
        return self._freezer.agent(
            instance.uuid,
            decision.limits.freeze_timeout,
            decision.mountpoints,
            decision.policy is policy.Policy.REQUIRE)

    def _window_of(self, agent: guest_agent.Agent, instance: seams.Instance,
                   decision: policy.Decision, owner: str, text: str,
                   is_saved: bool = False) -> windows.Window:
        return self._freezer.window(agent, freezer.Purpose(
            instance.uuid, instance.name, owner, text,
            decision.limits.freeze_timeout,
            decision.limits.max_freeze_time, is_saved))

    def _find_domain(self, instance_uuid: str) -> shutdowns.Domain:
        domain: shutdowns.Domain = finder.Finder(
            self._new_connection, instance_uuid)()
        return domain

    def _new_connection(self) -> typing.Any:
        # Each agent has one of its own.
        return self._host._connect(self._uri(), False)
