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

from collections import abc
import datetime
import functools

from nova import conf as nova_conf
from oslo_log import log as logging

from nova_quiesce import answers
from nova_quiesce import consistency
from nova_quiesce import core
from nova_quiesce import exception
from nova_quiesce import instances
from nova_quiesce import policy as quiesce_policy
from nova_quiesce import report
from nova_quiesce import seams

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF


class VolumeBackedMixin(core.CoreMixin):
    """Volume-backed snapshots inside verified freezes."""

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self._recordings = report.Recordings()

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
        since = datetime.datetime.now(datetime.UTC)
        record = functools.partial(
            self._record_on_volumes, context, instance,
            # Now: afterwards, the instance may be gone.
            instances.volume_ids(context, instance), since)
        decision = self._decide(context, instance)
        required = decision.policy is quiesce_policy.Policy.REQUIRE
        with answers.as_novas(instance):
            try:
                self._freeze_and_hold(context, instance, decision, record)
            except exception.QuiesceError as error:
                if instances.nova_requires(instance):
                    raise
                if required:
                    raise answers.refusal(error) from error
                # nova-api goes on without a freeze.
                record(consistency.crash(str(error)))
                raise

    def _freeze_and_hold(
            self, context: seams.RequestContext, instance: seams.Instance,
            decision: quiesce_policy.Decision,
            record: abc.Callable[[consistency.Record], None]) -> None:
        if decision.policy is quiesce_policy.Policy.SKIP:
            raise exception.NotRequested(decision.reason)
        if decision.reason is not None:
            raise exception.NotFrozen(decision.reason)
        agent = self._agent_of(instance, decision.limits)
        with self._safety.held.asking(instance.uuid):
            agent.preflight()
        window = self._safety.new_window(
            agent, instance, decision.limits, context.request_id,
            'volume snapshots')
        self._safety.held.open(
            instance.uuid, context.request_id, window,
            decision.limits.max_freeze_time,
            lambda evidence: record(consistency.judge(evidence)))

    def unquiesce(self, context: seams.RequestContext,
                  instance: seams.Instance, image_meta: object) -> None:
        """Thaw a guest that :meth:`quiesce` froze for the same request."""
        if self.is_copying(instance):
            return
        if not self._safety.held.close(instance.uuid, context.request_id):
            LOG.info('Request %s holds no freeze of this instance: there is '
                     'nothing to thaw', context.request_id, instance=instance)

    def _record_on_volumes(
            self, context: seams.RequestContext, instance: seams.Instance,
            volume_ids: set[str], since: datetime.datetime,
            record: consistency.Record) -> None:
        if not CONF.quiesce.record:
            LOG.info('A volume-backed snapshot has consistency level '
                     '%(level)s: %(reason)s', {'level': record.level.value,
                                               'reason': record.reason},
                     instance=instance)
            return
        recorder = report.VolumeRecorder(
            self._image_api, self._volume_api, context, volume_ids, since)
        self._recordings.start(instance.uuid, recorder, record,
                               CONF.quiesce.record_timeout)
