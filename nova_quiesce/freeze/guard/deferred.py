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

"""Deferred calls: a thread of their own makes them, in their order.

Whoever has a guest frozen does not wait for a guard that hangs.
"""

from collections import abc
import functools
import logging

from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)


class DeferredCalls:
    """The calls to the guard that nobody waits for.

    Safe to use from several threads at once.

    :param machine: whose threads are used
    """

    def __init__(self, machine: machines.Machine) -> None:
        self._machine = machine
        self._lock = machine.lock()
        self._calls: list[abc.Callable[[], object]] = []
        #: Set once there are calls. Each batch of calls has its own.
        self._is_waiting = machine.event()
        self._worker: machines.Task | None = None

    def add(self, call: abc.Callable[..., object],
            *arguments: object) -> None:
        """Make a call soon, after those that were added before. Never raises.

        :param call: what is called with the arguments
        """
        with self._lock:
            self._calls.append(functools.partial(call, *arguments))
            self._is_waiting.set()
            # Two of them would not keep the order.
            if self._worker is not None:
                return
            try:
                self._worker = self._machine.start(
                    'tell-guard', self._make_calls)
            except RuntimeError as error:
                LOG.error('The thaw guard is told later: %s', error)

    def _make_calls(self) -> None:
        while True:
            self._is_waiting.wait()
            with self._lock:
                calls, self._calls = self._calls, []
                self._is_waiting = self._machine.event()
            for call in calls:
                try:
                    call()
                except Exception as error:
                    LOG.error('The thaw guard was not told: %s', error)
