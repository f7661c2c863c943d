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

"""Glance's images: finding one, recording on it, putting it away.

Images are read as Glance has them. Nova's image API reads some properties as
JSON: one image where that fails makes it fail for a whole list.
"""

from collections import abc
import datetime
import json
import typing

import glanceclient.exc
from nova import exception as nova_exception
from nova.image import glance
from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)

_VERSION = 2
_PAGE = 100
#: By how much the clocks of two hosts are taken to differ at most. An image is
#: known by its volume snapshots; this shortens the list of those to look at.
_CLOCK_SKEW = datetime.timedelta(days=1)

Image: typing.TypeAlias = abc.Mapping[str, typing.Any]


def find(context: seams.RequestContext, since: datetime.datetime,
         snapshot_ids: abc.Collection[str]) -> Image | None:
    """Find the image that stands for exactly these volume snapshots.

    Its owner may have copied it since, so the oldest one is meant.

    :param context: of a request of the image's project
    :param since: when it was made at the earliest, on this host's clock
    :param snapshot_ids: all of them
    :returns: the image; None where there is none
    """
    wanted = sorted(snapshot_ids)
    made = (since - _CLOCK_SKEW).astimezone(datetime.UTC)
    filters = {'owner': context.project_id,
               'created_at': 'gte:%s' % made.strftime('%Y-%m-%dT%H:%M:%SZ')}
    for hidden in ({}, {'os_hidden': True}):
        # Glance leaves out what is hidden, unless it is asked for that alone.
        for image in _call(context, 'list', page_size=_PAGE,
                           sort_key='created_at', sort_dir='asc',
                           filters=filters | hidden):
            if sorted(snapshots_of(image)) == wanted:
                found: Image = image
                return found
    return None


def show(context: seams.RequestContext, image_id: str) -> Image:
    """Read an image as it is now.

    :param context: of a request that may see it
    :param image_id: the image
    """
    found: Image = _call(context, 'get', image_id)
    return found


def record_surely(context: seams.RequestContext, image_id: str,
                  properties: dict[str, str]) -> bool:
    """Write a record onto an image, unless it is there, and read it back.

    Glance saves an image that is being uploaded as it was when that began,
    so what is written meanwhile may be lost.

    :param context: of a request that may change the image
    :param image_id: an image that is active
    :param properties: the record
    :returns: whether the record is there, as read from the image
    """
    if _has(show(context, image_id), properties):
        return True
    _call(context, 'update', image_id, **properties)
    return _has(show(context, image_id), properties)


def _has(image: Image, properties: dict[str, str]) -> bool:
    return all(image.get(name) == value
               for name, value in properties.items())


def snapshots_of(image: Image) -> list[str]:
    """List the ids of the volume snapshots that an image stands for.

    :param image: any image
    """
    mapping = image.get('block_device_mapping')
    if isinstance(mapping, str):
        try:
            mapping = json.loads(mapping)
        except (ValueError, RecursionError):
            return []
    return snapshots_in(mapping)


def snapshots_in(mapping: object) -> list[str]:
    """List the ids of the volume snapshots among block devices.

    :param mapping: the block devices, as Nova keeps them on an image; there
        are none where it is anything else
    """
    if not isinstance(mapping, (list, tuple)):
        return []
    return [str(entry['snapshot_id']) for entry in mapping
            if isinstance(entry, dict) and entry.get('snapshot_id')]


def forget_record(context: seams.RequestContext, image_id: str) -> None:
    """Take a record off an image that is not to have one.

    nova-api lets an image inherit the record of the one that its instance was
    booted from.

    :param context: of a request that may change the image
    :param image_id: the image
    """
    image = show(context, image_id)
    inherited = [name for name in consistency.PROPERTIES if name in image]
    if inherited:
        _call(context, 'update', image_id, remove_props=inherited)


def put_away(context: seams.RequestContext, image_id: str) -> str:
    """Keep an active image from being booted by accident.

    It is deactivated: Nova does not boot it, and its owner can have it back.
    Where Glance's policy forbids that, it is hidden.

    :param context: of a request of the image's project, whose members may do
        this by default
    :param image_id: the image
    :returns: the way in which it was put away, as a participle
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
    """Tell whether an error says that an image is not there any more.

    :param error: of Nova or of Glance's client
    """
    return isinstance(error, (nova_exception.ImageNotFound,
                              glanceclient.exc.HTTPNotFound))


def _call(context: seams.RequestContext, method: str, *arguments: str,
          **keywords: object) -> typing.Any:
    return glance.GlanceClientWrapper().call(
        context, _VERSION, method, args=arguments, kwargs=keywords)
