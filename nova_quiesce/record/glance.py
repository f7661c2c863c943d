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

"""Glance's images, where Nova's own API of them says too little."""

from nova.image import glance

from nova_quiesce import seams

_VERSION = 2


def deactivate(context: seams.RequestContext, image_id: str) -> None:
    """Keep an active image from being booted or downloaded.

    Its owner can show it, and whoever may reactivates it. Nothing of it is
    lost.

    :param context: the request's; Glance lets a member of the image's project
        do this by default
    :param image_id: the image
    """
    glance.GlanceClientWrapper().call(
        context, _VERSION, 'deactivate', args=(image_id,))


def hide(context: seams.RequestContext, image_id: str) -> None:
    """Leave an image out of the lists of those who do not ask for it.

    :param context: the request's
    :param image_id: the image
    """
    glance.GlanceClientWrapper().call(
        context, _VERSION, 'update', args=(image_id,),
        kwargs={'os_hidden': True})
