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

"""What libvirt tells of domains, as it happens."""

import collections
from collections import abc
import threading
import typing

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: Seconds between two looks at what was told.
_INTERVAL = 1.0
#: How long to wait for a look that hangs, in seconds.
_PATIENCE = 3.0


class Events:
    """The events of domains, in their order, taken one at a time.

    :param take: called with the UUID of a domain, an event, one of libvirt's
        ``VIR_DOMAIN_EVENT_*``, and its detail
    """

    def __init__(self, take: abc.Callable[[str, int, int], None]) -> None:
        self._take = take
        # Appended to without a lock: libvirt's thread is not one of Nova's.
        self._heard: collections.deque[tuple[str, int, int]] = (
            collections.deque())
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, host: typing.Any) -> None:
        """Hear what Nova hears, and more than it takes notice of.

        Nova gives its method to each connection that it makes.

        :param host: its handle of the hypervisor, not connected yet
        """
        novas = host._event_lifecycle_callback

        def both(connection: object, domain: typing.Any, event: int,
                 detail: int, opaque: object) -> None:
            self.hear(domain.UUIDString(), event, detail)
            novas(connection, domain, event, detail, opaque)

        host._event_lifecycle_callback = both

    def hear(self, uuid: str, event: int, detail: int) -> None:
        """Keep an event until it is taken.

        libvirt calls this in its own thread, which must not wait, nor log.
        """
        self._heard.append((uuid, event, detail))

    def start(self) -> None:
        """Begin to take what is heard."""
        self.stop()
        self._stopped.clear()
        self._thread = threading.Thread(
            target=self._run, daemon=True, name='taking events of libvirt')
        self._thread.start()

    def stop(self) -> None:
        """Take what was heard until now, and no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def work_off(self, then: abc.Callable[[], None] = lambda: None) -> bool:
        """Take now what was heard, unless that hangs.

        :param then: called if it does not, before anything else is taken
        :returns: whether all was taken
        """
        if not self._lock.acquire(timeout=_PATIENCE):
            return False
        try:
            while self._heard:
                self._take_one(*self._heard.popleft())
            then()
            return True
        finally:
            self._lock.release()

    def _run(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            self.work_off()
        self.work_off()

    def _take_one(self, uuid: str, event: int, detail: int) -> None:
        try:
            self._take(uuid, event, detail)
        except Exception as error:
            LOG.error('What libvirt told of instance %(uuid)s is lost: '
                      '%(error)s', {'uuid': uuid, 'error': error})
