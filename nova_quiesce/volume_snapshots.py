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
"""Cinder's volume snapshots, where Nova's own API of them says too little."""

from nova.volume import cinder

from nova_quiesce import seams


def states(context: seams.RequestContext, volume_id: str) -> dict[str, str]:
    """The snapshots of a volume.

    :param context: the request's, with whose authority Cinder is asked
    :param volume_id: the volume
    :returns: Cinder's state of each, by its id
    """
    found = cinder.cinderclient(context).volume_snapshots.list(
        detailed=False, search_opts={'volume_id': volume_id})
    return {one.id: one.status for one in found}


def label(context: seams.RequestContext, snapshot_id: str,
          metadata: dict[str, str]) -> None:
    """Add to the metadata of a snapshot.

    :param context: the request's
    :param snapshot_id: the snapshot
    :param metadata: what to add
    """
    cinder.cinderclient(context).volume_snapshots.set_metadata(
        snapshot_id, metadata)
