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

"""The record of a volume-backed snapshot, and where it goes.

nova-api makes the image itself, after it cast the thaw, so it has to be
looked for: by the volume snapshots that it stands for. The record goes onto
the image and onto each of them. Where quiesce is required and was not proven,
nova-api has answered already that there is an image; it is labelled, and then
deactivated: nobody boots it by accident, and its owner can have it back.
"""

from collections import abc
import dataclasses
import datetime
import json
import threading
import time
import typing

from oslo_log import log as logging
from oslo_utils import timeutils

from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce.record import glance
from nova_quiesce import seams

LOG = logging.getLogger(__name__)

#: How many of a project's latest images are looked through.
_LATEST = 100
#: Seconds between two looks, and by which clocks may differ between hosts.
_LOOK_INTERVAL = 1.0
_CLOCK_SKEW = datetime.timedelta(seconds=5)

#: Adds to the metadata of a volume snapshot.
Label = abc.Callable[[seams.RequestContext, str, dict[str, str]], None]


@dataclasses.dataclass(frozen=True)
class Request:
    """What is known of one request for a volume-backed snapshot.

    :ivar context: its own, with the tenant's authority
    :ivar volume_ids: the instance's volumes
    :ivar earlier: those volumes' snapshots as it reached this host
    :ivar since: when it did so (UTC)
    :ivar is_required: whether only a proven snapshot may be left of it
    """

    context: seams.RequestContext
    volume_ids: frozenset[str]
    earlier: frozenset[str]
    since: datetime.datetime
    is_required: bool


@dataclasses.dataclass(frozen=True)
class Proven:
    """What is proven once the window is closed.

    :ivar record: what is claimed of what was cut inside it
    :ivar snapshot_ids: the volume snapshots that were complete before the
        thaw
    """

    record: consistency.Record
    snapshot_ids: frozenset[str] = frozenset()


class Recorder:
    """Records on what came of one request.

    :param image_api: Nova's image API
    :param volume_api: Nova's volume API
    :param label: labels a volume snapshot; None where nothing is labelled,
        and only what is required is seen to
    :param tell: tells the tenant why the image is not to be used
    :param request: the request
    """

    def __init__(self, image_api: seams.ImageAPI, volume_api: seams.VolumeAPI,
                 label: Label | None, tell: abc.Callable[[Exception], None],
                 request: Request) -> None:
        self._image_api = image_api
        self._volume_api = volume_api
        self._label = label
        self._tell = tell
        self._request = request
        self._context = request.context
        self._since = request.since - _CLOCK_SKEW

    def record(self, proven: Proven, timeout: float,
               superseded: threading.Event) -> consistency.Record | None:
        """Look for the image, and record on it.

        :param proven: what is proven
        :param timeout: seconds to look for the image
        :param superseded: set as soon as another request could be making an
            image of the same volumes
        :returns: what was written; None where no image was found
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            image = self._look_for_image()
            if superseded.is_set():
                break
            if image is not None:
                return self._write(image, proven, deadline)
            left = max(0, deadline - time.monotonic())
            superseded.wait(min(_LOOK_INTERVAL, left))
        return None

    def _look_for_image(self) -> dict[str, typing.Any] | None:
        try:
            return self._find_image()
        except Exception as error:
            # It is looked for again: Glance or Cinder may be busy.
            LOG.warning('The image of a volume-backed snapshot was not '
                        'looked up: %s', error)
            return None

    def _find_image(self) -> dict[str, typing.Any] | None:
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
        snapshot_ids = _snapshot_ids(image)
        if not snapshot_ids or self._request.earlier & set(snapshot_ids):
            return False
        return all(
            self._volume_api.get_snapshot(self._context, snapshot_id)[
                'volume_id'] in self._request.volume_ids
            for snapshot_id in snapshot_ids)

    def _write(self, image: dict[str, typing.Any], proven: Proven,
               deadline: float) -> consistency.Record:
        snapshot_ids = _snapshot_ids(image)
        record = proven.record
        if (record.level is consistency.Level.FILESYSTEM and
                not proven.snapshot_ids.issuperset(snapshot_ids)):
            record = consistency.crash(
                'the volume snapshots were not seen to be complete before '
                'the guest was thawed')
        try:
            if self._label is not None:
                self._label_all(self._label, image['id'], snapshot_ids,
                                record.properties())
        finally:
            # Also what could not be labelled must not pass for good.
            if (self._request.is_required and
                    record.level is consistency.Level.CRASH):
                self._try(self._tell, exception.QuiesceError(record.reason))
                self._put_away(image['id'], deadline)
        return record

    def _label_all(self, label: Label, image_id: str,
                   snapshot_ids: list[str],
                   properties: dict[str, str]) -> None:
        self._image_api.update(
            self._context, image_id, {'properties': properties},
            purge_props=False)
        for snapshot_id in snapshot_ids:
            self._try(label, self._context, snapshot_id, properties)

    def _put_away(self, image_id: str, deadline: float) -> None:
        if not self._try_until(deadline, glance.deactivate, image_id):
            # Its policy may forbid that.
            self._try(glance.hide, self._context, image_id)

    def _try_until(self, deadline: float, call: abc.Callable[..., object],
                   thing_id: str) -> bool:
        while not self._try(call, self._context, thing_id):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_INTERVAL)
        return True

    @staticmethod
    def _try(call: abc.Callable[..., object], *args: object) -> bool:
        try:
            call(*args)
        except Exception as error:
            LOG.warning('What came of a volume-backed snapshot was not '
                        'labelled, told or deactivated: %s', error)
            return False
        return True


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
