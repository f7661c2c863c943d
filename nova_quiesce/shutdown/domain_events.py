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

"""The events of libvirt's domains, kept in order until they are handled.

libvirt delivers them in a thread of its own, which must not wait; they are
handled in another one, or in that of whoever needs to be up to date.
"""

import collections
from collections import abc
import threading
import typing

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: Seconds between two looks at what was received.
_INTERVAL = 1.0
#: Seconds to wait for an event whose handling hangs.
_PATIENCE = 3.0


class DomainEvents:
    """The events of all domains, handled one at a time in their order.

    :param handle: called with the UUID of a domain, an event, one of
        libvirt's ``VIR_DOMAIN_EVENT_*``, and its detail
    """

    def __init__(self, handle: abc.Callable[[str, int, int], None]) -> None:
        self._handle = handle
        # Appended to without a lock: libvirt's thread is not one of Nova's.
        self._received: collections.deque[tuple[str, int, int]] = (
            collections.deque())
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, host: typing.Any) -> None:
        """Receive each event that Nova receives, and before it does.

        Nova gives one method of its handle to each connection that it makes,
        and passes over most events; so that method is wrapped.

        :param host: Nova's handle of the hypervisor, not connected yet
        """
        novas = host._event_lifecycle_callback

        def both(connection: object, domain: typing.Any, event: int,
                 detail: int, opaque: object) -> None:
            self.receive(domain.UUIDString(), event, detail)
            novas(connection, domain, event, detail, opaque)

        host._event_lifecycle_callback = both

    def receive(self, uuid: str, event: int, detail: int) -> None:
        """Keep an event until it is handled.

        libvirt calls this in its own thread, which must not wait, nor log.

        :param uuid: the domain's
        :param event: one of libvirt's ``VIR_DOMAIN_EVENT_*``
        :param detail: the event's
        """
        self._received.append((uuid, event, detail))

    def start(self) -> None:
        """Begin to handle events, in a thread."""
        self.stop()
        self._stopped.clear()
        self._thread = threading.Thread(
            target=self._run, daemon=True, name='taking events of libvirt')
        self._thread.start()

    def stop(self) -> None:
        """Handle the events received until now, and no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def catch_up(self, then: abc.Callable[[], None] = lambda: None) -> bool:
        """Handle the events received until now, unless one of them hangs.

        :param then: called after them, before any other event is handled;
            not called where one hangs
        :returns: whether all were handled
        """
        if not self._lock.acquire(timeout=_PATIENCE):
            return False
        try:
            while self._received:
                self._handle_one(*self._received.popleft())
            then()
            return True
        finally:
            self._lock.release()

    def _run(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            self.catch_up()
        self.catch_up()

    def _handle_one(self, uuid: str, event: int, detail: int) -> None:
        try:
            self._handle(uuid, event, detail)
        except Exception as error:
            LOG.error('What libvirt told of instance %(uuid)s is lost: '
                      '%(error)s', {'uuid': uuid, 'error': error})
