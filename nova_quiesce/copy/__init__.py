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

"""The way from a disk that was cut to an image in Glance.

The guest runs again by then, so these modules may take their time, and a
failure of theirs strands nobody. They may import Nova,
:mod:`nova_quiesce.nova`, :mod:`nova_quiesce.exception`,
:mod:`nova_quiesce.cuts` and :mod:`nova_quiesce.freeze`.

* ``disk_export``: the backup job of a disk, from before its cut to its end
* ``workplace``: the directory of a job's socket and scratch file
* ``leftovers``: jobs and files that earlier snapshots left behind
* ``disk_copy``: the two ways from an exported disk to an image
* ``convert``: qemu-img, for an image that is a file first
* ``streamed`` and ``stream``: a program that makes an image as it is read
* ``monitor``: looks after guest, space and image meanwhile
"""
