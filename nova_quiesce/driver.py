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

"""The driver: Nova's libvirt driver with the seams handed over.

Each override is a few lines; what is done stands in the modules it hands
over to.
"""

from nova import utils as nova_utils
from nova.virt.libvirt import driver as libvirt_driver

from nova_quiesce import assisted
from nova_quiesce import consistency
from nova_quiesce import image_backed
from nova_quiesce import neighbours
from nova_quiesce import seams
from nova_quiesce import volume_backed


class QuiesceMixin(image_backed.ImageBackedMixin,
                   volume_backed.VolumeBackedMixin,
                   assisted.AssistedMixin,
                   neighbours.ThawFirstMixin):
    """Verified freezes around the snapshots of a libvirt driver."""

    def spawn(self, context: seams.RequestContext, instance: seams.Instance,
              image_meta: object, *args: object, **kwargs: object) -> None:
        """Build an instance, without the record of the image it came from.

        Nova copies an image's properties into the instance, and from there
        into each snapshot of it: the parent's record would pass for the
        snapshot's own.
        """
        prefix = nova_utils.SM_IMAGE_PROP_PREFIX + consistency.PREFIX
        inherited = [key for key in instance.system_metadata
                     if key.startswith(prefix)]
        for key in inherited:
            del instance.system_metadata[key]
        if inherited:
            instance.save()
        super().spawn(context, instance, image_meta, *args, **kwargs)


class QuiesceLibvirtDriver(
        QuiesceMixin,
        libvirt_driver.LibvirtDriver):  # type: ignore[misc]  # untyped
    """The class that ``compute_driver`` names."""
