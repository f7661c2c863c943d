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

"""This compute host: all that its snapshots of every kind have in common."""

import os.path
import typing

from nova import conf as nova_conf
from oslo_log import log as logging

from nova_quiesce.copy import leftovers
from nova_quiesce.freeze import finder
from nova_quiesce.freeze import freezer
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import windows
from nova_quiesce import instances
from nova_quiesce.nova import seams
from nova_quiesce import policy
from nova_quiesce import properties
from nova_quiesce.record import inheritance
from nova_quiesce.record import open_requests
from nova_quiesce.record import recorder
from nova_quiesce.shutdown import notes
from nova_quiesce.shutdown import shutdowns
from nova_quiesce.shutdown import traces
from nova_quiesce import snapshots

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF


class ComputeHost:
    """The freezer, the duties and the policy of one compute host.

    :param hypervisor: Nova's handle of the hypervisor, not connected yet
    :param uri: the hypervisor's, for libvirt
    :param image_api: Nova's image API
    :param volume_api: Nova's volume API
    :ivar freezer: freezes guests, and sees that they are thawed
    :ivar shutdowns: knows how guests came to be shut off
    :ivar requests: the requests for volume-backed snapshots that are not done
    """

    def __init__(self, hypervisor: typing.Any, uri: str,
                 image_api: seams.ImageAPI,
                 volume_api: seams.VolumeAPI) -> None:
        self.hypervisor = hypervisor
        self.image_api = image_api
        self.volume_api = volume_api
        self._uri = uri
        self.freezer = freezer.Freezer(
            freezer.Settings(
                uri=uri, leases=CONF.quiesce.lease_directory,
                ask=CONF.quiesce.agent_timeout,
                thaw=CONF.quiesce.thaw_timeout,
                retry=CONF.quiesce.thaw_retry_interval,
                has_guard=CONF.quiesce.guard != policy.GUARD_OFF,
                is_guard_required=(
                    CONF.quiesce.guard == policy.GUARD_REQUIRED),
                guard_socket=CONF.quiesce.guard_socket),
            self.connect)
        self.shutdowns = shutdowns.Shutdowns(
            notes.Notes(os.path.join(
                CONF.quiesce.lease_directory, lease_directory.SHUTDOWNS)),
            self.find_domain, traces.of_root_disk)
        self.shutdowns.events.listen(hypervisor)
        self._properties = properties.Reader(
            image_api, volume_api, instances.root_volume_id, CONF.quiesce)
        self.requests = open_requests.OpenRequests(
            self.freezer.duties, recorder.Recorder(
                CONF.host, CONF.quiesce, volume_api),
            CONF.quiesce)

    def start(self) -> None:
        """Thaw what an earlier nova-compute left frozen, and end its jobs.

        What it owed is gone on with.
        """
        self.freezer.start()
        self.requests.start()
        self.shutdowns.start()
        leftovers.clear(self.hypervisor)
        leftovers.go_on(self.hypervisor, self.freezer.jobs)

    def stop(self) -> None:
        """Thaw what is frozen, and end what jobs there are.

        What is owed by then is left to the next nova-compute.
        """
        self.freezer.stop()
        self.requests.stop()
        self.shutdowns.stop()
        leftovers.end(self.hypervisor)

    def connect(self) -> typing.Any:
        """Open a connection to the hypervisor: each agent has one of its own.

        :raises libvirtError: it cannot be reached
        """
        return self.hypervisor._connect(self._uri, False)

    def find_domain(self, instance_uuid: str) -> typing.Any:
        """Find an instance's domain.

        :param instance_uuid: whose
        :raises GuestGone: there is none
        :raises HypervisorUnreachable: that cannot be told
        """
        return finder.Finder(self.connect, instance_uuid)()

    def meet(self, context: seams.RequestContext,
             instance: seams.Instance) -> None:
        """Take notice of a request for an instance. Never raises.

        An instance that may come from elsewhere loses the record of the image
        that it came from, and what its project's other requests still owe is
        done with the authority of this one.

        :param context: the request's
        :param instance: which
        """
        inheritance.forget_parents_record(instance)
        self.requests.lend(context)

    def decide(self, context: seams.RequestContext,
               instance: seams.Instance) -> policy.Decision:
        """Decide how an instance is to be quiesced now.

        :param context: the request's
        :param instance: which
        """
        counting = self._properties.read(
            context, instance, instances.image_properties(instance))
        decision = policy.decide(
            counting, CONF.quiesce, instances.state_of(
                self.hypervisor, instance, self.freezer.is_guarded()))
        for remark in decision.remarks:
            LOG.info('%s', remark, instance=instance)
        return decision

    def agent(self, instance: seams.Instance,
              decision: policy.Decision) -> guest_agent.Agent:
        """Make the handle of an instance's guest agent.

        :param instance: whose
        :param decision: how it is to be quiesced
        """
        return self.freezer.agent(
            instance.uuid,
            decision.limits.freeze_timeout,
            decision.mountpoints,
            decision.policy is policy.Policy.REQUIRE)

    def window(self, agent: guest_agent.Agent, instance: seams.Instance,
               decision: policy.Decision, request_id: str, purpose: str,
               is_saved: bool = False) -> windows.Window:
        """Make a freeze window of a guest, which is not open yet.

        :param agent: the guest's
        :param instance: whose guest
        :param decision: how it is to be quiesced
        :param request_id: of the request that asks for it
        :param purpose: what for, in a few words
        :param is_saved: whether it is suspended to disk inside the window
        """
        return self.freezer.window(agent, freezer.Purpose(
            instance.uuid, instance.name, request_id, purpose,
            decision.limits.freeze_timeout,
            decision.limits.max_freeze_time, is_saved))

    def begin(self, context: seams.RequestContext, instance: seams.Instance,
              purpose: str, remark: str = '') -> snapshots.Snapshot:
        """Begin a snapshot that is cut on this host.

        :param context: the request's
        :param instance: which
        :param purpose: what it is, in a few words
        :param remark: what every record of it says besides
        """
        decision = self.decide(context, instance)
        agent = self.agent(instance, decision)

        def new_window(is_saved: bool) -> windows.Window:
            return self.window(agent, instance, decision, context.request_id,
                               purpose, is_saved)

        return snapshots.Snapshot(decision, agent, new_window, remark)

    def judge_shut_off(self, instance: seams.Instance,
                       snapshot: snapshots.Snapshot) -> None:
        """See whether a guest that is off had shut itself down.

        :param instance: whose guest
        :param snapshot: the snapshot in progress, which is told
        :raises QuiesceError: quiesce is required, and it is not sure to have
        """
        reason = self.shutdowns.why_not_clean(instance.uuid)
        if reason is None:
            snapshot.find_offline()
        else:
            snapshot.find_unfreezable(reason)
