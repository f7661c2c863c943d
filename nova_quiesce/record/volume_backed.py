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
from nova_quiesce import exception
from nova_quiesce.record import events
from nova_quiesce.record import glance
from nova_quiesce.record import owed as owing
from nova_quiesce.record import volume_snapshots
from nova_quiesce import seams

LOG = logging.getLogger(__name__)

#: nova-api makes the image with its next call after the cast.
LATEST_IMAGE = datetime.timedelta(minutes=10)
#: No cast is on its way for longer.
LATEST_LIST = datetime.timedelta(hours=24)

_COMPLETE = ('active', 'deactivated')
_ACTIVE = 'active'
_NO_IMAGE = 'nova-api made no image'


class Options(typing.Protocol):
    """The ``[quiesce]`` option that is read here."""

    @property
    def record(self) -> bool:
        """Whether the record is written."""


class Recorder:
    """Does what requests for volume-backed snapshots owe.

    :param images: Glance's images
    :param host: this compute host
    :param options: the operator's; what is required and not proven is put
        away, whatever they say
    """

    def __init__(self, images: glance.Images, host: str,
                 options: Options) -> None:
        self._images = images
        self._host = host
        self._options = options

    def attempt(self, context: seams.RequestContext | None,
                owed: owing.Owed) -> str | None:
        """Do what one request owes, as far as it can be done now.

        :param context: with whose authority; None where there is none
        :param owed: what it owes
        :returns: how it ended; None where something is left to do
        :raises Exception: a service did not answer well; try again
        """
        if owed.snapshot_ids == ():
            return _NO_IMAGE
        image = self._find(context, owed)
        if context is None or image is None:
            return self._ended_without_image(context, owed)
        try:
            return self._settle(context, owed, image)
        except Exception as error:
            if glance.is_gone(error):
                return 'image %s was deleted' % image['id']
            raise

    def _find(self, context: seams.RequestContext | None,
              owed: owing.Owed) -> glance.Image | None:
        if context is None or owed.snapshot_ids is None:
            return None
        return self._images.find(context, owed.began, owed.snapshot_ids)

    def _ended_without_image(self, context: seams.RequestContext | None,
                             owed: owing.Owed) -> str | None:
        if events.has_failed(owed.request_id, owed.instance_uuid):
            return _NO_IMAGE
        if owed.snapshot_ids is None:
            return self._lost(owed)
        is_late = context is not None and owed.age > LATEST_IMAGE
        return 'there is no image of it' if is_late else None

    def _lost(self, owed: owing.Owed) -> str | None:
        if owed.age <= LATEST_LIST:
            return None
        LOG.error('nova-api never told which volume snapshots it made for '
                  'request %(request)s of instance %(uuid)s. If there is an '
                  'image of them, it carries no record%(more)s',
                  {'request': owed.request_id, 'uuid': owed.instance_uuid,
                   'more': ', although it has to be consistent'
                   if owed.is_required else ''})
        return 'nova-api never told its volume snapshots'

    def _settle(self, context: seams.RequestContext, owed: owing.Owed,
                image: glance.Image) -> str | None:
        if owed.verdict is None or image['status'] not in _COMPLETE:
            return None
        snapshot_ids = owed.snapshot_ids or ()
        verdict = owed.verdict.on(snapshot_ids)
        if not self._record(context, image, verdict):
            return None
        self._put_away(context, owed, image, verdict)
        self._record_on_snapshots(context, snapshot_ids, verdict)
        return 'image %s has consistency level %s: %s' % (
            image['id'], verdict.level, verdict.reason)

    def _record(self, context: seams.RequestContext, image: glance.Image,
                verdict: owing.Verdict) -> bool:
        if not self._options.record:
            glance.forget_record(context, image)
            return True
        return self._images.record_surely(
            context, image['id'], verdict.properties)

    def _put_away(self, context: seams.RequestContext, owed: owing.Owed,
                  image: glance.Image, verdict: owing.Verdict) -> None:
        is_good = verdict.level != consistency.Level.CRASH.value
        if is_good or not owed.is_required:
            return
        done = (glance.put_away(context, image['id'])
                if image['status'] == _ACTIVE else image['status'])
        events.tell_once(
            owed.request_id, owed.instance_uuid, self._host, events.FAILED,
            exception.QuiesceError('image %s is %s: %s' % (
                image['id'], done, verdict.reason)))

    def _record_on_snapshots(
            self, context: seams.RequestContext,
            snapshot_ids: abc.Iterable[str],
            verdict: owing.Verdict) -> None:
        if not self._options.record:
            return
        for snapshot_id in snapshot_ids:
            volume_snapshots.record(context, snapshot_id, verdict.properties)


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
            exception.QuiesceError(
                'the record of this snapshot is not written yet; until then, '
                'take it for one of consistency level crash'))
