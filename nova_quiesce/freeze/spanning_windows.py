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

"""Freeze windows that span two calls: one freezes, and a later one thaws.

nova-api has Cinder snapshot the volumes in between. A window closes at its
deadline even if the second call never comes.
"""

from collections import abc
import contextlib
import logging

from nova_quiesce.freeze import errors
from nova_quiesce.freeze import machines
from nova_quiesce.freeze import proof
from nova_quiesce.freeze import windows

LOG = logging.getLogger(__name__)

_ABANDONED = ('the request gave up before the filesystems were frozen; they '
              'are thawed again')


class _Span:
    def __init__(self, owner: str, window: windows.Window,
                 is_over: machines.Event) -> None:
        self.owner = owner
        self.window = window
        self.abandoned: str | None = None
        self.is_open = False
        #: Set once the guest is thawed, as far as it lets itself be.
        self.is_over = is_over


class SpanningWindows:
    """The freeze windows of this service that span two calls.

    At most one per instance. A window has an owner, the request that opened
    it, and no other request can close it.

    :param machine: whose threads use it
    """

    def __init__(self, machine: machines.Machine) -> None:
        self._machine = machine
        self._lock = machine.lock()
        self._spans: dict[str, _Span] = {}
        self._is_stopped = False

    def open(self, instance_uuid: str, owner: str,
             window: windows.Window,
             on_close: windows.OnClose) -> None:
        """Freeze a guest and keep it frozen after this call.

        :param instance_uuid: whose guest
        :param owner: id of the request that asks for it
        :param window: the window to open
        :param on_close: called once the window is closed, by this request
            or at the deadline
        :raises WindowBusy: another request holds a window of this guest
        :raises QuiesceError: the guest was not frozen
        """
        span = self._reserve(
            instance_uuid, _Span(owner, window, self._machine.event()))

        def end(evidence: proof.Evidence) -> None:
            self._forget(instance_uuid, span)
            try:
                on_close(evidence)
            except Exception:
                # The guest is thawed; who thawed it has more to do.
                LOG.exception('What a freeze of instance %s proves was not '
                              'noted', instance_uuid)

        try:
            window.open(end)
        except BaseException:
            self._forget(instance_uuid, span)
            raise
        with self._lock:
            span.is_open = True
        if span.abandoned is not None:
            window.close(span.abandoned)
            raise errors.MaybeFrozen(span.abandoned)

    @contextlib.contextmanager
    def asking(self, instance_uuid: str) -> abc.Iterator[None]:
        """Explain a failed question to a guest that is to be frozen.

        A guest that is being frozen, or is frozen, for another request does
        not answer well, which says nothing of its agent.

        :param instance_uuid: whose guest
        :raises WindowBusy: another request holds a window of this guest
        """
        with self._lock:
            self._refuse_second(instance_uuid)
        try:
            yield
        except errors.NotFrozen:
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
            span = self._spans.get(instance_uuid)
            if span is None or span.owner != owner:
                return False
            if not span.is_open:
                # Still freezing: the one who does so thaws, too.
                span.abandoned = _ABANDONED
                return False
        was_open = not span.window.is_closing
        span.window.close()
        return was_open

    def holder(self, instance_uuid: str) -> str | None:
        """Return the request that has a guest frozen for the time being.

        :param instance_uuid: whose guest
        :returns: its id; None where the guest is thawed, or about to be
        """
        with self._lock:
            span = self._spans.get(instance_uuid)
            if span is None or not span.is_open or span.window.is_closing:
                return None
            return span.owner

    def lapse(self, instance_uuid: str, reason: str) -> None:
        """Thaw a guest before its request asks for it, and wait for that.

        A freeze that is under way is waited for, too: that takes no longer
        than its time limit and the thaw's.

        :param instance_uuid: whose guest
        :param reason: why, for the record
        """
        with self._lock:
            span = self._spans.get(instance_uuid)
        if span is not None:
            self._end(span, reason)
            span.is_over.wait()

    def close_all(self, reason: str) -> None:
        """Thaw all guests, because this service stops.

        No guest is frozen from then on.

        :param reason: why, for the record
        """
        with self._lock:
            self._is_stopped = True
            everything = list(self._spans.items())
        for instance_uuid, span in everything:
            try:
                self._end(span, reason)
            except Exception:
                # The others have to be thawed, too.
                LOG.exception('The freeze of instance %s was not ended well',
                              instance_uuid)

    def _end(self, span: _Span, reason: str) -> None:
        with self._lock:
            if not span.is_open:
                # Still freezing: the one who does so thaws, too.
                span.abandoned = reason
                return
        span.window.close(reason)

    def _reserve(self, instance_uuid: str, span: _Span) -> _Span:
        with self._lock:
            if self._is_stopped:
                raise errors.ServiceStops()
            self._refuse_second(instance_uuid)
            self._spans[instance_uuid] = span
            return span

    def _refuse_second(self, instance_uuid: str) -> None:
        holder = self._spans.get(instance_uuid)
        if holder is not None:
            raise errors.WindowBusy(holder.owner)

    def _forget(self, instance_uuid: str, span: _Span) -> None:
        with self._lock:
            if self._spans.get(instance_uuid) is span:
                del self._spans[instance_uuid]
        span.is_over.set()
