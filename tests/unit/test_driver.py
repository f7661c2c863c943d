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

"""The driver's face towards Nova."""

import sys
import unittest

from nova import exception as nova_exception
from nova import rpc
from nova import test
from nova.virt import driver as virt_driver
from oslo_messaging._drivers import common

from nova_quiesce import driver
from nova_quiesce.freeze import errors
from nova_quiesce.nova import api_errors


class RefusalTest(unittest.TestCase):

    def test_crosses_the_rpc(self) -> None:
        try:
            raise api_errors.refusal(errors.AgentNotConnected())
        except Exception:
            sent = common.serialize_remote_exception(sys.exc_info())
        received = common.deserialize_remote_exception(
            sent, rpc.get_allowed_exmods())
        # nova-api would go on after the one, and answers the other.
        self.assertNotIsInstance(received, nova_exception.NovaException)
        self.assertIsInstance(received, nova_exception.ConvertedException)
        self.assertEqual(409, received.code)
        self.assertIn('install and start', received.explanation)


class PublicTest(unittest.TestCase):

    def test_nothing_but_novas_own(self) -> None:
        """Nova's own test of its drivers, with its own assertion."""
        test.TestCase.assertPublicAPISignatures(
            self, virt_driver.ComputeDriver, driver.QuiesceLibvirtDriver)
