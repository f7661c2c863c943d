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

"""The record of a snapshot: onto its image, and to its owner.

What is written to images, volume snapshots and action events belongs in here,
and what sees to it that it is written although nova-compute ends. It touches
what belongs to a tenant, so it adds to that, and never deletes it. What the
record says is decided in :mod:`nova_quiesce.consistency`.

Imports ``consistency``, ``exception``, :mod:`nova_quiesce.freeze` and
:mod:`nova_quiesce.nova`, and nothing that takes a snapshot.

Image-backed snapshots, whose image nova-compute uploads:

``image_api``
    Nova's image API with the record added: the last gate before an image.

Volume-backed snapshots, whose image nova-api makes later:

``open_requests``
    The requests whose duty has not ended.
``duty_worker``
    The worker of one request's duty: it tries until the duty is fulfilled.
``record_duty``
    The duty of one request, as it is kept on the disk, and its verdict.
``recorder``
    Fulfils a duty: finds the image, records on it, or puts it away.

Both:

``glance``, ``volume_snapshots``, ``action_events``
    The services that are written to: Glance, Cinder, and Nova.
``inheritance``
    Takes the record of its image off an instance.
"""
