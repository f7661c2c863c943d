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

"""Faults, brought about while snapshots are made, and what came of them.

``tools/lab soak`` makes many snapshots of several servers at once, and has
things fail at random meanwhile. ``tools/lab faults`` has each thing fail at
each moment of a snapshot. Both judge alike, and know nothing of the driver's
code: they ask Nova, Glance and Cinder, the guests, libvirt and the disk.
"""
