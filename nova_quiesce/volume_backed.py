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

"""Snapshots of volume-backed instances.

nova-api drives them: it asks for a freeze, has Cinder snapshot each volume,
and asks for the thaw. The freeze window spans these calls.
"""

from collections import abc
import functools

from oslo_log import log as logging

from nova_quiesce import compute_host
from nova_quiesce import consistency
from nova_quiesce.cuts import cinder
from nova_quiesce import exception
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import freezer
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import proof
from nova_quiesce.freeze import windows
from nova_quiesce import instances
from nova_quiesce.nova import api_errors
from nova_quiesce.nova import seams
from nova_quiesce.nova import thaw_casts
from nova_quiesce import policy
from nova_quiesce.record import glance
from nova_quiesce.record import inheritance
from nova_quiesce.record import open_requests
from nova_quiesce.record import record_duty
from nova_quiesce.record import volume_snapshots

LOG = logging.getLogger(__name__)

#: Seconds to wait for Cinder's last word before a thaw that is asked for.
_LAST_LOOK = 5

Decide = abc.Callable[[seams.RequestContext, seams.Instance],
                      policy.Decision]
NewAgent = abc.Callable[[seams.Instance, policy.Decision],
                        guest_agent.Agent]
NewWindow = abc.Callable[
    [guest_agent.Agent, seams.Instance, policy.Decision, str, str],
    windows.Window]


class VolumeBacked:
    """The volume-backed snapshots of this host's instances.

    :param decide: what the policy says of a snapshot
    :param new_agent: finds an instance's guest agent
    :param new_window: makes a freeze window of its guest
    :param freezer: freezes guests, and sees that they are thawed
    :param duties: what the requests owe
    :param volume_api: Nova's volume API
    """

    def __init__(self, decide: Decide, new_agent: NewAgent,
                 new_window: NewWindow, freezer: freezer.Freezer,
                 duties: open_requests.OpenRequests,
                 volume_api: seams.VolumeAPI) -> None:
        self._decide = decide
        self._new_agent = new_agent
        self._new_window = new_window
        self._freezer = freezer
        self._duties = duties
        self._volume_api = volume_api
        self._watches: dict[str, cinder.SnapshotWatch] = {}

    def quiesce(self, context: seams.RequestContext,
                instance: seams.Instance) -> None:
        """Freeze a guest until :meth:`unquiesce` or the deadline.

        :param context: the request's
        :param instance: whose guest
        :raises InstanceQuiesceFailed, ConvertedException: quiesce is
            required and cannot be had, or what is owed cannot be noted
        """
        inheritance.forget_parents_record(instance)
        self._duties.lend(context)
        decision = self._decide(context, instance)
        required = decision.policy is policy.Policy.REQUIRE
        with api_errors.as_novas(instance):
            try:
                self._duties.begin(context, instance.uuid, required)
                self._freeze(context, instance, decision)
            except errors.QuiesceError as error:
                if required and not instances.nova_requires(instance):
                    raise api_errors.refusal(error) from error
                raise

    def _freeze(self, context: seams.RequestContext, instance: seams.Instance,
                decision: policy.Decision) -> None:
        try:
            self._hold(context, instance, decision)
        except errors.QuiesceError as error:
            if decision.policy is policy.Policy.REQUIRE:
                self._duties.refuse(context.request_id)
                raise
            # nova-api goes on either way. As long as it takes the guest for
            # frozen, it asks for the thaw and tells which volume snapshots it
            # made; without that list, they could not be told from others.
            LOG.info('The volume snapshots of request %(request)s are made '
                     'without a freeze: %(error)s',
                     {'request': context.request_id, 'error': error},
                     instance=instance)
            self._duties.judge(context.request_id, record_duty.Verdict.of(
                consistency.crash(str(error))))

    def _hold(self, context: seams.RequestContext, instance: seams.Instance,
              decision: policy.Decision) -> None:
        if decision.policy is policy.Policy.SKIP:
            raise exception.NotRequested(decision.reason)
        if decision.reason is not None:
            raise errors.NotFrozen(decision.reason)
        request_id = context.request_id
        agent = self._new_agent(instance, decision)
        with self._freezer.spanning.asking(instance.uuid):
            agent.preflight()
        watch = self._watches[request_id] = cinder.SnapshotWatch(
            functools.partial(volume_snapshots.state, self._volume_api,
                              context))
        try:
            self._refuse_unwanted(request_id)
            self._freezer.spanning.open(
                instance.uuid, request_id, self._new_window(
                    agent, instance, decision, request_id,
                    'volume snapshots'),
                functools.partial(self._judge, request_id, watch))
            watch.start(functools.partial(
                self._freezer.spanning.close, instance.uuid, request_id))
            # It may have given up while nobody held a window yet.
            self._refuse_unwanted(request_id)
        except BaseException:
            self._watches.pop(request_id, None)
            self._freezer.spanning.close(instance.uuid, request_id)
            raise

    def _refuse_unwanted(self, request_id: str) -> None:
        if not self._duties.is_wanted(request_id):
            raise exception.GivenUp()

    def _judge(self, request_id: str, watch: cinder.SnapshotWatch,
               evidence: proof.Evidence) -> None:
        watch.stop()
        self._watches.pop(request_id, None)
        self._duties.judge(request_id, record_duty.Verdict.of(
            consistency.judge(evidence), watch.seen_until(
                evidence.closed_at)))

    def thaw_asked(self, context: seams.RequestContext,
                   instance: seams.Instance, mapping: object) -> None:
        """Note which volume snapshots a request has, as its thaw is asked.

        Nova's manager waits until they are complete, and calls
        :meth:`unquiesce` then.

        :param context: the request's
        :param instance: whose guest
        :param mapping: its block devices as nova-api has them for the image;
            None or none of a volume where there will be no image
        """
        snapshot_ids = tuple(glance.snapshots_in(mapping))
        watch = self._watches.get(context.request_id)
        if watch is not None and snapshot_ids:
            watch.expect(snapshot_ids)
        self._duties.list_came(context, context.request_id, snapshot_ids)

    def unquiesce(self, context: seams.RequestContext,
                  instance: seams.Instance) -> None:
        """Thaw a guest that :meth:`quiesce` froze for the same request."""
        watch = self._watches.get(context.request_id)
        if watch is not None:
            # What is not seen complete before the thaw cannot be claimed.
            watch.look_again(_LAST_LOOK)
        if not self._freezer.spanning.close(instance.uuid, context.request_id):
            LOG.info('Request %s holds no freeze of this instance: there is '
                     'nothing to thaw', context.request_id, instance=instance)
        self._duties.lend(context)


class VolumeBackedMixin(compute_host.CoreMixin):
    """Hands volume-backed snapshots over to :class:`VolumeBacked`."""

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self._volume_backed = VolumeBacked(
            self._decide, self._agent_of, self._window_of, self._freezer,
            self._duties, self._volume_api)

    def init_host(self, host: str) -> None:
        """See from now on which volume snapshots a request has."""
        super().init_host(host)
        thaw_casts.observe_thaws(self.virtapi, self._volume_backed.thaw_asked)

    def is_copying(self, instance: seams.Instance) -> bool:
        """Whether an image-backed snapshot of an instance is in progress.

        :param instance: which
        """
        raise NotImplementedError

    def quiesce(self, context: seams.RequestContext,
                instance: seams.Instance, image_meta: object) -> None:
        """Freeze a guest for the snapshots of its volumes."""
        # Nova's live snapshot asks for a freeze around more than the cut;
        # the window is opened by the mirror's own cut.
        if not self.is_copying(instance):
            self._volume_backed.quiesce(context, instance)

    def unquiesce(self, context: seams.RequestContext,
                  instance: seams.Instance, image_meta: object) -> None:
        """Thaw a guest after the snapshots of its volumes."""
        if not self.is_copying(instance):
            self._volume_backed.unquiesce(context, instance)
