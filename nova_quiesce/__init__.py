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

"""Filesystem-consistent snapshots for Nova's libvirt driver.

From the top floor down; nothing imports what stands above it.

* ``cmd``: the operator's command
* ``driver``: every override of Nova's driver
* ``image_backed``, ``volume_backed``, ``assisted``: the three paths of a
  snapshot; ``operations``: what else would meet a frozen guest
* ``compute_host``: all that the paths have in common
* ``snapshots``: one snapshot, from its policy to its record
* ``copy``: from a cut disk to Glance; ``record``: where the verdict goes;
  ``shutdown``: the proof that a guest shut itself down; ``foreign_jobs``,
  ``instances``, ``conf``, ``conf_checks``, ``properties``
* ``cuts``: the ways to cut; ``policy``, ``consistency``: what is asked for,
  and what is proven
* ``nova``: the contact with Nova; ``exception``
* ``freeze``: what keeps a guest from being stranded
* ``fixture``: a fake guest, for tests, also those of others

Importing this package costs next to nothing, and has to stay so: a ``.pth``
file imports :mod:`nova_quiesce.nova.alias` in each Python process of the
machine.
"""
