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

"""Facts about an instance, from Nova or libvirt, whichever knows first."""

import json
import typing

from nova.compute import power_state
from nova.compute import vm_states
from nova import exception as nova_exception
from nova import objects
from nova import utils as nova_utils
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging
from oslo_utils import strutils

from nova_quiesce.freeze import agent_channel
from nova_quiesce.nova import seams
from nova_quiesce import policy

LOG = logging.getLogger(__name__)

_POWER = {
    power_state.RUNNING: policy.Power.RUNNING,
    power_state.PAUSED: policy.Power.PAUSED,
    power_state.SUSPENDED: policy.Power.SUSPENDED,
    power_state.SHUTDOWN: policy.Power.SHUT_OFF,
}


def nova_requires(instance: seams.Instance) -> bool:
    """Tell whether nova-api lets its request fail where a freeze failed.

    It does so for a clear yes alone; for :mod:`nova_quiesce.policy`, anything
    but a clear no requires quiesce.

    :param instance: the instance
    """
    return bool(strutils.bool_from_string(
        image_properties(instance).get(policy.REQUIRE_PROPERTY)))


def image_properties(instance: seams.Instance) -> dict[str, object]:
    """Read the image properties that an instance was booted with.

    :param instance: the instance
    :returns: the properties, with values as the image had them
    """
    # The values as the image has them: Nova's typed ImageMeta has already
    # turned what it did not understand into "no".
    image = nova_utils.get_image_from_system_metadata(
        instance.system_metadata)
    properties: dict[str, object] = image['properties']
    return properties


def state_of(host: typing.Any, instance: seams.Instance,
             is_guarded: bool) -> policy.State:
    """Find out the state that an instance is in now.

    :param host: Nova's handle of the hypervisor
    :param instance: the instance
    :param is_guarded: whether this host's thaw guard is at work
    :returns: its state; the power state is unknown where libvirt does not
        tell
    """
    # Nova's database may be minutes behind.
    try:
        guest = host.get_guest(instance)
        power = _POWER.get(guest.get_power_state(host),
                           policy.Power.UNKNOWN)
        has_channel = agent_channel.has_agent_channel(guest.get_xml_desc())
    except (nova_exception.NovaException,
            libvirt_driver.libvirt.libvirtError) as error:
        LOG.debug('The state of the guest is not known: %s', error,
                  instance=instance)
        return policy.State(
            policy.Power.UNKNOWN, guarded=is_guarded)
    if instance.vm_state == vm_states.SUSPENDED:
        # libvirt knows nothing of what is kept in a file.
        power = policy.Power.SUSPENDED
    return policy.State(power, has_channel, is_guarded)


def root_volume_id(context: seams.RequestContext,
                   instance: seams.Instance) -> str | None:
    """Find the volume that an instance boots from.

    :param context: the request's
    :param instance: the instance
    :returns: its id; None where the instance does not boot from a volume
    """
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    root = bdms.root_bdm()
    return root.volume_id if root is not None and root.is_volume else None


def volume_ids(context: seams.RequestContext,
               instance: seams.Instance) -> set[str]:
    """Find the ids of all volumes of an instance.

    :param context: the request's
    :param instance: the instance
    """
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid)
    return {bdm.volume_id for bdm in bdms if bdm.is_volume}


def set_volume_file(context: seams.RequestContext, instance: seams.Instance,
                    volume_id: str, name: str) -> None:
    """Have Nova start an instance from the new file of one of its volumes.

    Nova learns of a new file from Cinder, and asks each half second. Started
    in between, an instance would write to the file that the volume's snapshot
    is made of, and lose its disk as soon as that snapshot is deleted. Never
    raises.

    :param context: the request's
    :param instance: the instance that the volume is attached to
    :param volume_id: the volume
    :param name: the name of its new file, a qcow2 beside the one before
    """
    try:
        bdm = objects.BlockDeviceMapping.get_by_volume_and_instance(
            context, volume_id, instance.uuid)
        connection = json.loads(bdm.connection_info)
        if 'name' in connection['data']:
            connection['data'].update(name=name, format='qcow2')
            bdm.connection_info = json.dumps(connection)
            bdm.save()
    except Exception as error:
        LOG.warning('Nova does not know yet that volume %(volume)s is in file '
                    '%(name)s: %(error)s',
                    {'volume': volume_id, 'name': name, 'error': error},
                    instance=instance)


def remark_on_volumes(context: seams.RequestContext,
                      instance: seams.Instance) -> str:
    """Remark that an image does not hold the instance's attached volumes.

    :param context: the request's
    :param instance: an image-backed instance
    :returns: the end of a sentence; empty where no volume is attached, or
        that is not known
    """
    try:
        count = len(volume_ids(context, instance))
    except Exception as error:
        LOG.warning('The volumes of the instance were not looked up: %s',
                    error, instance=instance)
        return ''
    return ('; the image holds the root disk alone, without %d attached '
            'volume%s' % (count, '' if count == 1 else 's')) if count else ''
