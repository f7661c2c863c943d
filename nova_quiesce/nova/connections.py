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

"""Nova's connection to libvirt, and the lock that it is made under."""

import threading
import typing


def keep_from_waiting_for_itself(host: typing.Any) -> None:
    """Let a thread of Nova's take the lock of its connection twice.

    Nova holds it while it asks libvirt whether the connection is good. Where
    libvirtd has just ended, libvirt notices in that call, and tells Nova at
    once, in the same thread; with native threads, Nova then takes the lock
    again, and waits for itself. nova-compute 34 never answers after that: one
    restart of libvirtd in some dozens does it, seen on a busy host.

    :param host: Nova's handle of the hypervisor, not connected yet
    """
    host._wrapped_conn_lock = threading.RLock()
