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

"""The image properties that count: of the boot, of now, or the stricter.

Nova copies an image's properties into the instance as it is booted or
rebuilt. Operators also set them on the image later, and expect its instances
to follow. The copy is at hand; the present ones are read from Glance, which
may be slow, down, or no longer have the image.

Where an instance's image is kept (read in Nova 34 and Cinder 29):

* ``instance.image_ref`` is the image that ``boot`` was asked for, and the
  copy's source. It is empty for an instance that was booted from a volume.
* The root volume's ``volume_image_metadata['image_id']`` is the image that
  Cinder filled the volume from. Cinder passes it on to snapshots and clones
  and renews it when Nova rebuilds the instance (``reimage``), and Nova's own
  ``rebuild`` takes it for a volume-backed instance's image.
* ``system_metadata['image_base_image_ref']`` is neither: it is inherited from
  the image's own property of that name, so it may be the image's ancestor,
  and a resize or shelve of a volume-backed instance empties it. Nor is the
  image's id in the copy: ``get_image_metadata_from_volume`` takes it out.

So it is the first, else the second. One case stays open: an instance booted
from the image of a volume-backed snapshot has both, and if it is rebuilt from
another image, only the second is renewed.
"""

from collections import abc
from concurrent import futures
import threading
import time
import typing

from oslo_log import log as logging
from oslo_utils import uuidutils

from nova_quiesce.nova import seams
from nova_quiesce import policy

LOG = logging.getLogger(__name__)

#: Values of ``[quiesce] properties_from``.
INSTANCE = 'instance'
IMAGE = 'image'
STRICTER = 'stricter'

Properties: typing.TypeAlias = dict[str, object]

_STRICTNESS = [policy.Policy.SKIP, policy.Policy.PREFER,
               policy.Policy.REQUIRE]
#: How many look-ups may be under way, those that hang included.
_MAX_LOOKUPS = 16
#: How much is logged of an error, in characters.
_MAX_TEXT = 200


class Options(policy.Wishes, typing.Protocol):
    """The ``[quiesce]`` options that are read here."""

    @property
    def properties_from(self) -> str:
        """The properties that count: one of the three values above."""

    @property
    def glance_timeout(self) -> int:
        """Seconds that a look-up may take."""


class Reader:
    """Finds the image properties that count for an instance.

    :param image_api: Nova's image API
    :param volume_api: Nova's volume API
    :param root_volume: finds the id of an instance's root volume; None where
        it has none
    :param options: the operator's
    """

    def __init__(
            self, image_api: seams.ImageAPI, volume_api: seams.VolumeAPI,
            root_volume: abc.Callable[
                [seams.RequestContext, seams.Instance], str | None],
            options: Options) -> None:
        self._image_api = image_api
        self._volume_api = volume_api
        self._root_volume = root_volume
        self._options = options
        self._slots = threading.BoundedSemaphore(_MAX_LOOKUPS)

    def read(self, context: seams.RequestContext, instance: seams.Instance,
             copy: abc.Mapping[str, object]) -> Properties:
        """Find the properties that count for an instance.

        It takes ``glance_timeout`` seconds at most, and never fails: where
        the image cannot be read, the copy counts, and the log says so.

        :param context: the request's, with whose authority the image is read
        :param instance: the instance
        :param copy: the properties that Nova copied at boot
        """
        if self._options.properties_from == INSTANCE:
            return dict(copy)
        try:
            current = self._within_limits(context, instance)
        except Exception as error:
            LOG.warning(
                'The present properties of the image were not read, so those '
                'that the instance was booted with count: %s', _told(error),
                instance=instance)
            return dict(copy)
        if current is None:
            return dict(copy)
        if self._options.properties_from == IMAGE:
            return current
        return stricter(copy, current, self._options)

    def _within_limits(self, context: seams.RequestContext,
                       instance: seams.Instance) -> Properties | None:
        # Timeouts of Glance's client are per attempt and per read from the
        # socket, and finding a volume takes other services as well. So the
        # caller stops waiting; the thread ends when its last call does.
        deadline = time.monotonic() + self._options.glance_timeout
        if not self._slots.acquire(timeout=self._options.glance_timeout):
            raise TimeoutError('%d earlier look-ups still wait for an answer'
                               % _MAX_LOOKUPS)
        answer: futures.Future[Properties | None] = futures.Future()
        try:
            threading.Thread(
                target=self._settle, daemon=True,
                args=(answer, context, instance),
                name='image-%s' % instance.uuid).start()
        except RuntimeError:
            self._slots.release()
            raise
        return answer.result(max(0, deadline - time.monotonic()))

    def _settle(self, answer: futures.Future[Properties | None],
                context: seams.RequestContext,
                instance: seams.Instance) -> None:
        try:
            answer.set_result(self._current(context, instance))
        except Exception as error:
            answer.set_exception(error)
        finally:
            self._slots.release()

    def _current(self, context: seams.RequestContext,
                 instance: seams.Instance) -> Properties | None:
        image_id = self._image_id(context, instance)
        if not image_id:
            return None
        # A volume's image_id is the tenant's to set, and Nova takes an id
        # with a slash for the URL of a Glance to send its token to.
        if not uuidutils.is_uuid_like(image_id):
            raise ValueError('the id of the image is not a UUID')
        found = self._image_api.get(context, image_id)['properties']
        assert isinstance(found, dict)
        return found

    def _image_id(self, context: seams.RequestContext,
                  instance: seams.Instance) -> str | None:
        if instance.image_ref:
            return instance.image_ref
        volume_id = self._root_volume(context, instance)
        if volume_id is None:
            return None
        volume = self._volume_api.get(context, volume_id)
        metadata = volume.get('volume_image_metadata')
        if not isinstance(metadata, dict) or 'image_id' not in metadata:
            return None
        return str(metadata['image_id'])


def stricter(copy: abc.Mapping[str, object],
             current: abc.Mapping[str, object],
             options: policy.Wishes) -> Properties:
    """Merge an instance's properties with its image's, by the stricter.

    What is asked for is taken from one of the two as a whole: mixed, the
    properties could ask for something that neither does. Limits are
    independent of that, so each is the tighter one. Values stay as they are.

    :param copy: the instance's; they count where both ask for the same
    :param current: those that its image has now
    :param options: the operator's
    """
    merged = dict(copy)
    if _strictness(current, options) > _strictness(copy, options):
        _take(merged, current, policy.WISH_PROPERTIES)
    ours, theirs = policy.image_limit(copy), policy.image_limit(current)
    if theirs is not None and (ours is None or theirs < ours):
        _take(merged, current, (policy.LIMIT_PROPERTY,))
    _freeze_more(merged, copy, current)
    if policy.is_windows(current):
        _take(merged, current, (policy.OS_PROPERTY,))
    return merged


def _freeze_more(merged: Properties, copy: abc.Mapping[str, object],
                 current: abc.Mapping[str, object]) -> None:
    name = policy.MOUNTPOINTS_PROPERTY
    ours, theirs = policy.mountpoints(copy), policy.mountpoints(current)
    if ours == () or theirs == ():
        # Without the property, all filesystems are frozen.
        merged.pop(name, None)
    elif ours is None or theirs is None:
        # It is told of as it is.
        _take(merged, copy if ours is None else current, (name,))
    else:
        merged[name] = ','.join(dict.fromkeys(ours + theirs))
        if policy.mountpoints(merged) is None:
            # Together they are more than may be named.
            del merged[name]


def _strictness(properties: abc.Mapping[str, object],
                options: policy.Wishes) -> int:
    return _STRICTNESS.index(policy.asked(properties, options))


def _take(target: Properties, source: abc.Mapping[str, object],
          names: abc.Iterable[str]) -> None:
    for name in names:
        target.pop(name, None)
        if name in source:
            target[name] = source[name]


def _told(error: Exception) -> str:
    # Other services' answers may be long, and have lines.
    text = ' '.join(str(error).split()) or 'there was no answer in time'
    return '%s: %s' % (type(error).__name__, text[:_MAX_TEXT])
