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

"""Where the record of a snapshot goes: onto its image.

An image-backed snapshot is uploaded by nova-compute, so its record travels
with the upload. The image of a volume-backed one is made by nova-api, after
it cast the thaw, so it has to be looked for.
"""

from collections import abc
import contextlib
import datetime
import json
import threading
import time

from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import timeutils

from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce import seams
from nova_quiesce import snapshot as taken

LOG = logging.getLogger(__name__)

#: How many of a project's latest images are looked through.
_LATEST = 100
#: How long an event's name may be in Nova's database, in characters.
_EVENT_NAME = 255
#: Seconds between two looks, and by which clocks may differ between hosts.
_LOOK_INTERVAL = 1.0
_CLOCK_SKEW = datetime.timedelta(seconds=5)


class RecordingImageAPI:
    """Nova's image API, with the record added to what is uploaded.

    This is the last gate on each path of an image-backed snapshot: what is
    not proven and required does not become an image.

    :param image_api: Nova's image API, which does the work
    :param find: the snapshot in progress that makes an image, by image id
    :param is_recording: whether the record is added; the gate is kept in
        either case
    """

    def __init__(self, image_api: seams.ImageAPI,
                 find: abc.Callable[[str], taken.Snapshot | None],
                 is_recording: bool = True) -> None:
        self._image_api = image_api
        self._find = find
        self._is_recording = is_recording

    def update(self, context: object, id_or_uri: str,
               image_info: dict[str, object], *args: object,
               **kwargs: object) -> object:
        """Update an image; upload it, if there is data.

        :param id_or_uri: the image
        :param image_info: what Nova wants to set on it
        :raises QuiesceError: a snapshot is required to be consistent, and
            is not
        """
        snapshot = self._find(id_or_uri)
        if snapshot is not None:
            snapshot.check()
        if snapshot is not None and self._is_recording:
            properties = image_info.setdefault('properties', {})
            assert isinstance(properties, dict)
            properties.update(snapshot.record.properties())
        return self._image_api.update(
            context, id_or_uri, image_info, *args, **kwargs)

    def __getattr__(self, name: str) -> object:
        return getattr(self._image_api, name)


class VolumeRecorder:
    """Records on the image of one volume-backed snapshot.

    :param image_api: Nova's image API
    :param volume_api: Nova's volume API
    :param context: the request's, with the tenant's own authority
    :param volume_ids: the ids of the instance's volumes
    :param since: when the request reached this host (UTC)
    """

    def __init__(self, image_api: seams.ImageAPI, volume_api: seams.VolumeAPI,
                 context: seams.RequestContext,
                 volume_ids: set[str],
                 since: datetime.datetime) -> None:
        self._image_api = image_api
        self._volume_api = volume_api
        self._context = context
        self._volume_ids = volume_ids
        self._since = since - _CLOCK_SKEW

    def record(self, record: consistency.Record, timeout: float,
               superseded: threading.Event) -> consistency.Record | None:
        """Look for the image, and record on it.

        :param record: what is proven
        :param timeout: seconds to look for the image
        :param superseded: set as soon as another request could be making an
            image of the same volumes
        :returns: what was written; None where no image was found
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            image = self._find_image()
            if superseded.is_set():
                break
            if image is not None:
                return self._write(image, record)
            left = max(0, deadline - time.monotonic())
            superseded.wait(min(_LOOK_INTERVAL, left))
        return None

    def _find_image(self) -> dict[str, object] | None:
        images = self._image_api.get_all(
            self._context, limit=_LATEST, sort_key='created_at',
            sort_dir='desc',
            filters={'owner': self._context.project_id})
        for image in images[:_LATEST]:
            if self._is_ours(image):
                return image
        return None

    def _is_ours(self, image: dict[str, object]) -> bool:
        if _created(image) < self._since:
            return False
        snapshots = [self._volume_api.get_snapshot(self._context, snapshot_id)
                     for snapshot_id in _snapshot_ids(image)]
        return bool(snapshots) and all(
            snapshot['volume_id'] in self._volume_ids and
            _created(snapshot) >= self._since for snapshot in snapshots)

    def _write(self, image: dict[str, object],
               record: consistency.Record) -> consistency.Record:
        states = {
            str(self._volume_api.get_snapshot(self._context,
                                              snapshot_id)['status'])
            for snapshot_id in _snapshot_ids(image)}
        if record.level is consistency.Level.FILESYSTEM and (
                states != {'available'}):
            record = consistency.crash(
                'a volume snapshot was %s when the guest was thawed'
                % ' and '.join(sorted(states)))
        self._image_api.update(
            self._context, str(image['id']),
            {'properties': record.properties()}, purge_props=False)
        return record


class Recordings:
    """Records on volume-backed snapshots without making anyone wait.

    At most one of an instance: where a request failed and made no image, the
    image of the next one must not get its record.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._superseded: dict[str, threading.Event] = {}

    def supersede(self, instance_uuid: str) -> None:
        """Stop looking for the image of an earlier request.

        :param instance_uuid: whose
        """
        with self._lock:
            superseded = self._superseded.pop(instance_uuid, None)
        if superseded is not None:
            superseded.set()

    def start(self, instance_uuid: str, recorder: VolumeRecorder,
              record: consistency.Record, timeout: float) -> None:
        """Record in the background.

        :param instance_uuid: whose snapshot it is
        :param recorder: knows which image
        :param record: what is proven
        :param timeout: seconds to look for the image; 0 records nothing
        """
        self.supersede(instance_uuid)
        superseded = threading.Event()
        with self._lock:
            self._superseded[instance_uuid] = superseded
        threading.Thread(
            target=self._run, daemon=True, name='record-%s' % instance_uuid,
            args=(instance_uuid, recorder, record, timeout,
                  superseded)).start()

    def stop(self) -> None:
        """Stop looking for any image."""
        with self._lock:
            everything = list(self._superseded.values())
            self._superseded.clear()
        for superseded in everything:
            superseded.set()

    def _run(self, instance_uuid: str, recorder: VolumeRecorder,
             record: consistency.Record, timeout: float,
             superseded: threading.Event) -> None:
        try:
            written = recorder.record(record, timeout, superseded)
        except Exception:
            LOG.exception('The consistency level %(level)s of a '
                          'volume-backed snapshot of instance %(uuid)s was '
                          'not recorded', {'level': record.level.value,
                                           'uuid': instance_uuid})
            return
        finally:
            with self._lock:
                if self._superseded.get(instance_uuid) is superseded:
                    del self._superseded[instance_uuid]
        if written is None:
            LOG.info('No image of a volume-backed snapshot of instance %s '
                     'was found to record its consistency level on',
                     instance_uuid)
            return
        LOG.info('Volume-backed snapshot of instance %(uuid)s has '
                 'consistency level %(level)s: %(reason)s',
                 {'uuid': instance_uuid, 'level': written.level.value,
                  'reason': written.reason})


@contextlib.contextmanager
def tell_tenant(context: object, instance_uuid: str,
                host: str) -> abc.Iterator[None]:
    """Tell a tenant why an image-backed snapshot failed.

    Nova reports ``compute_snapshot_instance`` as soon as it has handed the
    snapshot to a thread, and deletes the image when that fails. The details
    of an event are for administrators, its name is not: so the name says it.

    :param context: the request's, whose action the event becomes part of
    :param instance_uuid: whose snapshot is taken in the ``with`` block
    :param host: this compute host
    """
    try:
        yield
    except exception.QuiesceError as error:
        name = ('quiesce_failed: %s' % error)[:_EVENT_NAME]
        events = objects.InstanceActionEvent
        try:
            events.event_start(context, instance_uuid, name,
                               want_result=False, host=host)
            events.event_finish_with_failure(
                context, instance_uuid, name, exc_val=error,
                exc_tb=error.__traceback__, want_result=False)
        except nova_exception.InstanceActionNotFound:
            LOG.debug('Instance %s has no action to report a failed snapshot '
                      'under', instance_uuid)
        raise


def _snapshot_ids(image: dict[str, object]) -> list[str]:
    properties = image.get('properties')
    mapping = (properties.get('block_device_mapping')
               if isinstance(properties, dict) else None)
    if isinstance(mapping, str):
        try:
            mapping = json.loads(mapping)
        except ValueError:
            return []
    if not isinstance(mapping, list):
        return []
    return [str(entry['snapshot_id']) for entry in mapping
            if isinstance(entry, dict) and entry.get('snapshot_id')]


def _created(thing: dict[str, object]) -> datetime.datetime:
    created = thing['created_at']
    if not isinstance(created, datetime.datetime):
        created = timeutils.parse_isotime(str(created))
    # Cinder's times carry no zone, and are in UTC.
    return (created if created.tzinfo
            else created.replace(tzinfo=datetime.UTC))
