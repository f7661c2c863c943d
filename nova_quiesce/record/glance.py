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

"""Glance's images: finding them, recording on them, putting them away."""

from collections import abc
import datetime
import json
import typing

import glanceclient.exc
from nova import exception as nova_exception
from nova.image import glance
from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce import seams

LOG = logging.getLogger(__name__)

_VERSION = 2
_PAGE = 100
#: Two hosts' clocks may differ by that much.
_CLOCK_SKEW = datetime.timedelta(minutes=5)

Image: typing.TypeAlias = dict[str, typing.Any]


class Images:
    """A project's images.

    :param api: Nova's image API
    """

    def __init__(self, api: seams.ImageAPI) -> None:
        self._api = api

    def find(self, context: seams.RequestContext, since: datetime.datetime,
             snapshot_ids: abc.Collection[str]) -> Image | None:
        """The image that stands for exactly these volume snapshots.

        :param context: a request's of the project
        :param since: when it was made at the earliest, on this host's clock
        :param snapshot_ids: all of them
        """
        wanted = sorted(snapshot_ids)
        made = (since - _CLOCK_SKEW).astimezone(datetime.UTC)
        found = self._api.get_all(
            context, page_size=_PAGE, sort_key='created_at', sort_dir='desc',
            filters={'owner': context.project_id,
                     'created_at': 'gte:%s' % made.strftime(
                         '%Y-%m-%dT%H:%M:%SZ')})
        return next((image for image in found
                     if sorted(snapshots_of(image)) == wanted), None)

    def record_surely(self, context: seams.RequestContext, image_id: str,
                      properties: dict[str, str]) -> bool:
        """Write a record onto an image, unless it is there, and read it back.

        Glance saves an image that is being uploaded as it was when that
        began, so what is written meanwhile may be lost.

        :param context: a request's that may change the image
        :param image_id: an image that is active
        :param properties: the record
        :returns: whether it is there, as read from the image
        """
        if self._has(context, image_id, properties):
            return True
        self._api.update(context, image_id, {'properties': dict(properties)},
                         purge_props=False)
        return self._has(context, image_id, properties)

    def _has(self, context: seams.RequestContext, image_id: str,
             properties: dict[str, str]) -> bool:
        found = self._api.get(context, image_id)['properties']
        assert isinstance(found, dict)
        return properties.items() <= found.items()


def snapshots_of(image: abc.Mapping[str, object]) -> list[str]:
    """The ids of the volume snapshots that an image stands for."""
    properties = image.get('properties')
    mapping = (properties.get('block_device_mapping')
               if isinstance(properties, dict) else None)
    if isinstance(mapping, str):
        try:
            mapping = json.loads(mapping)
        except (ValueError, RecursionError):
            return []
    return snapshots_in(mapping)


def snapshots_in(mapping: object) -> list[str]:
    """The ids of the volume snapshots in a list of block devices.

    :param mapping: as Nova keeps it on an image
    """
    if not isinstance(mapping, (list, tuple)):
        return []
    return [str(entry['snapshot_id']) for entry in mapping
            if isinstance(entry, dict) and entry.get('snapshot_id')]


def forget_record(context: seams.RequestContext, image: Image) -> None:
    """Take a record off an image that is not to have one.

    nova-api lets it inherit that of the image that its instance was booted
    from.

    :param context: a request's that may change the image
    :param image: as it was read
    """
    inherited = [name for name in image['properties']
                 if name.startswith(consistency.PREFIX)]
    if inherited:
        _call(context, 'update', image['id'], remove_props=inherited)


def put_away(context: seams.RequestContext, image_id: str) -> str:
    """Keep an active image from being booted by accident.

    It is deactivated: Nova does not boot it, and its owner can have it back.
    Where Glance's policy forbids that, it is hidden.

    :param context: a request's; Glance lets a member of the image's project
        do this by default
    :returns: what was done, as a participle
    """
    try:
        _call(context, 'deactivate', image_id)
    except glanceclient.exc.HTTPForbidden as error:
        LOG.warning('Glance does not let image %(image)s be deactivated, so '
                    'it is hidden: %(error)s',
                    {'image': image_id, 'error': error})
        _call(context, 'update', image_id, os_hidden=True)
        return 'hidden'
    return 'deactivated'


def is_gone(error: Exception) -> bool:
    """Whether an error says that an image is not there any more."""
    return isinstance(error, (nova_exception.ImageNotFound,
                              glanceclient.exc.HTTPNotFound))


def _call(context: seams.RequestContext, method: str, image_id: str,
          **arguments: object) -> None:
    glance.GlanceClientWrapper().call(
        context, _VERSION, method, args=(image_id,), kwargs=arguments)
