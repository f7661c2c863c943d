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


import threading
import time
import typing
import unittest
from unittest import mock

import libvirt
from nova.virt.libvirt import host as libvirt_host

from nova_quiesce.shutdown import events

UUID = '11111111-2222-4333-8444-555555555555'
STARTED = libvirt.VIR_DOMAIN_EVENT_STARTED
STOPPED = libvirt.VIR_DOMAIN_EVENT_STOPPED


class EventsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.taken: list[tuple[str, int, int]] = []
        self.heard = events.Events(
            lambda *event: self.taken.append(event))
        self.addCleanup(self.heard.stop)

    def test_in_order(self) -> None:
        for number in range(10):
            self.heard.hear(UUID, STOPPED, number)
        self.heard.work_off(lambda: self.taken.append(('then', 0, 0)))
        self.assertEqual(
            [(UUID, STOPPED, number) for number in range(10)] +
            [('then', 0, 0)], self.taken)
        self.heard.work_off()
        self.assertEqual(11, len(self.taken))

    def test_taken_without_being_asked_for(self) -> None:
        with mock.patch.object(events, '_INTERVAL', 0.01):
            self.heard.start()
            self.heard.hear(UUID, STARTED, 1)
            end = time.monotonic() + 10
            while not self.taken and time.monotonic() < end:
                time.sleep(0.01)
        self.assertEqual([(UUID, STARTED, 1)], self.taken)

    def test_taken_at_the_end(self) -> None:
        self.heard.start()
        self.heard.hear(UUID, STARTED, 1)
        self.heard.stop()
        self.assertEqual([(UUID, STARTED, 1)], self.taken)

    def test_started_twice(self) -> None:
        self.heard.start()
        self.heard.start()
        self.assertEqual(1, sum(
            thread.name == 'taking events of libvirt' and thread.is_alive()
            for thread in threading.enumerate()))

    def test_one_that_cannot_be_taken(self) -> None:
        take = mock.Mock(side_effect=[RuntimeError('planned'), None])
        heard = events.Events(take)
        heard.hear(UUID, STARTED, 1)
        heard.hear(UUID, STOPPED, 2)
        heard.work_off()
        take.assert_called_with(UUID, STOPPED, 2)

    def test_one_that_hangs(self) -> None:
        go_on = threading.Event()
        self.addCleanup(go_on.set)

        def hang(*event: object) -> None:
            go_on.wait(10)

        heard = events.Events(hang)
        heard.hear(UUID, STARTED, 1)
        hung = threading.Thread(target=heard.work_off)
        hung.start()
        self.addCleanup(hung.join)
        then = mock.Mock()
        with mock.patch.object(events, '_PATIENCE', 0.05):
            while heard._heard:
                time.sleep(0.01)
            self.assertFalse(heard.work_off(then))
        then.assert_not_called()
        go_on.set()


class ListenTest(unittest.TestCase):
    """The seam, on Nova's own class."""

    def setUp(self) -> None:
        super().setUp()
        self.host = libvirt_host.Host('test:///default')
        self.taken: list[tuple[str, int, int]] = []
        self.heard = events.Events(
            lambda *event: self.taken.append(event))
        self.novas = self.enterContext(mock.patch.object(
            libvirt_host.Host, '_event_lifecycle_callback', autospec=True))
        self.heard.listen(self.host)

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
        self.heard.work_off()
        self.assertEqual([(UUID, STOPPED, 0), (UUID, STOPPED, 1)], self.taken)
