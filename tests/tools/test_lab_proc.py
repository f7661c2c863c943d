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

"""What the kernel tells the lab of processes."""

import os
import pathlib
import socket
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import proc


class ServingTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.enterContext(socket.create_server(
            ('127.0.0.1', 0)))
        self.port = self.listener.getsockname()[1]

    def test_who_has_accepted_a_connection(self) -> None:
        self.enterContext(socket.create_connection(
            ('127.0.0.1', self.port)))
        self.assertEqual([], proc.serving(self.port))
        self.enterContext(self.listener.accept()[0])
        self.assertEqual([proc.Process.of(os.getpid())],
                         proc.serving(self.port))
