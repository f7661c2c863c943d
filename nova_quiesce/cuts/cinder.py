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

"""The cut of a volume-backed snapshot: Cinder's snapshots of the volumes.

nova-api drives it: it calls ``quiesce``, has Cinder snapshot one volume after
the other, and casts ``unquiesce``. The freeze window therefore spans two
calls, and is held here in between. It ends at its deadline even if the
second call never comes.
"""

from collections import abc
import contextlib
import threading

from oslo_log import log as logging

from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce import window as freeze_window

LOG = logging.getLogger(__name__)

#: Called with what a window proves, once it is closed.
OnClose = abc.Callable[[consistency.Evidence], None]

_ABANDONED = ('the request gave up before the filesystems were frozen; they '
              'are thawed again')


class _Held:
    def __init__(self, owner: str, window: freeze_window.Window,
                 seconds: float, on_close: OnClose) -> None:
        self.owner = owner
        self.window = window
        self.seconds = seconds
        self.on_close = on_close
        self.abandoned: str | None = None
        self.timer: threading.Timer | None = None
        self.is_closing = False
        #: Set once the guest is thawed, as far as it lets itself be.
        self.is_over = threading.Event()


class HeldWindows:
    """The freeze windows of this service that span two calls.

    At most one per instance. A window has an owner, the request that opened
    it, and no other request can close it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._is_over = False

    def open(self, instance_uuid: str, owner: str,
             window: freeze_window.Window, seconds: float,
             on_close: OnClose) -> None:
        """Freeze a guest and keep it frozen after this call.

        :param instance_uuid: whose guest
        :param owner: id of the request that asks for it
        :param window: the window to open
        :param seconds: how long the guest may stay frozen; the window closes
            by itself then
        :param on_close: called once the window is closed, by this request
            or at the deadline
        :raises WindowBusy: another request holds a window of this guest
        :raises QuiesceError: the guest was not frozen
        """
        held = self._reserve(
            instance_uuid, _Held(owner, window, seconds, on_close))
        try:
            window.open()
        except BaseException:
            self._forget(instance_uuid, held)
            raise
        try:
            window.limit(seconds)
            self._arm(instance_uuid, held)
        except BaseException as error:
            self._finish(instance_uuid, held, str(error))
            raise

    @contextlib.contextmanager
    def asking(self, instance_uuid: str) -> abc.Iterator[None]:
        """For the length of a question to a guest that is to be frozen.

        A guest that is being frozen, or is frozen, for another request does
        not answer well, which says nothing of its agent.

        :param instance_uuid: whose guest
        :raises WindowBusy: another request holds a window of this guest
        """
        with self._lock:
            self._refuse_second(instance_uuid)
        try:
            yield
        except exception.NotFrozen:
            with self._lock:
                self._refuse_second(instance_uuid)
            raise

    def close(self, instance_uuid: str, owner: str) -> bool:
        """Thaw a guest that :meth:`open` froze.

        :param instance_uuid: whose guest
        :param owner: id of the request that opened the window
        :returns: whether this request held a window until now
        """
        with self._lock:
            held = self._held.get(instance_uuid)
            if held is None or held.owner != owner:
                return False
            if held.timer is None:
                # Still freezing: the one who does so thaws, too.
                held.abandoned = _ABANDONED
                return False
        return self._finish(instance_uuid, held, None)

    def is_open(self, instance_uuid: str) -> bool:
        """Whether a guest is frozen now, and stays so for the time being.

        :param instance_uuid: whose guest
        """
        with self._lock:
            held = self._held.get(instance_uuid)
            return (held is not None and held.timer is not None and
                    not held.is_closing)

    def lapse(self, instance_uuid: str, reason: str) -> None:
        """Thaw a guest before its request asks for it, and wait for that.

        A freeze that is under way is waited for, too: that takes no longer
        than its time limit and the thaw's.

        :param instance_uuid: whose guest
        :param reason: why, for the record
        """
        with self._lock:
            held = self._held.get(instance_uuid)
        if held is not None:
            self._end(instance_uuid, held, reason)
            held.is_over.wait()

    def close_all(self, reason: str) -> None:
        """Thaw all guests, because this service stops.

        No guest is frozen from then on.

        :param reason: why, for the record
        """
        with self._lock:
            self._is_over = True
            everything = list(self._held.items())
        for instance_uuid, held in everything:
            try:
                self._end(instance_uuid, held, reason)
            except Exception:
                # The others have to be thawed, too.
                LOG.exception('The freeze of instance %s was not ended well',
                              instance_uuid)

    def _end(self, instance_uuid: str, held: _Held, reason: str) -> None:
        with self._lock:
            if held.timer is None:
                # Still freezing: the one who does so thaws, too.
                held.abandoned = reason
                return
        self._finish(instance_uuid, held, reason)

    def _arm(self, instance_uuid: str, held: _Held) -> None:
        timer = threading.Timer(
            held.seconds, self._expire, (instance_uuid, held))
        timer.daemon = True
        with self._lock:
            if held.abandoned is not None:
                raise exception.MaybeFrozen(held.abandoned)
            held.timer = timer
            timer.start()

    def _reserve(self, instance_uuid: str, held: _Held) -> _Held:
        with self._lock:
            if self._is_over:
                raise exception.ServiceStops()
            self._refuse_second(instance_uuid)
            self._held[instance_uuid] = held
            return held

    def _refuse_second(self, instance_uuid: str) -> None:
        holder = self._held.get(instance_uuid)
        if holder is not None:
            raise exception.WindowBusy(holder.owner)

    def _forget(self, instance_uuid: str, held: _Held) -> None:
        with self._lock:
            del self._held[instance_uuid]
        held.is_over.set()

    def _expire(self, instance_uuid: str, held: _Held) -> None:
        lapsed = self._finish(
            instance_uuid, held,
            'the guest was thawed at its deadline of %g s, before the volume '
            'snapshots were complete' % held.seconds)
        if lapsed:
            LOG.error('The guest of instance %(uuid)s was frozen for '
                      '%(limit)g s and is thawed at this deadline: nova-api, '
                      'Cinder or the message broker did not finish request '
                      '%(owner)s',
                      {'uuid': instance_uuid, 'limit': held.seconds,
                       'owner': held.owner})

    def _finish(self, instance_uuid: str, held: _Held,
                lapse: str | None) -> bool:
        with self._lock:
            if held.is_closing:
                return False
            held.is_closing = True
        if held.timer is not None:
            held.timer.cancel()
        try:
            evidence = held.window.close(lapse)
        finally:
            # Until here, nobody else can freeze what is being thawed.
            self._forget(instance_uuid, held)
        try:
            held.on_close(evidence)
        except Exception:
            # The guest is thawed; who thawed it has more to do.
            LOG.exception('What a freeze of instance %s proves was not noted',
                          instance_uuid)
        return True
