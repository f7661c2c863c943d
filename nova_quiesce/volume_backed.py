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

import functools

from oslo_log import log as logging

from nova_quiesce import compute_host
from nova_quiesce import consistency
from nova_quiesce.cuts import cinder
from nova_quiesce import exception
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import proof
from nova_quiesce import instances
from nova_quiesce.nova import api_errors
from nova_quiesce.nova import seams
from nova_quiesce import policy
from nova_quiesce.record import glance
from nova_quiesce.record import record_duty
from nova_quiesce.record import volume_snapshots

LOG = logging.getLogger(__name__)

#: Seconds to wait for Cinder's last word before a thaw that is asked for.
_LAST_LOOK = 5


class VolumeBacked:
    """The volume-backed snapshots of this host's instances.

    :param host: this compute host
    """

    def __init__(self, host: compute_host.ComputeHost) -> None:
        self._host = host
        self._polls: dict[str, cinder.SnapshotPoll] = {}

    def quiesce(self, context: seams.RequestContext,
                instance: seams.Instance) -> None:
        """Freeze a guest until :meth:`unquiesce` or the deadline.

        :param context: the request's
        :param instance: whose guest
        :raises InstanceQuiesceFailed, ConvertedException: quiesce is
            required and cannot be had, or what is owed cannot be noted
        """
        self._host.meet(context, instance)
        decision = self._host.decide(context, instance)
        required = decision.policy is policy.Policy.REQUIRE
        with api_errors.as_novas(instance):
            try:
                self._host.requests.begin(context, instance.uuid, required)
                self._freeze(context, instance, decision)
            except errors.QuiesceError as error:
                if required and not instances.nova_requires(instance):
                    raise api_errors.refusal(error) from error
                raise

    def _freeze(self, context: seams.RequestContext, instance: seams.Instance,
                decision: policy.Decision) -> None:
        try:
            self._keep_frozen(context, instance, decision)
        except errors.QuiesceError as error:
            if decision.policy is policy.Policy.REQUIRE:
                self._host.requests.refuse(context.request_id)
                raise
            # nova-api goes on either way. As long as it takes the guest for
            # frozen, it asks for the thaw and tells which volume snapshots it
            # made; without that list, they could not be told from others.
            LOG.info('The volume snapshots of request %(request)s are made '
                     'without a freeze: %(error)s',
                     {'request': context.request_id, 'error': error},
                     instance=instance)
            self._host.requests.judge(
                context.request_id,
                record_duty.Verdict.of(consistency.crash(str(error))))

    def _keep_frozen(self, context: seams.RequestContext,
                     instance: seams.Instance,
                     decision: policy.Decision) -> None:
        if decision.policy is policy.Policy.SKIP:
            raise exception.NotRequested(decision.reason)
        if decision.reason is not None:
            raise errors.NotFrozen(decision.reason)
        request_id = context.request_id
        agent = self._host.agent(instance, decision)
        with self._host.freezer.spanning.asking(instance.uuid):
            agent.preflight()
        poll = self._polls[request_id] = cinder.SnapshotPoll(
            functools.partial(volume_snapshots.state, self._host.volume_api,
                              context))
        try:
            self._refuse_unwanted(request_id)
            self._host.freezer.spanning.open(
                instance.uuid, request_id, self._host.window(
                    agent, instance, decision, request_id,
                    'volume snapshots'),
                functools.partial(self._judge, request_id, poll))
            poll.start(functools.partial(
                self._host.freezer.spanning.close, instance.uuid, request_id))
            # It may have given up while nobody held a window yet.
            self._refuse_unwanted(request_id)
        except BaseException:
            self._polls.pop(request_id, None)
            self._host.freezer.spanning.close(instance.uuid, request_id)
            raise

    def _refuse_unwanted(self, request_id: str) -> None:
        if not self._host.requests.is_wanted(request_id):
            raise exception.GivenUp()

    def _judge(self, request_id: str, poll: cinder.SnapshotPoll,
               evidence: proof.Evidence) -> None:
        poll.stop()
        self._polls.pop(request_id, None)
        self._host.requests.judge(request_id, record_duty.Verdict.of(
            consistency.judge(evidence), poll.seen_until(
                evidence.closed_at)))

    def note_cut(self, request_id: str, snapshot_id: str) -> None:
        """Take note of a volume snapshot that this host has cut for Cinder.

        :param request_id: the request that holds the guest frozen
        :param snapshot_id: which
        """
        poll = self._polls.get(request_id)
        if poll is not None:
            poll.note_cut(snapshot_id)

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
        poll = self._polls.get(context.request_id)
        if poll is not None and snapshot_ids:
            poll.expect(snapshot_ids)
        self._host.requests.list_came(
            context, context.request_id, snapshot_ids)

    def unquiesce(self, context: seams.RequestContext,
                  instance: seams.Instance) -> None:
        """Thaw a guest that :meth:`quiesce` froze for the same request."""
        poll = self._polls.get(context.request_id)
        if poll is not None:
            # What is not seen complete before the thaw cannot be claimed.
            poll.look_again(_LAST_LOOK)
        if not self._host.freezer.spanning.close(
                instance.uuid, context.request_id):
            LOG.info('Request %s holds no freeze of this instance: there is '
                     'nothing to thaw', context.request_id, instance=instance)
        self._host.requests.lend(context)
