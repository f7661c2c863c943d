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

"""The search for one guest's domain, over a connection of its own.

An agent may take its time, and in libvirt 9.0's client, a call sometimes
waits for another one of the same connection to return.
"""

from collections import abc

import libvirt

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors


#: Opens a connection to the hypervisor.
Connect = abc.Callable[[], domains.Connection]


class Finder:
    """Finds the domain of one instance, as often as it is asked.

    :param connect: opens a connection; it is kept as long as it is good
    :param instance_uuid: whose domain
    """

    def __init__(self, connect: Connect, instance_uuid: str) -> None:
        self._connect = connect
        self._instance_uuid = instance_uuid
        self._connection: domains.Connection | None = None

    def __call__(self) -> domains.Domain:
        """Find the domain.

        :raises GuestGone: there is none
        :raises HypervisorUnreachable: that cannot be told
        """
        try:
            return self._connected().lookupByUUIDString(self._instance_uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise errors.GuestGone() from error
            self.close()
            raise errors.HypervisorUnreachable() from error

    def is_connected(self) -> bool:
        """Tell whether it has a connection that is good."""
        try:
            return self._connection is not None and bool(
                self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    def close(self) -> None:
        """Let go of the connection. Never raises."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except libvirt.libvirtError:
            # It was not good any more.
            return

    def _connected(self) -> domains.Connection:
        if not self.is_connected():
            self.close()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection
