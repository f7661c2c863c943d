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

"""The events of domains: their order, and those that fail or hang."""

import threading
import time
import typing
import unittest
from unittest import mock

import libvirt
from nova.virt.libvirt import host as libvirt_host

from nova_quiesce.shutdown import domain_events

UUID = '11111111-2222-4333-8444-555555555555'
STARTED = libvirt.VIR_DOMAIN_EVENT_STARTED
STOPPED = libvirt.VIR_DOMAIN_EVENT_STOPPED


class DomainEventsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.handled: list[tuple[str, int, int]] = []
        self.events = domain_events.DomainEvents(
            lambda *event: self.handled.append(event))
        self.addCleanup(self.events.stop)

    def test_in_order(self) -> None:
        for number in range(10):
            self.events.receive(UUID, STOPPED, number)
        self.events.catch_up(lambda: self.handled.append(('then', 0, 0)))
        self.assertEqual(
            [(UUID, STOPPED, number) for number in range(10)] +
            [('then', 0, 0)], self.handled)
        self.events.catch_up()
        self.assertEqual(11, len(self.handled))

    def test_handled_without_being_asked_for(self) -> None:
        with mock.patch.object(domain_events, '_INTERVAL', 0.01):
            self.events.start()
            self.events.receive(UUID, STARTED, 1)
            end = time.monotonic() + 10
            while not self.handled and time.monotonic() < end:
                time.sleep(0.01)
        self.assertEqual([(UUID, STARTED, 1)], self.handled)

    def test_handled_at_the_end(self) -> None:
        self.events.start()
        self.events.receive(UUID, STARTED, 1)
        self.events.stop()
        self.assertEqual([(UUID, STARTED, 1)], self.handled)

    def test_started_twice(self) -> None:
        self.events.start()
        self.events.start()
        self.assertEqual(1, sum(
            thread.name == 'taking events of libvirt' and thread.is_alive()
            for thread in threading.enumerate()))

    def test_one_that_cannot_be_handled(self) -> None:
        handle = mock.Mock(side_effect=[RuntimeError('planned'), None])
        events = domain_events.DomainEvents(handle)
        events.receive(UUID, STARTED, 1)
        events.receive(UUID, STOPPED, 2)
        events.catch_up()
        handle.assert_called_with(UUID, STOPPED, 2)

    def test_one_that_hangs(self) -> None:
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def hang(*event: object) -> None:
            go_on.wait(10)

        events = domain_events.DomainEvents(hang)
        events.receive(UUID, STARTED, 1)
        hung = threading.Thread(target=events.catch_up)
        hung.start()
        self.addCleanup(hung.join)
        then = mock.Mock()
        with mock.patch.object(domain_events, '_PATIENCE', 0.05):
            while events._received:
                time.sleep(0.01)
            self.assertFalse(events.catch_up(then))
        then.assert_not_called()
        go_on.set()


class ListenTest(unittest.TestCase):
    """The method of Nova's own class that is wrapped."""

    def setUp(self) -> None:
        super().setUp()
        self.host = libvirt_host.Host('test:///default')
        self.handled: list[tuple[str, int, int]] = []
        self.events = domain_events.DomainEvents(
            lambda *event: self.handled.append(event))
        self.novas = self.enterContext(mock.patch.object(
            libvirt_host.Host, '_event_lifecycle_callback', autospec=True))
        self.events.listen(self.host)

    def _connect(self) -> typing.Any:
        connection = mock.Mock()
        with mock.patch.object(libvirt_host.Host, '_connect', autospec=True,
                               return_value=connection):
            self.host.get_connection()
        return connection

    def test_each_connection(self) -> None:
        domain = mock.Mock()
        domain.UUIDString.return_value = UUID
        for number in range(2):
            self.host._wrapped_conn = None
            connection = self._connect()
            _, event, callback, opaque = (
                connection.domainEventRegisterAny.call_args_list[0].args)
            self.assertEqual(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, event)
            callback(connection, domain, STOPPED, number, opaque)
            self.novas.assert_called_with(
                connection, domain, STOPPED, number, self.host)
        self.events.catch_up()
        self.assertEqual([(UUID, STOPPED, 0), (UUID, STOPPED, 1)],
                         self.handled)
