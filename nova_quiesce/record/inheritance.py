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

"""The image's record that an instance carries, and its removal.

Nova copies an image's properties into each instance that is booted from it,
and from there into each snapshot of the instance. The parent's record would
pass for the snapshot's own. A host with stock Nova lets that happen, and
nova-api makes some images without asking any host. So the copy is dropped
wherever an instance is met that may have come from elsewhere.
"""

from nova import context as nova_context
from nova import objects
from nova import utils as nova_utils
from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)

#: Where Nova keeps the properties of a record in an instance.
_COPY = nova_utils.SM_IMAGE_PROP_PREFIX + consistency.PREFIX


def forget_parents_record(instance: seams.Instance) -> None:
    """Drop the record of its image from an instance. Never raises.

    :param instance: its system metadata is changed, and saved where something
        was dropped
    """
    try:
        if _drop(instance.system_metadata):
            instance.save()
    except Exception as error:
        # What is dropped is saved with the next change that Nova makes.
        LOG.error('The record of the image that the instance came from was '
                  'not dropped, and may be inherited by a snapshot that '
                  'nova-api makes alone: %s', error, instance=instance)


def forget_on_host(host: str) -> None:
    """Drop the records of their images from a host's instances. Never raises.

    :param host: the host's name in Nova
    """
    try:
        found = objects.InstanceList.get_by_host(
            nova_context.get_admin_context(), host,
            expected_attrs=['system_metadata'])
    except Exception as error:
        LOG.error('The instances of this host were not looked through for '
                  'records of the images that they came from: %s', error)
        return
    for instance in found:
        forget_parents_record(instance)


def _drop(system_metadata: dict[str, str]) -> bool:
    inherited = [key for key in system_metadata if key.startswith(_COPY)]
    for key in inherited:
        del system_metadata[key]
    return bool(inherited)
