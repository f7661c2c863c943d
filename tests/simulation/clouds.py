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

"""Glance, Cinder, Nova's database and nova-api, as one request meets them.

What Glance does with a change that comes while an image is uploaded was seen
on a real one.
"""

from collections import abc
import copy
import dataclasses
import datetime
import json
import typing

import glanceclient.exc
from nova import exception as nova_exception

from tests.simulation import scheduler as scheduling
from tests.simulation import world as worlds

PROJECT, OTHER_PROJECT = 'project', 'another-project'
REQUEST = 'req-1'
VOLUMES = ('volume-1', 'volume-2')
#: Seconds until Cinder has made a snapshot, and until it is in error that
#: stayed in creation.
_SNAPSHOT, _STAYS = 0.4, 300
#: Seconds that it waits for a nova-compute that makes one, and between two of
#: its looks.
_ASSISTED, _ASKS = 600, 0.5
#: Seconds that nova-api waits for nova-compute, that an upload takes.
RPC_TIMEOUT, _UPLOAD = 15, 0.3
_QUEUED, _SAVING, _ACTIVE = 'queued', 'saving', 'active'


@dataclasses.dataclass(frozen=True)
class Context:
    """A request's context.

    :ivar request_id: the request's
    :ivar project_id: the project that makes it
    """

    request_id: str = REQUEST
    project_id: str = PROJECT


@dataclasses.dataclass
class Snapshot:
    """A snapshot of a volume.

    :ivar id: its own
    :ivar made: when it was asked for
    :ivar ends: when its state changes
    :ivar end: the state that it has then
    :ivar cut: when the disk was cut, where that is known
    :ivar metadata: what its owner sees on it
    """

    id: str
    made: float
    ends: float
    end: str = 'available'
    cut: float | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


class Cinder:
    """The volume snapshots of all projects.

    :param world: the world
    :param queue: to nova-compute, which makes snapshots of volumes that are
        files; None where Cinder makes them alone
    """

    def __init__(self, world: worlds.World, queue: 'Queue | None') -> None:
        self._world = world
        self._queue = queue
        self.snapshots = {one: Snapshot(one, 0, 0) for one in (
            'other-1', 'other-2', 'foreign-1')}
        self._ending, self._lasting = 'available', _SNAPSHOT

    def create(self) -> str:
        """Have a volume snapshotted.

        :returns: the snapshot's id
        """
        self._world.point('cinder create: before')
        now = self._world.scheduler.now
        made = Snapshot('snapshot-%d' % len(self.snapshots), now,
                        now + self._lasting, self._ending)
        self.snapshots[made.id] = made
        self._world.tell('Cinder makes %s' % made.id)
        queue = self._queue
        if queue is not None:
            made.ends, made.end = now + _ASSISTED, 'error'
            self._world.scheduler.start(
                self._world.operator, 'cinder-volume',
                lambda: self._have_made(made, queue))
        self._world.point('cinder create: after')
        return made.id

    def _have_made(self, made: Snapshot, queue: 'Queue') -> None:
        scheduler = self._world.scheduler
        cut: list[float] = []
        message = Message('snapshot_volume', made.id,
                          note=lambda: cut.append(scheduler.now))
        queue.messages.append(message)
        # One that died at it never tells.
        if not scheduler.wait(lambda: bool(message.answers), _ASSISTED):
            return
        scheduler.wait(lambda: False, _ASKS)
        made.ends = scheduler.now
        if message.answers[0] is None:
            made.end, made.cut = self._ending, cut[0]
        self._world.tell('%s is %s' % (made.id, made.end))

    def get_snapshot(self, _context: object,
                     snapshot_id: str) -> dict[str, str]:
        """Show a snapshot."""
        self._world.point('cinder show: before')
        found = self.snapshots[snapshot_id]
        is_over = self._world.scheduler.now >= found.ends
        return {'status': found.end if is_over else 'creating'}

    def set_metadata(self, snapshot_id: str,
                     metadata: dict[str, str]) -> None:
        """Add to the metadata of a snapshot."""
        self._world.point('cinder metadata: before')
        if not snapshot_id.startswith('snapshot-'):
            self._world.break_promise("another's volume snapshot is changed")
        self.snapshots[snapshot_id].metadata.update(metadata)
        self._world.point('cinder metadata: after')

    def delay(self) -> None:
        """Have those not end that are made now, or made next."""
        self._change(self._world.scheduler.now + _STAYS, 'error')
        self._lasting, self._ending = _STAYS, 'error'

    def fail(self) -> None:
        """Have those fail that are made now, or made next."""
        self._change(None, 'error')
        self._ending = 'error'

    def _change(self, ends: float | None, end: str) -> None:
        for one in self.snapshots.values():
            if one.ends > self._world.scheduler.now:
                one.ends, one.end = ends or one.ends, end


class Glance:
    """The images of all projects, and what is done with them.

    :param world: the world
    """

    def __init__(self, world: worlds.World) -> None:
        self._world = world
        self.images: dict[str, dict[str, typing.Any]] = {}
        self.made: str | None = None
        for number, (owner, snapshot) in enumerate((
                (PROJECT, 'other-1'), (PROJECT, 'other-2'),
                (OTHER_PROJECT, 'foreign-1'), (PROJECT, None))):
            self._add('other-image-%d' % number, owner,
                      [snapshot] if snapshot else [], _ACTIVE)
        self.images['other-image-1']['os_hidden'] = True
        self._others = copy.deepcopy(self.images)

    def _add(self, image_id: str, owner: str, snapshots: list[str],
             status: str) -> None:
        now = datetime.datetime(2026, 1, 1) + datetime.timedelta(
            seconds=self._world.scheduler.now)
        self.images[image_id] = {
            'id': image_id, 'owner': owner, 'status': status,
            'created_at': now.strftime('%Y-%m-%dT%H:%M:%SZ'),
            'os_hidden': False, 'block_device_mapping': json.dumps(
                [{'snapshot_id': one} for one in snapshots])}

    def are_others_whole(self) -> bool:
        """Tell whether the images of others are as they were."""
        return {name: image for name, image in self.images.items()
                if name != self.made} == self._others

    def create(self, snapshots: list[str]) -> None:
        """Make the request's image, as nova-api does: with an empty upload."""
        self._world.point('glance create: before')
        image_id = 'image'
        self.made = image_id
        self._add(image_id, PROJECT, snapshots, _QUEUED)
        self._world.point('glance create: after')
        self._world.point('glance upload: before')
        image = self._find(image_id)
        image['status'] = _SAVING
        as_it_was = dict(image)
        self._world.scheduler.wait(lambda: False, _UPLOAD)
        self._find(image_id)
        # What came meanwhile is lost.
        self.images[image_id] = as_it_was | {'status': _ACTIVE}
        self._world.tell('the image is active')
        self._world.point('glance upload: after')

    def delete_made(self) -> None:
        """Delete the request's image, as its owner."""
        if self.images.pop('image', None) is not None:
            self._world.tell('the tenant deletes the image')

    def call(self, context: Context, _version: int, method: str,
             args: abc.Sequence[str] = (),
             kwargs: abc.Mapping[str, typing.Any] | None = None
             ) -> typing.Any:
        """Do as Glance's client does for Nova's wrapper of it."""
        methods: dict[str, abc.Callable[..., typing.Any]] = {
            'list': self._list, 'get': self._get, 'update': self._update,
            'deactivate': self._deactivate}
        self._world.point('glance %s: before' % method)
        answer = methods[method](context, *args, **(kwargs or {}))
        self._world.point('glance %s: after' % method)
        return answer

    def _list(self, context: Context, filters: dict[str, typing.Any],
              **_order: object) -> list[dict[str, typing.Any]]:
        return [dict(image) for image in self.images.values()
                if image['owner'] == context.project_id and
                image['os_hidden'] is filters.get('os_hidden', False)]

    def _get(self, _context: Context, image_id: str) -> dict[str, typing.Any]:
        return dict(self._find(image_id))

    def _update(self, _context: Context, image_id: str,
                remove_props: abc.Collection[str] = (),
                **properties: typing.Any) -> None:
        image = self._touch(image_id)
        image.update(properties)
        for name in remove_props:
            del image[name]

    def _deactivate(self, _context: Context, image_id: str) -> None:
        image = self._touch(image_id)
        if image['status'] not in (_ACTIVE, 'deactivated'):
            raise glanceclient.exc.HTTPForbidden()
        image['status'] = 'deactivated'
        self._world.tell('the image is deactivated')

    def _touch(self, image_id: str) -> dict[str, typing.Any]:
        if image_id != self.made:
            self._world.break_promise("another's image is changed")
        return self._find(image_id)

    def _find(self, image_id: str) -> dict[str, typing.Any]:
        if image_id not in self.images:
            raise nova_exception.ImageNotFound(image_id=image_id)
        return self.images[image_id]


class Conductor:
    """What Nova's database has of the request's action.

    :param world: the world
    :ivar told: the kinds of events that its owner sees
    """

    def __init__(self, world: worlds.World) -> None:
        self._world = world
        self.has_api_failed = False
        self.told: set[str] = set()

    def has_failed(self, _request_id: str, _instance_uuid: str) -> bool:
        """Tell whether nova-api failed to make the volume snapshots."""
        self._world.point('conductor events: before')
        return self.has_api_failed

    def tell_once(self, _request_id: str, _instance_uuid: str, _host: str,
                  kind: str, _error: Exception) -> None:
        """Add an event."""
        self._world.point('conductor tell: before')
        self.told.add(kind)
        self._world.point('conductor tell: after')


@dataclasses.dataclass
class Message:
    """A message to nova-compute.

    :ivar call: what is asked for
    :ivar mapping: the block devices that it goes with, or Cinder's snapshot
    :ivar note: told of the cut
    :ivar answers: what came of it, once that is known
    """

    call: str
    mapping: object = None
    note: abc.Callable[[], None] = lambda: None
    answers: list[Exception | None] = dataclasses.field(default_factory=list)


class Queue:
    """The messages to nova-compute, which survive it until it takes them.

    :param world: the world
    """

    def __init__(self, world: worlds.World) -> None:
        self._world = world
        self.messages: list[Message] = []

    def call(self, name: str) -> None:
        """Ask for something, and wait for the answer.

        :raises Exception: nova-compute's, or there is none in time
        """
        message = Message(name)
        self._world.point('rpc call: before')
        self.messages.append(message)
        if not self._world.scheduler.wait(
                lambda: bool(message.answers), RPC_TIMEOUT):
            raise TimeoutError('no answer of nova-compute')
        self._world.point('rpc call: after')
        if message.answers[0] is not None:
            raise message.answers[0]

    def cast(self, name: str, mapping: object) -> None:
        """Ask for something, and wait for nothing."""
        if self._world.point('rpc cast: before') is not (
                worlds.Fault.LOSE_MESSAGE):
            self.messages.append(Message(name, mapping))
        self._world.point('rpc cast: after')

    def serve(self, scheduler: scheduling.Scheduler,
              handle: abc.Callable[[Message], None]) -> None:
        """Take messages as a nova-compute, for as long as it lives."""
        while scheduler.wait(lambda: bool(self.messages)):
            handle(self.messages.pop(0))


class NovaApi:
    """The snapshot of a volume-backed instance, as nova-api makes it.

    :param world: the world
    :param queue: to nova-compute
    :param cinder: the volumes
    :param glance: the images
    :param conductor: where its failures are noted
    :param is_required: whether the instance's copy of its image's properties
        requires quiesce
    :ivar is_quiesced: whether it takes the guest for quiesced
    """

    def __init__(self, world: worlds.World, queue: Queue, cinder: Cinder,
                 glance: Glance, conductor: Conductor,
                 is_required: bool) -> None:
        self._world = world
        self._queue = queue
        self._cinder = cinder
        self._glance = glance
        self._conductor = conductor
        self._is_required = is_required
        self.is_quiesced = False

    def create_image(self) -> None:
        """Make the image, or tell why there is none."""
        try:
            self._quiesce()
            self._glance.create(self._snapshot_volumes())
        except Exception as error:
            self._world.tell('nova-api answers an error: %s' % error)

    def _quiesce(self) -> None:
        try:
            self._queue.call('quiesce')
        except nova_exception.NovaException:
            if self._is_required:
                raise
        except Exception:
            self._queue.cast('unquiesce', None)
            raise
        else:
            self.is_quiesced = True

    def _snapshot_volumes(self) -> list[str]:
        mapping: list[dict[str, str]] = []
        try:
            for volume in VOLUMES:
                mapping.append({
                    'source_type': 'snapshot', 'volume_id': volume,
                    'snapshot_id': self._cinder.create()})
        except Exception:
            self._conductor.has_api_failed = True
            if self.is_quiesced:
                self._queue.cast('unquiesce', mapping)
            raise
        if self.is_quiesced:
            self._queue.cast('unquiesce', mapping)
        return [one['snapshot_id'] for one in mapping]
