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

"""A user's images and the records on them, in any cloud."""

from collections.abc import Mapping
import pathlib
from typing import Any

from quiescelab import api
from quiescelab import errors
from quiescelab import oracle
from quiescelab import volumes
from quiescelab import waiting

IMAGE_PATCH = 'application/openstack-images-v2.1-json-patch'
#: What the properties of an image start with that are its record.
PREFIX = 'quiesce_'


class ImageOwner(volumes.Owner):
    """A user who has images."""

    def image_named(self, name: str) -> api.Json:
        """Return the first image of a name.

        :raises LabError: there is none
        """
        found = self.images_named(name)
        if not found:
            raise errors.LabError(f'there is no image {name}')
        return found[0]

    def images_named(self, name: str) -> list[api.Json]:
        """Return the images of a name."""
        answer = self.api.get('glance', f'/v2/images?name={name}')
        found: list[api.Json] = answer['images']
        return found

    def find_image(self, image_id: str) -> api.Json | None:
        """Return an image as it is now, if it is there."""
        answer = self.api.get('glance', '/v2/images?limit=1000')
        return next((image for image in answer['images']
                     if image['id'] == image_id), None)

    def image(self, image_id: str) -> api.Json:
        """Return an image as it is now."""
        found: api.Json = self.api.get('glance', f'/v2/images/{image_id}')
        return found

    def change_image(self, image_id: str, operation: str, name: str,
                     value: str | None = None) -> None:
        """Change one property of an image.

        :param operation: of a JSON patch: ``add`` or ``remove``
        """
        change = {'op': operation, 'path': f'/{name}',
                  **({} if value is None else {'value': value})}
        self.api.call('PATCH', 'glance', f'/v2/images/{image_id}', [change],
                      IMAGE_PATCH)

    def delete_image(self, image_id: str) -> None:
        """Delete an image alone; Nova may withdraw it at the same moment."""
        try:
            self.api.call('DELETE', 'glance', f'/v2/images/{image_id}')
        except errors.LabError:
            if self.find_image(image_id):
                raise

    def remove_image(self, image: api.Json) -> None:
        """Delete an image, with the volume snapshots that it stands for."""
        for snapshot_id in volumes.of_image(image):
            self.complete(snapshot_id)
        self.delete_image(image['id'])
        for snapshot_id in volumes.of_image(image):
            self.remove_volume_snapshot(snapshot_id)

    def record(self, image_id: str) -> dict[str, str]:
        """Wait for the record of an image.

        On a volume-backed snapshot it is written a moment after the image.

        :returns: it, without the properties' prefix
        """
        waiting.wait(lambda: bool(record_of(self.image(image_id))),
                     self.snapshot_seconds, f'a record on image {image_id}')
        return record_of(self.image(image_id))

    def fetch(self, image_id: str, target: pathlib.Path) -> None:
        """Write the root disk that an image has to a file."""
        self.api.download(f'/v2/images/{image_id}/file', target)

    def needs_recovery(self, image_id: str, scratch: pathlib.Path) -> bool:
        """Tell whether the root filesystem of an image was cut while in use.

        :param scratch: a directory for a copy of the image
        """
        return oracle.copy_needs_recovery(
            scratch / f'{image_id}.img',
            lambda copy: self.fetch(image_id, copy))


def record_of(image: Mapping[str, Any]) -> dict[str, str]:
    """Return the record on an image, without the properties' prefix."""
    return {key.removeprefix(PREFIX): value for key, value in image.items()
            if key.startswith(PREFIX)}
