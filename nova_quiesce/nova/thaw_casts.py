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

"""Sees the thaws that nova-api casts to nova-compute, as they arrive.

The list of a request's volume snapshots travels with the thaw that nova-api
casts for it, to Nova's manager, which does not hand it to the driver.
"""

from collections import abc
import functools
import types
import typing

from oslo_log import log as logging

from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)

Saw = abc.Callable[[seams.RequestContext, seams.Instance, object], None]


def observe_thaws(virtapi: object, saw: Saw) -> None:
    """Have each thaw that is asked for seen before Nova's manager acts.

    :param virtapi: what Nova's manager gave the driver
    :param saw: called with the cast's context, its instance, and the list of
        block devices, or None
    """
    manager: typing.Any = getattr(virtapi, '_compute', None)
    unquiesce = getattr(manager, 'unquiesce_instance', None)
    if unquiesce is None:
        LOG.error('The thaws that nova-api asks for are not seen: '
                  'volume-backed snapshots of this host get no record')
        return

    @functools.wraps(unquiesce)
    def unquiesce_instance(_manager: object, context: seams.RequestContext,
                           instance: seams.Instance,
                           mapping: object = None) -> object:
        try:
            saw(context, instance, mapping)
        except Exception:
            # Whatever it is, it must not keep a guest frozen.
            LOG.exception('The thaw of an instance was not looked at')
        return unquiesce(context, instance, mapping=mapping)

    # A method, because Nova waits for those that are under way as it stops.
    manager.unquiesce_instance = types.MethodType(unquiesce_instance, manager)
