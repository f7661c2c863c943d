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

"""The thaw guard: a process that thaws guests if nova-compute cannot.

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

This package holds the guard's program, and nova-compute's end of it. It may
import the standard library, libvirt's Python module and the rest of
:mod:`nova_quiesce.freeze`, and nothing of Nova.

nova-compute's end
    ``guard_client`` starts the guard and tells it of leases and jobs;
    ``deferred`` makes the calls that nobody waits for

the messages between both
    ``wire``

the guard's program
    ``process`` (and ``__main__``) listens, logs and ends; ``session`` serves
    one nova-compute; ``watcher`` watches over one thing of its, which
    ``lease_watcher`` thaws and ``job_watcher`` ends
"""
