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

"""Nova's connection to libvirt outlives libvirtd's end."""

import threading
import unittest
from unittest import mock

import libvirt
from nova.virt.libvirt import host as libvirt_host

from nova_quiesce import fixture
from nova_quiesce.nova import connections


class ConnectionsTest(unittest.TestCase):

    def test_end_that_is_noticed_as_the_connection_is_tested(self) -> None:
        host = libvirt_host.Host(
            'test:///default', conn_event_handler=mock.Mock())
        connections.keep_from_waiting_for_itself(host)
        dead, good = mock.Mock(), mock.Mock()

        def notice() -> None:
            # libvirt tells of it in the thread whose call finds out.
            host._close_callback(dead, 'it ended', None)
            error = fixture.libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR, 'client socket is closed')
            error.err = (error.err[0], libvirt.VIR_FROM_RPC, *error.err[2:])
            raise error

        dead.getLibVersion = notice
        host._wrapped_conn = dead
        found: list[object] = []
        with mock.patch.object(host, '_get_new_connection', autospec=True,
                               return_value=good):
            thread = threading.Thread(
                target=lambda: found.append(host._get_connection()),
                daemon=True)
            thread.start()
            thread.join(10)
        self.assertEqual([good], found)
