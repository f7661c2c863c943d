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

"""The clocks and the threads of the machine that the freeze runs on.

All of it comes from outside, so that the same code runs under a virtual clock
and a scheduler of somebody else's.
"""

from collections import abc
import contextlib
import datetime
import threading
import time
import typing
import weakref

_BOOT_ID = '/proc/sys/kernel/random/boot_id'


class Event(typing.Protocol):
    """Something that happens once, and is waited for."""

    def set(self) -> None:
        """Let it happen."""

    def is_set(self) -> bool:
        """Tell whether it has happened."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; return whether it has happened by then.

        :param timeout: seconds to wait at most
        """


class Task(typing.Protocol):
    """A thread that was started."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""

    def is_alive(self) -> bool:
        """Tell whether it has not ended."""


class Machine(typing.Protocol):
    """The clocks and the threads that there are."""

    def monotonic(self) -> float:
        """Return the seconds since some time before; they never go back."""

    def now(self) -> datetime.datetime:
        """Return the time of day, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Do nothing for so long."""

    def boot_id(self) -> str:
        """Tell which boot of the machine this is."""

    def event(self) -> Event:
        """Make a new event, which has not happened."""

    def lock(self) -> contextlib.AbstractContextManager[object]:
        """Make a new lock, to be held for a ``with`` block."""

    def turn(self, name: str) -> contextlib.AbstractContextManager[object]:
        """Return the lock that all threads of this process share by its name.

        :param name: of what only one of them may do at a time
        """

    def start(self, name: str, target: abc.Callable[..., object],
              *arguments: object) -> Task:
        """Run something in a thread that keeps no process alive.

        :param name: of the thread
        :raises RuntimeError: there are too many threads
        """


class RealMachine:
    """The machine that this process runs on."""

    def __init__(self) -> None:
        self._turns: weakref.WeakValueDictionary[str, threading.Lock] = (
            weakref.WeakValueDictionary())
        self._turning = threading.Lock()

    def monotonic(self) -> float:
        """Return the seconds of this boot's CLOCK_MONOTONIC."""
        return time.monotonic()

    def now(self) -> datetime.datetime:
        """Return the time of day, in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def sleep(self, seconds: float) -> None:
        """Do nothing for so long."""
        time.sleep(seconds)

    def boot_id(self) -> str:
        """Tell which boot of the machine this is."""
        with open(_BOOT_ID, encoding='ascii') as file:
            return file.read().strip()

    def event(self) -> Event:
        """Make a new event, which has not happened."""
        return threading.Event()

    def lock(self) -> contextlib.AbstractContextManager[object]:
        """Make a new lock, to be held for a ``with`` block."""
        return threading.Lock()

    def turn(self, name: str) -> contextlib.AbstractContextManager[object]:
        """Return the lock of a name, which goes once nobody has it."""
        with self._turning:
            return self._turns.setdefault(name, threading.Lock())

    def start(self, name: str, target: abc.Callable[..., object],
              *arguments: object) -> Task:
        """Run something in a daemon thread."""
        thread = threading.Thread(
            target=target, args=arguments, name=name, daemon=True)
        thread.start()
        return thread


REAL = RealMachine()
