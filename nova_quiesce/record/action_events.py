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

"""The events of a server's actions: written for its owner, and read.

Neither needs the request's token, so both are possible after the request.
"""

import traceback
import typing

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

FAILED = 'quiesce_failed'
PENDING = 'quiesce_pending'

#: nova-api's own event around the snapshots of an instance's volumes.
_SNAPSHOTS = 'api_snapshot_instance'
_ERROR = 'Error'
#: Nova's database has no longer names of events, in characters.
LONGEST_NAME = 255


def tell(request_id: str, instance_uuid: str, host: str, kind: str,
         error: Exception) -> None:
    """Add an event that says why a snapshot is not what was asked for.

    The details of an event are for administrators, its name is not: so the
    name says it.

    :param request_id: of the request whose action the event becomes part of
    :param instance_uuid: the instance whose snapshot it was
    :param host: the name of this compute host
    :param kind: :data:`FAILED` or :data:`PENDING`
    :param error: the reason, in words for the tenant
    """
    context = _context(request_id)
    name = ('%s: %s' % (kind, error))[:LONGEST_NAME]
    events = objects.InstanceActionEvent
    try:
        events.event_start(context, instance_uuid, name, want_result=False,
                           host=host)
        events.event_finish_with_failure(
            context, instance_uuid, name, exc_val=error,
            # Nova takes an event without one for a success.
            exc_tb=''.join(traceback.format_exception(error)),
            want_result=False)
    except nova_exception.InstanceActionNotFound:
        LOG.debug('Instance %s has no action to report a snapshot under',
                  instance_uuid)


def tell_once(request_id: str, instance_uuid: str, host: str, kind: str,
              error: Exception) -> None:
    """Do as :func:`tell` does, unless an event of that kind is there."""
    if not any(event.event.startswith(kind)
               for event in _of(request_id, instance_uuid)):
        tell(request_id, instance_uuid, host, kind, error)


def has_failed(request_id: str, instance_uuid: str) -> bool:
    """Tell whether nova-api failed to make a request's volume snapshots.

    It makes no image then. An instance that is gone has no events, which
    proves nothing.

    :param request_id: the request's
    :param instance_uuid: the instance whose volumes they are of
    """
    return any(event.event == _SNAPSHOTS and event.result == _ERROR
               for event in _of(request_id, instance_uuid))


def _of(request_id: str, instance_uuid: str) -> list[typing.Any]:
    context = _context(request_id)
    action = objects.InstanceAction.get_by_request_id(
        context, instance_uuid, request_id)
    if action is None:
        return []
    return list(objects.InstanceActionEventList.get_by_action(
        context, action.id))


def _context(request_id: str) -> nova_context.RequestContext:
    context = nova_context.get_admin_context()
    # Events are found by it.
    context.request_id = request_id
    return context
