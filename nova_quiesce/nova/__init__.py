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

"""The contact with Nova, which promises nothing to drivers out of its tree.

Everything here is about Nova itself; a snapshot's own steps are none of it.
It may import Nova, :mod:`nova_quiesce.exception` and the errors of
:mod:`nova_quiesce.freeze`.

* ``seams``: what is overridden, called and read of Nova
* ``releases``: the supported releases, and the check that a Nova fits
* ``alias`` and ``compute_driver``: how Nova finds the driver by its name
* ``api_errors``: this package's errors, as nova-api understands them
* ``thaw_casts``: the thaws that nova-api asks for, seen as they arrive
* ``connections``: Nova's connection to libvirt, and its lock
* ``signatures``: the signatures of overrides, which are Nova's
* ``wrapper``: the base of what stands in for an object of Nova's
"""
