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

import functools
import os.path
import typing

import libvirt
from nova import conf as nova_conf
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from nova_quiesce import agent as guest_agent
from nova_quiesce import conf
from nova_quiesce import exception
from nova_quiesce import instances
from nova_quiesce import lease_directory
from nova_quiesce import live
from nova_quiesce import policy as quiesce_policy
from nova_quiesce import properties
from nova_quiesce.record import duties
from nova_quiesce.record import volume_backed
from nova_quiesce import safety
from nova_quiesce import seams
from nova_quiesce import shutdown
from nova_quiesce import shutdown_notes
from nova_quiesce import snapshot as taken
from nova_quiesce import traces

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
        self._safety = safety.Safety(CONF.quiesce, self._uri())
        self._shutdowns = shutdown.Shutdowns(
            shutdown_notes.Notes(os.path.join(
                CONF.quiesce.lease_directory, lease_directory.SHUTDOWNS)),
            self._find_domain, traces.of_root_disk)
        self._shutdowns.events.listen(self._host)
        self._properties = properties.Reader(
            self._image_api, self._volume_api, instances.root_volume_id,
            CONF.quiesce)
        self._duties = duties.Duties(
            self._safety.duties,
            volume_backed.Recorder(CONF.host, CONF.quiesce), CONF.host,
            CONF.quiesce)

    def init_host(self, host: str) -> None:
        """Thaw what an earlier nova-compute left frozen, and end its jobs.

        What it owed is gone on with.
        """
        super().init_host(host)
        self._safety.start(self._find_domain)
        self._duties.start()
        self._shutdowns.start()
        live.clear(self._host)

    def cleanup_host(self, host: str) -> None:
        """Thaw what is frozen, and end what jobs there are.

        Nova closes its connection to the hypervisor after that. What is owed
        by then is left to the next nova-compute.
        """
        self._safety.stop()
        self._duties.stop()
        self._shutdowns.stop()
        live.clear(self._host)
        super().cleanup_host(host)

    def lapse(self, instance: seams.Instance, operation: str,
              what: str = 'the instance') -> None:
        """End the freeze of a guest that another operation would meet.

        :param instance: whose guest
        :param operation: what ends it, for the record
        :param what: what is operated on
        """
        self._safety.held.lapse(
            instance.uuid,
            '%s was %s during the snapshot' % (what, operation))

    def _find_shut_off(self, instance: seams.Instance,
                       snapshot: taken.Snapshot) -> None:
        reason = self._shutdowns.why_not_clean(instance.uuid)
        if reason is None:
            snapshot.find_offline()
        else:
            snapshot.find_unfreezable(reason)

    def _decide(self, context: seams.RequestContext,
                instance: seams.Instance) -> quiesce_policy.Decision:
        counting = self._properties.read(
            context, instance, instances.image_properties(instance))
        decision = quiesce_policy.decide(
            counting, CONF.quiesce, instances.state_of(
                self._host, instance, self._safety.is_guarded()))
        for remark in decision.remarks:
            LOG.info('%s', remark, instance=instance)
        return decision

    def _agent_of(self, instance: seams.Instance,
                  decision: quiesce_policy.Decision) -> guest_agent.Agent:
        return guest_agent.Agent(
            functools.partial(self._find_domain, instance.uuid),
            self._safety.timeouts(decision.limits.freeze_timeout),
            decision.mountpoints,
            decision.policy is quiesce_policy.Policy.REQUIRE)

    def _find_domain(self, instance_uuid: str) -> shutdown.Domain:
        try:
            domain: shutdown.Domain = self._new_connection(
                ).lookupByUUIDString(instance_uuid)
        except libvirt_driver.libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise exception.GuestGone() from error
            raise exception.HypervisorUnreachable() from error
        return domain

    def _new_connection(self) -> typing.Any:
        # One for each agent, which ends with the agent's domain: in libvirt
        # 9.0's client, a call sometimes waits for another one of the same
        # connection to return, and an agent may take its time.
        return self._host._connect(self._uri(), False)
