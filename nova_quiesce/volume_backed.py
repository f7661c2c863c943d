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

"""Snapshots of volume-backed instances: the seams of Nova's driver.

nova-api drives them: it asks for a freeze, has Cinder snapshot each volume,
and asks for the thaw.
"""

import datetime
import functools

from nova import conf as nova_conf
from oslo_log import log as logging

from nova_quiesce import answers
from nova_quiesce import consistency
from nova_quiesce import core
from nova_quiesce.cuts import volumes
from nova_quiesce import exception
from nova_quiesce import instances
from nova_quiesce import policy as quiesce_policy
from nova_quiesce import recordings
from nova_quiesce import report
from nova_quiesce import seams
from nova_quiesce import volume_record
from nova_quiesce import volume_snapshots

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

#: Seconds that a thaw waits for a last look at the volume snapshots.
_LAST_LOOK = 5


class VolumeBackedMixin(core.CoreMixin):
    """Volume-backed snapshots inside verified freezes."""

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self._recordings = recordings.Recordings()
        self._watches: dict[str, volumes.SnapshotWatch] = {}

    def cleanup_host(self, host: str) -> None:
        """Stop looking for images to record on."""
        self._recordings.stop()
        super().cleanup_host(host)

    def is_copying(self, instance: seams.Instance) -> bool:
        """Whether an image-backed snapshot of an instance is in progress.

        :param instance: which
        """
        raise NotImplementedError

    def quiesce(self, context: seams.RequestContext,
                instance: seams.Instance, image_meta: object) -> None:
        """Freeze a guest until :meth:`unquiesce` or the deadline."""
        if self.is_copying(instance):
            # Nova's live snapshot asks for a freeze around more than the
            # cut; the window is opened by the mirror's own cut.
            return
        self._recordings.supersede(instance.uuid)
        decision = self._decide(context, instance)
        required = decision.policy is quiesce_policy.Policy.REQUIRE
        with answers.as_novas(instance):
            try:
                self._freeze_and_hold(context, instance, decision)
            except exception.QuiesceError as error:
                if required and not instances.nova_requires(instance):
                    raise answers.refusal(error) from error
                raise

    def _freeze_and_hold(self, context: seams.RequestContext,
                         instance: seams.Instance,
                         decision: quiesce_policy.Decision) -> None:
        # Looked up now: afterwards, the instance may be gone.
        volume_ids = frozenset(instances.volume_ids(context, instance))
        watch = volumes.SnapshotWatch(
            functools.partial(volume_snapshots.states, context), volume_ids)
        try:
            watch.begin()
        except Exception as error:
            LOG.error('Cinder did not list the snapshots of volumes: %s',
                      error, instance=instance)
            raise exception.CinderSilent() from error
        request = volume_record.Request(
            context, volume_ids, watch.earlier,
            datetime.datetime.now(datetime.UTC),
            decision.policy is quiesce_policy.Policy.REQUIRE)
        try:
            self._hold(instance, decision, request, watch)
        except exception.QuiesceError as error:
            if not request.is_required:
                # nova-api goes on without a freeze.
                self._record(instance, request, volume_record.Proven(
                    consistency.crash(str(error))))
            raise

    def _hold(self, instance: seams.Instance,
              decision: quiesce_policy.Decision,
              request: volume_record.Request,
              watch: volumes.SnapshotWatch) -> None:
        if decision.policy is quiesce_policy.Policy.SKIP:
            raise exception.NotRequested(decision.reason)
        if decision.reason is not None:
            raise exception.NotFrozen(decision.reason)
        owner = request.context.request_id
        agent = self._agent_of(instance, decision)
        with self._safety.held.asking(instance.uuid, request.is_required):
            agent.preflight()
        self._watches[owner] = watch
        try:
            self._safety.held.open(
                instance.uuid, owner, self._safety.new_window(
                    agent, instance, decision.limits, owner,
                    'volume snapshots'),
                decision.limits.max_freeze_time,
                functools.partial(self._end, instance, request, watch))
            watch.start(functools.partial(
                self._safety.held.close, instance.uuid, owner))
        except BaseException:
            self._watches.pop(owner, None)
            self._safety.held.close(instance.uuid, owner)
            raise

    def _end(self, instance: seams.Instance, request: volume_record.Request,
             watch: volumes.SnapshotWatch,
             evidence: consistency.Evidence) -> None:
        watch.stop()
        self._watches.pop(request.context.request_id, None)
        self._record(instance, request, volume_record.Proven(
            consistency.judge(evidence),
            watch.seen_until(evidence.closed_at)))

    def unquiesce(self, context: seams.RequestContext,
                  instance: seams.Instance, image_meta: object) -> None:
        """Thaw a guest that :meth:`quiesce` froze for the same request."""
        if self.is_copying(instance):
            return
        watch = self._watches.get(context.request_id)
        if watch is not None:
            # By now, all that there will be are there. What is not seen
            # complete before the thaw cannot be claimed.
            watch.look_again(_LAST_LOOK)
        if not self._safety.held.close(instance.uuid, context.request_id):
            LOG.info('Request %s holds no freeze of this instance: there is '
                     'nothing to thaw', context.request_id, instance=instance)

    def _record(self, instance: seams.Instance,
                request: volume_record.Request,
                proven: volume_record.Proven) -> None:
        if not (CONF.quiesce.record or request.is_required):
            LOG.info('A volume-backed snapshot has consistency level '
                     '%(level)s: %(reason)s',
                     {'level': proven.record.level.value,
                      'reason': proven.record.reason}, instance=instance)
            return
        recorder = volume_record.Recorder(
            self._image_api, self._volume_api,
            volume_snapshots.label if CONF.quiesce.record else None,
            functools.partial(report.tell_failure, request.context,
                              instance.uuid, CONF.host), request)
        self._recordings.start(
            instance.uuid, recorder, proven, CONF.quiesce.record_timeout)
