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

"""The parts that Nova 2026.1's own fixtures lack in native threads.

That release has the mode, and ran no functional tests in it. The fixtures of
2026.2 are made for both.
"""

from collections import abc
import contextlib
import threading
import typing

import fixtures
from nova.tests import fixtures as nova_fixtures
from oslo_db.sqlalchemy import enginefacade

_NOTIFIER = 'nova.tests.fixtures.notifications.FakeVersionedNotifier.%s'
_MANAGER = 'oslo_db.sqlalchemy.enginefacade._TransactionContextManager.%s'


def are_lacking() -> bool:
    """Tell whether Nova's fixtures lack what native threads need."""
    is_native = threading.local.__module__ == '_thread'
    return is_native and not hasattr(nova_fixtures, 'DatabaseWriteLock')


class NativeThreadsFixture(fixtures.Fixture):
    """Lets Nova's in-process services run in native threads.

    :param test_id: of the test that uses it
    """

    def __init__(self, test_id: str) -> None:
        super().__init__()
        self._test_id = test_id

    def _setUp(self) -> None:
        # It looks for the test among the ancestors of a greenlet.
        self._replace(_NOTIFIER % '_get_sender_test_case_id',
                      lambda *args: self._test_id)
        self._serialize_transactions()

    def _replace(self, name: str, new: abc.Callable[..., object]) -> None:
        self.useFixture(fixtures.MonkeyPatch(name, new))

    def _serialize_transactions(self) -> None:
        # All threads have one connection to each database, which is in
        # memory. The lock is one for all databases: they are nested.
        scope = enginefacade._TransactionContextManager._transaction_scope
        lock = threading.RLock()

        @contextlib.contextmanager
        def alone(manager: object,
                  context: object) -> abc.Iterator[typing.Any]:
            with lock, scope(manager, context) as resource:
                yield resource

        self._replace(_MANAGER % '_transaction_scope', alone)
