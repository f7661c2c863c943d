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

"""Nova's image API, with the record added to each image-backed snapshot.

An image-backed snapshot is uploaded by nova-compute, so its record travels
with the upload. For a volume-backed one see
:mod:`nova_quiesce.record.recorder`.
"""

from collections import abc
import contextlib
import typing

from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce.freeze import errors
from nova_quiesce.nova import seams
from nova_quiesce.nova import wrapper
from nova_quiesce.record import action_events
from nova_quiesce.record import glance

LOG = logging.getLogger(__name__)


class JudgedSnapshot(typing.Protocol):
    """A snapshot that was cut, and what may be claimed of it."""

    @property
    def record(self) -> consistency.Record:
        """The record of how it was cut."""

    def check(self) -> None:
        """Refuse it where it is not what its image requires.

        :raises QuiesceError: quiesce is required, and not proven
        """


class StreamedUpload(typing.Protocol):
    """An image that is made as it is uploaded, without a file of it."""

    def check(self, uploaded: object) -> None:
        """See that Glance has the whole image.

        :param uploaded: how long Glance says that it is, in bytes
        :raises QuiesceError: it is not all there
        """


class SnapshotInProgress(typing.Protocol):
    """A snapshot that Nova's driver is at, as its uploader sees it."""

    @property
    def snapshot(self) -> JudgedSnapshot:
        """The snapshot itself."""

    @property
    def upload(self) -> StreamedUpload | None:
        """Its image, where Nova has no file of that."""

    def end_upload(self) -> None:
        """Release the upload: the image is in Glance, or will not be."""


class RecordingImageAPI(wrapper.Wrapper[seams.ImageAPI]):
    """Nova's image API, with the record added to what is uploaded.

    This is the last gate on each path of an image-backed snapshot: what is
    required and not proven does not become an image.

    :param image_api: Nova's image API, which does the work
    :param find: finds the snapshot in progress by the id of its image; None
        for other images
    :param is_recording: whether the record is added; the gate is kept in
        either case
    """

    def __init__(self, image_api: seams.ImageAPI,
                 find: abc.Callable[[str], SnapshotInProgress | None],
                 is_recording: bool = True) -> None:
        super().__init__(image_api)
        self._find = find
        self._is_recording = is_recording

    def update(self, context: seams.RequestContext, id_or_uri: str,
               image_info: dict[str, object], data: object = None,
               **kwargs: object) -> object:
        """Update an image; upload it, if there is data.

        :param context: the request's
        :param id_or_uri: the image
        :param image_info: the changes that Nova wants
        :param data: Nova's file of the image; an empty one where the
            snapshot has an upload, which is sent in its place
        :returns: the image, as Nova's image API returns it
        :raises QuiesceError: a snapshot is required to be consistent, and
            is not, or its image is not whole
        """
        in_progress = self._find(id_or_uri)
        if in_progress is None:
            return self._wrapped.update(
                context, id_or_uri, image_info, data=data, **kwargs)
        in_progress.snapshot.check()
        record = (in_progress.snapshot.record.properties()
                  if self._is_recording else {})
        properties = image_info.setdefault('properties', {})
        assert isinstance(properties, dict)
        properties.update(record)
        try:
            updated = self._wrapped.update(
                context, id_or_uri, image_info,
                data=in_progress.upload or data, **kwargs)
            if in_progress.upload is not None:
                in_progress.upload.check(updated.get('size'))
        finally:
            in_progress.end_upload()
        self._read_back(context, id_or_uri, record)
        return updated

    def _read_back(self, context: seams.RequestContext, image_id: str,
                   record: dict[str, str]) -> None:
        # The image is there by now, and nothing that is claimed of it is
        # wrong: no failure here fails the snapshot.
        try:
            if not record:
                glance.forget_record(context, image_id)
            elif not glance.record_surely(context, image_id, record):
                LOG.error('The record of image %s does not stay on it',
                          image_id)
        except Exception as error:
            LOG.error('The record of image %(image)s was not read back: '
                      '%(error)s', {'image': image_id, 'error': error})


@contextlib.contextmanager
def tell_tenant(context: seams.RequestContext, instance_uuid: str,
                host: str) -> abc.Iterator[None]:
    """Tell a tenant why an image-backed snapshot failed.

    Nova reports ``compute_snapshot_instance`` as soon as it has handed the
    snapshot to a thread, and deletes the image when that fails.

    :param context: the request's, whose action the event becomes part of
    :param instance_uuid: the instance whose snapshot is taken in the ``with``
        block
    :param host: the name of this compute host
    """
    try:
        yield
    except errors.QuiesceError as error:
        action_events.tell(context.request_id, instance_uuid, host,
                           action_events.FAILED, error)
        raise
