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

"""The record of a volume-backed snapshot, and what a lost freeze has to mean.

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
from nova_quiesce.nova import seams
from nova_quiesce.record import events
from nova_quiesce.record import glance
from nova_quiesce.record import owing
from nova_quiesce.record import volume_snapshots

LOG = logging.getLogger(__name__)

#: nova-api makes the image with its next call after the cast.
LATEST_IMAGE = datetime.timedelta(minutes=10)
#: No cast is on its way for longer.
LATEST_LIST = datetime.timedelta(hours=24)

#: After this, what Glance or Cinder does not take is not tried again.
LATEST_RECORD = datetime.timedelta(hours=24)

_CRASH = consistency.Level.CRASH.value
_COMPLETE = ('active', 'deactivated')
_ACTIVE = 'active'
_NO_IMAGE = 'nova-api made no image'
_NO_LIST = 'nova-api never told its volume snapshots'


class Options(typing.Protocol):
    """The ``[quiesce]`` option that is read here."""

    @property
    def record(self) -> bool:
        """Whether the record is written."""


#: Keeps a change of what is known of a request, and returns all of it.
Save = abc.Callable[[abc.Callable[[owing.Owed], owing.Owed]], owing.Owed]


class Recorder:
    """Does what requests for volume-backed snapshots owe.

    :param host: this compute host
    :param options: the operator's; what is required and not proven is put
        away, whatever they say
    """

    def __init__(self, host: str, options: Options) -> None:
        self._host = host
        self._options = options

    def attempt(self, context: seams.RequestContext | None,
                owed: owing.Owed, save: Save) -> str | None:
        """Do what one request owes, as far as it can be done now.

        :param context: with whose authority; None where there is none
        :param owed: what it owes
        :param save: keeps what was done of it
        :returns: how it ended; None where something is left to do
        :raises Exception: a service did not answer well; try again
        """
        if owed.snapshot_ids == ():
            return _NO_IMAGE
        try:
            image = self._look_for_image(context, owed)
            if context is None or image is None:
                return self._ended_without_image(context, owed)
            if owed.image_id is None:
                image_id = image['id']
                owed = save(lambda known: known.with_image(image_id))
            return self._settle(context, owed, image, save)
        except Exception as error:
            if owed.snapshot_ids and glance.is_gone(error):
                return 'its image was deleted'
            raise

    @staticmethod
    def _look_for_image(context: seams.RequestContext | None,
                        owed: owing.Owed) -> glance.Image | None:
        if context is None or owed.snapshot_ids is None:
            return None
        if owed.image_id is not None:
            return glance.show(context, owed.image_id)
        return glance.find(context, owed.began, owed.snapshot_ids)

    def _ended_without_image(self, context: seams.RequestContext | None,
                             owed: owing.Owed) -> str | None:
        if events.has_failed(owed.request_id, owed.instance_uuid):
            return _NO_IMAGE
        if owed.snapshot_ids is None:
            how, is_over = _NO_LIST, owed.age > LATEST_LIST
        else:
            how, is_over = 'there is no image of it', (
                context is not None and owed.listed_for > LATEST_IMAGE)
        if is_over:
            LOG.log(logging.ERROR if owed.is_required else logging.INFO,
                    'Request %(request)s for a volume-backed snapshot of '
                    'instance %(uuid)s ends without a record: %(how)s',
                    {'request': owed.request_id, 'how': how,
                     'uuid': owed.instance_uuid})
        return how if is_over else None

    def _settle(self, context: seams.RequestContext, owed: owing.Owed,
                image: glance.Image, save: Save) -> str | None:
        if owed.verdict is None or image['status'] not in _COMPLETE:
            return None
        snapshot_ids = owed.snapshot_ids or ()
        verdict = owed.verdict.on(snapshot_ids)
        if owed.is_required and verdict.level == _CRASH:
            # First of all: what cannot be labelled must not pass for good.
            owed = self._put_away(context, owed, image, save)
            self._tell(owed, image, verdict)
        is_recorded = self._record(context, image, verdict)
        are_recorded = [self._record_on_snapshot(context, one, verdict)
                        for one in snapshot_ids]
        if not (is_recorded and all(are_recorded)) and (
                owed.listed_for <= LATEST_RECORD):
            return None
        return 'image %s has consistency level %s: %s%s' % (
            image['id'], verdict.level, verdict.reason,
            '' if is_recorded else '; it carries no record, because Glance '
            'did not take one')

    @staticmethod
    def _put_away(context: seams.RequestContext, owed: owing.Owed,
                  image: glance.Image, save: Save) -> owing.Owed:
        if owed.put_away is not None:
            return owed
        done = (glance.put_away(context, image['id'])
                if image['status'] == _ACTIVE else image['status'])
        return save(lambda known: known.with_put_away(done))

    def _tell(self, owed: owing.Owed, image: glance.Image,
              verdict: owing.Verdict) -> None:
        self._try(owed.request_id, events.tell_once, owed.request_id,
                  owed.instance_uuid, self._host, events.FAILED,
                  errors.QuiesceError('image %s is %s: %s' % (
                      image['id'], owed.put_away, verdict.reason)))

    def _record(self, context: seams.RequestContext, image: glance.Image,
                verdict: owing.Verdict) -> bool:
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
                            verdict: owing.Verdict) -> bool:
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


class Pending(typing.NamedTuple):
    """What is told of a duty that is not done yet."""

    owed: owing.Owed
    host: str

    def tell(self) -> None:
        """Tell the operator and the server's owner."""
        owed = self.owed
        LOG.error('The record of request %(request)s for a volume-backed '
                  'snapshot of instance %(uuid)s is not written yet: '
                  '%(what)s is missing. It is tried again with the next '
                  'request of project %(project)s to this host',
                  {'request': owed.request_id, 'uuid': owed.instance_uuid,
                   'project': owed.project_id, 'what':
                   "nova-api's list of its volume snapshots"
                   if owed.snapshot_ids is None else 'its image, or the '
                   'authority to change it,'})
        events.tell_once(
            owed.request_id, owed.instance_uuid, self.host, events.PENDING,
            errors.QuiesceError(
                'the record of this snapshot is not written yet; until then, '
                'take it for one of consistency level crash'))
