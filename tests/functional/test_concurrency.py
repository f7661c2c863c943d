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

"""The concurrency mode that these tests are run in."""

import os
import threading

from nova import context
from oslo_db.sqlalchemy import enginefacade
from oslo_utils import strutils
import testtools


class ConcurrencyTest(testtools.TestCase):

    def test_mode_is_what_was_asked_for(self) -> None:
        is_native = strutils.bool_from_string(
            os.environ.get('OS_NOVA_DISABLE_EVENTLET_PATCHING'))
        self.assertEqual(is_native, threading.local.__module__ == '_thread')

    def test_threads_have_transactions_of_their_own(self) -> None:
        """Nova's database was imported after the mode was chosen.

        Two operations, a migration's two threads for one, would otherwise be
        in the same transaction.
        """
        manager = enginefacade.transaction_context()
        manager.configure(connection='sqlite://')
        shared = context.get_admin_context()
        written: list[bool] = []

        def write() -> None:
            with manager.writer.using(shared):
                written.append(True)

        with manager.reader.using(shared):
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        self.assertEqual([True], written)
