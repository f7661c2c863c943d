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

"""The driver: Nova's libvirt driver with the seams handed over.

Each override is a few lines; what is done stands in the modules it hands
over to.
"""

from collections import abc
import contextlib
import datetime
import functools
import typing

from nova.compute import power_state
from nova.compute import vm_states
from nova import conf as nova_conf
from nova import exception as nova_exception
from nova import objects
from nova import utils as nova_utils
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from nova_quiesce import agent as guest_agent
from nova_quiesce import conf
from nova_quiesce import consistency
from nova_quiesce.cuts import mirror
from nova_quiesce import exception
from nova_quiesce import instances
from nova_quiesce import neighbours
from nova_quiesce import policy as quiesce_policy
from nova_quiesce import properties
from nova_quiesce import report
from nova_quiesce import safety
from nova_quiesce import seams
from nova_quiesce import snapshot as taken

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

class _InProgress(typing.NamedTuple):
    image_id: str
    snapshot: taken.Snapshot


class QuiesceMixin(neighbours.ThawFirstMixin):
    """Verified freezes around the snapshots of a libvirt driver."""

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        conf.register_opts(CONF)
        conf.validate(CONF)
        super().__init__(virtapi, read_only)
        self._snapshots: dict[str, _InProgress] = {}
        self._safety = safety.Safety(CONF.quiesce, self._uri())
        self._recordings = report.Recordings()
        self._properties = properties.Reader(
            self._image_api, self._volume_api, instances.root_volume_id,
            CONF.quiesce)
        self._image_api = report.RecordingImageAPI(
            self._image_api, self._snapshot_for_image, CONF.quiesce.record)

    def init_host(self, host: str) -> None:
        """Thaw what an earlier nova-compute left frozen."""
        super().init_host(host)
        self._safety.start(self._find_by_uuid)

    def cleanup_host(self, host: str) -> None:
        """Thaw what is frozen, while the hypervisor is still connected."""
        self._recordings.stop()
        self._safety.stop()
        super().cleanup_host(host)

    def spawn(self, context: seams.RequestContext, instance: seams.Instance,
              image_meta: object, *args: object, **kwargs: object) -> None:
        """Build an instance, without the record of the image it came from.

        Nova copies an image's properties into the instance, and from there
        into each snapshot of it: the parent's record would pass for the
        snapshot's own.
        """
        prefix = nova_utils.SM_IMAGE_PROP_PREFIX + consistency.PREFIX
        inherited = [key for key in instance.system_metadata
                     if key.startswith(prefix)]
        for key in inherited:
            del instance.system_metadata[key]
        if inherited:
            instance.save()
        super().spawn(context, instance, image_meta, *args, **kwargs)

    # Image-backed snapshots

    def snapshot(self, context: seams.RequestContext,
                 instance: seams.Instance, image_id: str,
                 update_task_state: abc.Callable[..., None]) -> None:
        """Snapshot an image-backed instance, and record how it was cut."""
        decision = self._decide(context, instance)
        agent = self._agent_of(instance, decision.limits)
        snapshot = taken.Snapshot(
            decision, agent,
            functools.partial(self._safety.new_window, agent, instance,
                              decision.limits, context.request_id,
                              'snapshot'))
        self._snapshots[instance.uuid] = _InProgress(image_id, snapshot)
        try:
            with _nova_errors(instance), report.tell_tenant(
                    context, instance.uuid, CONF.host):
                super().snapshot(
                    context, instance, image_id, update_task_state)
        finally:
            del self._snapshots[instance.uuid]
        LOG.info('Snapshot %(image)s has consistency level %(level)s: '
                 '%(reason)s',
                 {'image': image_id, 'level': snapshot.record.level.value,
                  'reason': snapshot.record.reason}, instance=instance)

    def _suspend_guest_for_snapshot(
            self, context: seams.RequestContext, live_snapshot: bool,
            current_power_state: int, instance: seams.Instance) -> None:
        # Nova chose the path by now, and has not touched the guest yet.
        snapshot = self._snapshots[instance.uuid].snapshot
        if instance.vm_state == vm_states.SUSPENDED:
            snapshot.find_unfreezable(
                'the instance is suspended, and what its memory holds is not '
                'part of the snapshot; resume it first')
        elif current_power_state == power_state.SHUTDOWN:
            snapshot.find_offline()
        elif not live_snapshot:
            snapshot.find_unfreezable(
                'this compute host suspends instances in order to snapshot '
                'them, without a freeze')
        super()._suspend_guest_for_snapshot(
            context, live_snapshot, current_power_state, instance)

    def _live_snapshot(self, context: seams.RequestContext,
                       instance: seams.Instance, guest: typing.Any,
                       *args: object, **kwargs: object) -> None:
        snapshot = self._snapshots[instance.uuid].snapshot
        snapshot.prepare()
        super()._live_snapshot(
            context, instance, mirror.MirroredGuest(guest, snapshot.cut),
            *args, **kwargs)
        snapshot.check()

    def _snapshot_for_image(self, image_id: str) -> taken.Snapshot | None:
        for in_progress in list(self._snapshots.values()):
            if in_progress.image_id == image_id:
                return in_progress.snapshot
        return None

    # Volume-backed snapshots

    def quiesce(self, context: seams.RequestContext,
                instance: seams.Instance, image_meta: object) -> None:
        """Freeze a guest until :meth:`unquiesce` or the deadline."""
        if instance.uuid in self._snapshots:
            # Nova's live snapshot asks for a freeze around more than the
            # cut; the window is opened by the mirror's own cut.
            return
        self._recordings.supersede(instance.uuid)
        since = datetime.datetime.now(datetime.UTC)
        record = functools.partial(
            self._record_on_volumes, context, instance, since)
        decision = self._decide(context, instance)
        required = decision.policy is quiesce_policy.Policy.REQUIRE
        with _nova_errors(instance):
            try:
                self._freeze_and_hold(context, instance, decision, record)
            except exception.QuiesceError as error:
                if instances.nova_requires(instance):
                    raise
                if required:
                    raise _refusal(error) from error
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
        if instance.uuid in self._snapshots:
            return
        if not self._safety.held.close(instance.uuid, context.request_id):
            LOG.info('Request %s holds no freeze of this instance: there is '
                     'nothing to thaw', context.request_id, instance=instance)

    def _record_on_volumes(
            self, context: seams.RequestContext, instance: seams.Instance,
            since: datetime.datetime, record: consistency.Record) -> None:
        if not CONF.quiesce.record:
            LOG.info('A volume-backed snapshot has consistency level '
                     '%(level)s: %(reason)s', {'level': record.level.value,
                                               'reason': record.reason},
                     instance=instance)
            return
        recorder = report.VolumeRecorder(
            self._image_api, self._volume_api, context,
            functools.partial(instances.volume_ids, context, instance), since)
        self._recordings.start(instance.uuid, recorder, record,
                               CONF.quiesce.record_timeout)

    # What both have in common

    def _decide(self, context: seams.RequestContext,
                instance: seams.Instance) -> quiesce_policy.Decision:
        counting = self._properties.read(
            context, instance, instances.image_properties(instance))
        decision = quiesce_policy.decide(
            counting, CONF.quiesce, instances.state_of(self._host, instance))
        for remark in decision.remarks:
            LOG.info('%s', remark, instance=instance)
        return decision

    def lapse(self, instance: seams.Instance, operation: str) -> None:
        """End the freeze of a guest that another operation would meet."""
        self._safety.held.lapse(
            instance.uuid,
            'the instance was %s during the snapshot' % operation)

    def _agent_of(self, instance: seams.Instance,
                  limits: quiesce_policy.Limits) -> guest_agent.Agent:
        return guest_agent.Agent(
            functools.partial(self._find_domain, instance),
            self._safety.timeouts(limits.freeze_timeout))

    def _find_domain(self, instance: object) -> guest_agent.Domain:
        try:
            guest = self._host.get_guest(instance)
        except nova_exception.InstanceNotFound as error:
            raise exception.GuestGone() from error
        domain: guest_agent.Domain = guest._domain
        return domain

    def _find_by_uuid(self, instance_uuid: str) -> guest_agent.Domain:
        # The id is for the name in an error's text alone.
        return self._find_domain(objects.Instance(id=0, uuid=instance_uuid))


class QuiesceLibvirtDriver(
        QuiesceMixin,
        libvirt_driver.LibvirtDriver):  # type: ignore[misc]  # untyped
    """The class that ``compute_driver`` names."""


def _refusal(error: exception.QuiesceError) -> Exception:
    """An error that fails a volume-backed snapshot in nova-api.

    nova-api decides by the instance's copy of ``os_require_quiesce`` whether
    it goes on without a freeze, after any ``NovaException``. This one is none
    and still from Nova's module, so it crosses the RPC, and the API answers
    it as what it says.

    :param error: why the guest was not quiesced
    """
    told = (409, 'Conflict', nova_exception.InstanceQuiesceFailed(
        reason=error).format_message())
    refusal: Exception = nova_exception.ConvertedException(*told)
    # What it is made of again at the other end.
    refusal.args = told
    return refusal


@contextlib.contextmanager
def _nova_errors(instance: seams.Instance) -> abc.Iterator[None]:
    """Turn this package's errors into the one that Nova's API knows.

    Only Nova's own classes cross the RPC as what they are, and this one is a
    409 for volume-backed instances and an instance fault for image-backed
    ones, with its text for the tenant.
    """
    try:
        yield
    except exception.NotRequested as error:
        raise nova_exception.InstanceQuiesceFailed(reason=error) from error
    except exception.QuiesceError as error:
        LOG.error('The guest was not quiesced: %s', error, instance=instance)
        raise nova_exception.InstanceQuiesceFailed(
            reason='%s (instance %s)' % (error, instance.uuid)) from error
