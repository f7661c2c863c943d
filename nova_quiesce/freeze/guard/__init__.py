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

"""The thaw guard: the process that thaws what nova-compute cannot any more.

It is told of each lease before the freeze is sent, and thaws the guest

* when the lease's deadline passes,
* when nova-compute dies: its end of the connection closes,
* when the guard itself is told to stop (SIGTERM, SIGINT, SIGHUP): it thaws
  all guests first.

It goes on until the guest confirms the thaw, was restarted, or is gone.

nova-compute starts it as its child, with one end of a socket pair. As a
service of its own it listens on a unix socket instead, and so outlives what
kills all processes of nova-compute's unit at once::

    python3 -m nova_quiesce.freeze.guard --socket /run/nova/quiesce-guard.sock

It needs the standard library and libvirt's Python module, nothing of Nova.
"""
