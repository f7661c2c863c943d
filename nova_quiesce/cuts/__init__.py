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

"""The ways to cut a snapshot, one module each.

A cut fixes the snapshot's point in time. These modules know nothing of policy,
nor of what becomes of the cut disk. They may import Nova,
:mod:`nova_quiesce.nova`, :mod:`nova_quiesce.exception` and
:mod:`nova_quiesce.freeze`.

* ``back_ends``: the table of cuts by storage back end
* ``backup_job``: the beginning of a backup job, of any disk that QEMU opens
* ``rbd``: the snapshot of an RBD image, for Nova's direct snapshot
* ``mirror``: the end of Nova's mirror, where there can be no backup job
* ``suspension``: the time that a guest is suspended, where it has to be
* ``external_snapshot``: libvirt's snapshot of a volume, for Cinder
* ``cinder``: the snapshots that Cinder makes of volumes
* ``cutter``: the type of what freezes the guest around a cut of Nova's code
"""
