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

"""Cinder's volume snapshots: their state, and the record in their metadata."""

from cinderclient import exceptions as cinder_exception
from nova import exception as nova_exception
from nova.volume import cinder

from nova_quiesce.nova import seams

#: The states of one that is being made, and of one that failed.
CREATING, ERROR = 'creating', 'error'
#: The state of one that is not there any more.
GONE = 'gone'
#: Cinder takes no longer values, in characters.
_LONGEST = 255


def state(api: seams.VolumeAPI, context: seams.RequestContext,
          snapshot_id: str) -> str:
    """Ask Cinder for the state of a volume snapshot.

    :param api: Nova's volume API
    :param context: of a request of its project
    :param snapshot_id: the volume snapshot
    :returns: Cinder's name of the state, or :data:`GONE`
    """
    try:
        return str(api.get_snapshot(context, snapshot_id)['status'])
    except nova_exception.SnapshotNotFound:
        return GONE


def record(context: seams.RequestContext, snapshot_id: str,
           properties: dict[str, str]) -> None:
    """Add a record to a volume snapshot's metadata, if it is still there.

    :param context: of a request of its project
    :param snapshot_id: the volume snapshot
    :param properties: the record
    """
    try:
        cinder.cinderclient(context).volume_snapshots.set_metadata(
            snapshot_id, {name: value[:_LONGEST]
                          for name, value in properties.items()})
    except cinder_exception.NotFound:
        # Its owner has deleted it.
        return
