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

"""The recorder of volume-backed snapshots: it does what their duties ask for.

It finds the image, writes the record onto it and onto its volume snapshots,
and puts the image away where quiesce was required and was not proven.

The image is this request's only if the volume snapshots that it stands for
are those that nova-api listed as it asked for the thaw. Where no list comes,
nothing is recorded, and nothing is put away.
"""

from collections import abc
import datetime
import typing

from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import machines
from nova_quiesce.nova import seams
from nova_quiesce.record import action_events
from nova_quiesce.record import glance
from nova_quiesce.record import record_duty
from nova_quiesce.record import volume_snapshots

LOG = logging.getLogger(__name__)

#: nova-api makes the image with its next call after the cast.
LATEST_IMAGE = datetime.timedelta(minutes=10)
#: No cast is on its way for longer.
LATEST_LIST = datetime.timedelta(hours=24)

#: After this, what Glance or Cinder does not take is not tried again, and no
#: image is waited for that its upload left incomplete.
LATEST_RECORD = datetime.timedelta(hours=24)

#: Cinder gives a snapshot that Nova makes for it ten minutes.
LATEST_SNAPSHOT = datetime.timedelta(minutes=15)

_CRASH = consistency.Level.CRASH.value
_FILESYSTEM = consistency.Level.FILESYSTEM.value
_COMPLETE = ('active', 'deactivated')
_ACTIVE = 'active'
_NO_IMAGE = 'nova-api made no image'
_NEVER_COMPLETE = 'nova-api never completed image %s'
_NOT_COMPLETED = 'Cinder never completed the volume snapshots'
_SNAPSHOT_FAILED = 'Cinder failed to make volume snapshot %s'
_NO_LIST = 'nova-api never told its volume snapshots'


class Options(typing.Protocol):
    """The ``[quiesce]`` option that is read here."""

    @property
    def record(self) -> bool:
        """True if the record is written."""


#: Makes a changed duty of one.
Change = abc.Callable[[record_duty.RecordDuty], record_duty.RecordDuty]
#: Changes a duty, on the disk too, and returns it as it is then.
Save = abc.Callable[[Change], record_duty.RecordDuty]


class Recorder:
    """Fulfils the duties of requests for volume-backed snapshots.

    :param host: the name of this compute host
    :param options: the operator's; what is required and not proven is put
        away, whatever they say
    :param volume_api: Nova's volume API
    :param machine: whose clock tells what is late
    """

    def __init__(self, host: str, options: Options,
                 volume_api: seams.VolumeAPI,
                 machine: machines.Machine = machines.REAL) -> None:
        self._machine = machine
        self._host = host
        self._options = options
        self._volume_api = volume_api

    def attempt(self, context: seams.RequestContext | None,
                duty: record_duty.RecordDuty, save: Save) -> str | None:
        """Fulfil a duty, as far as that can be done now.

        :param context: of the request whose authority is used; None where
            there is none
        :param duty: the duty
        :param save: keeps what was done of it
        :returns: how the duty ended, in words for the log; None where
            something is left to do
        :raises Exception: a service did not answer well; try again
        """
        if duty.snapshot_ids == ():
            return _NO_IMAGE
        try:
            image = self._look_for_image(context, duty)
            if context is None or image is None:
                return self._ended_without_image(context, duty)
            if duty.image_id is None:
                image_id = image['id']
                duty = save(lambda known: known.with_image(image_id))
            return self._settle(context, duty, image, save)
        except Exception as error:
            if duty.snapshot_ids and glance.is_gone(error):
                return 'its image was deleted'
            raise

    @staticmethod
    def _look_for_image(context: seams.RequestContext | None,
                        duty: record_duty.RecordDuty) -> glance.Image | None:
        if context is None or duty.snapshot_ids is None:
            return None
        if duty.image_id is not None:
            return glance.show(context, duty.image_id)
        return glance.find(context, duty.began, duty.snapshot_ids)

    def _ended_without_image(self, context: seams.RequestContext | None,
                             duty: record_duty.RecordDuty) -> str | None:
        if action_events.has_failed(duty.request_id, duty.instance_uuid):
            return _NO_IMAGE
        now = self._machine.now()
        if duty.snapshot_ids is None:
            how, is_over = _NO_LIST, now - duty.began > LATEST_LIST
        else:
            how, is_over = 'there is no image of it', (
                context is not None and duty.listed_for(now) > LATEST_IMAGE)
        if is_over:
            LOG.log(logging.ERROR if duty.is_required else logging.INFO,
                    'Request %(request)s for a volume-backed snapshot of '
                    'instance %(uuid)s ends without a record: %(how)s',
                    {'request': duty.request_id, 'how': how,
                     'uuid': duty.instance_uuid})
        return how if is_over else None

    def _settle(self, context: seams.RequestContext,
                duty: record_duty.RecordDuty, image: glance.Image,
                save: Save) -> str | None:
        is_late = duty.listed_for(self._machine.now()) > LATEST_RECORD
        if duty.verdict is None or image['status'] not in _COMPLETE:
            return _NEVER_COMPLETE % image['id'] if is_late else None
        snapshot_ids = duty.snapshot_ids or ()
        verdict = self._await_cinder(
            context, duty, duty.verdict.on(snapshot_ids))
        if verdict is None:
            return None
        if duty.is_required and verdict.level == _CRASH:
            # First of all: what cannot be labelled must not pass for good.
            duty = self._put_away(context, duty, image, save)
            self._tell_put_away(duty, image, verdict)
        is_recorded = self._record(context, image, verdict)
        are_recorded = [self._record_on_snapshot(context, one, verdict)
                        for one in snapshot_ids]
        if not (is_recorded and all(are_recorded)) and not is_late:
            return None
        return 'image %s has consistency level %s: %s%s' % (
            image['id'], verdict.level, verdict.reason,
            '' if is_recorded else '; it carries no record, because Glance '
            'did not take one')

    def _await_cinder(self, context: seams.RequestContext,
                      duty: record_duty.RecordDuty,
                      verdict: record_duty.Verdict
                      ) -> record_duty.Verdict | None:
        """Return the verdict once Cinder has completed what it claims.

        A volume snapshot that was cut on this host may fail after that.
        """
        if verdict.level != _FILESYSTEM:
            return verdict
        states = {one: volume_snapshots.state(self._volume_api, context, one)
                  for one in duty.snapshot_ids or ()}
        if volume_snapshots.CREATING in states.values():
            if duty.listed_for(self._machine.now()) < LATEST_SNAPSHOT:
                return None
            return record_duty.Verdict.of(consistency.crash(_NOT_COMPLETED))
        failed = sorted(one for one, state in states.items()
                        if state == volume_snapshots.ERROR)
        if failed:
            return record_duty.Verdict.of(consistency.crash(
                _SNAPSHOT_FAILED % ', '.join(failed)))
        return verdict

    @staticmethod
    def _put_away(context: seams.RequestContext, duty: record_duty.RecordDuty,
                  image: glance.Image, save: Save) -> record_duty.RecordDuty:
        if duty.put_away is not None:
            return duty
        done = (glance.put_away(context, image['id'])
                if image['status'] == _ACTIVE else image['status'])
        return save(lambda known: known.with_put_away(done))

    def tell_late(self, duty: record_duty.RecordDuty) -> None:
        """Tell the operator and the server's owner that a record is late.

        :param duty: a duty that is not fulfilled yet
        :raises Exception: the owner was not told
        """
        LOG.error('The record of request %(request)s for a volume-backed '
                  'snapshot of instance %(uuid)s is not written yet: '
                  '%(what)s is missing. It is tried again with the next '
                  'request of project %(project)s to this host',
                  {'request': duty.request_id, 'uuid': duty.instance_uuid,
                   'project': duty.project_id, 'what':
                   "nova-api's list of its volume snapshots"
                   if duty.snapshot_ids is None else 'its image, or the '
                   'authority to change it,'})
        action_events.tell_once(
            duty.request_id, duty.instance_uuid, self._host,
            action_events.PENDING,
            errors.QuiesceError(
                'the record of this snapshot is not written yet; until then, '
                'take it for one of consistency level crash'))

    def _tell_put_away(self, duty: record_duty.RecordDuty,
                       image: glance.Image,
                       verdict: record_duty.Verdict) -> None:
        self._try(duty.request_id, action_events.tell_once, duty.request_id,
                  duty.instance_uuid, self._host, action_events.FAILED,
                  errors.QuiesceError('image %s is %s: %s' % (
                      image['id'], duty.put_away, verdict.reason)))

    def _record(self, context: seams.RequestContext, image: glance.Image,
                verdict: record_duty.Verdict) -> bool:
        try:
            if self._options.record:
                return glance.record_surely(
                    context, image['id'], verdict.properties)
            glance.forget_record(context, image['id'])
        except Exception as error:
            if glance.is_gone(error):
                raise
            LOG.warning('The record of image %(image)s was not written: '
                        '%(error)s', {'image': image['id'], 'error': error})
            return False
        return True

    def _record_on_snapshot(self, context: seams.RequestContext,
                            snapshot_id: str,
                            verdict: record_duty.Verdict) -> bool:
        return not self._options.record or self._try(
            snapshot_id, volume_snapshots.record, context, snapshot_id,
            verdict.properties)

    @staticmethod
    def _try(what: object, call: abc.Callable[..., object],
             *arguments: object) -> bool:
        try:
            call(*arguments)
        except Exception as error:
            LOG.warning('What came of a volume-backed snapshot was not told, '
                        'or not recorded, for %(what)s: %(error)s',
                        {'what': what, 'error': error})
            return False
        return True
