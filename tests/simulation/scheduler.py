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

"""A machine whose time is virtual, and whose tasks run one at a time.

A task stands for a thread of the real code, which does not know. It is a
greenlet, because a run changes between its tasks some thousand times; Nova
requires that library. Only the task that has the baton runs. It gives the
baton back wherever it waits, and then the one that goes on is chosen here: by
a seeded generator, so that a run can be repeated, and by the clock, which
stands still while anybody can go on.
"""

from collections import abc
import contextlib
import datetime
import math
import random

import greenlet  # type: ignore[import-untyped]

_EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
#: Turns of all tasks after which a run goes on for ever; most take some
#: hundred.
_MOST_TURNS = 100_000


class Unwound(BaseException):
    """The run is over, or the process of this task is; nothing counts now."""


class Endless(Exception):
    """The run does not come to its end: somebody tries again and again."""


class Process:
    """Tasks that die together.

    :param name: of the process, for the story
    :ivar is_dead: whether it was killed
    :ivar stopped_until: until when it gets no processor
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.stopped_until = 0.0
        #: Those that its tasks share, by their names.
        self.turns: dict[str, _Lock] = {}

    def __repr__(self) -> str:
        return self.name


class Task:
    """A task of a process.

    :param scheduler: which has it run
    :param process: with which it dies
    :param name: of the task, for the story
    :param target: what it does
    :ivar is_over: whether it has ended
    :ivar error: what it ended with, if that is an error
    :ivar is_ready: tells whether it can go on
    :ivar until: when it goes on in any case; None where it does not
    """

    def __init__(self, scheduler: 'Scheduler', process: Process, name: str,
                 target: abc.Callable[[], object]) -> None:
        self.process = process
        self.name = name
        self.is_over = False
        self.error: BaseException | None = None
        self.is_ready: abc.Callable[[], bool] = lambda: True
        self.until: float | None = None
        self._scheduler = scheduler
        self._target = target
        self._greenlet = greenlet.greenlet(self._run, scheduler.main)

    def _run(self) -> None:
        try:
            if not self.process.is_dead:
                self._target()
        except Unwound:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.is_over = True

    def go_on(self) -> None:
        """Give it the baton, until it waits or ends."""
        self._greenlet.switch()

    def unwind(self) -> None:
        """End it where it waits, as the run is over."""
        if self._greenlet:
            self._greenlet.throw(Unwound)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._scheduler.wait(lambda: self.is_over, timeout)

    def is_alive(self) -> bool:
        """Tell whether it has not ended."""
        return not self.is_over


class Scheduler:
    """The tasks, and the clock.

    :param seed: of the choice which task goes on
    :ivar now: seconds of the virtual clock
    :ivar main: who has the baton while no task has it
    :ivar tasks: those that have not ended
    :ivar failed: those that ended with an error
    """

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self.main = greenlet.getcurrent()
        self.tasks: list[Task] = []
        self.failed: list[Task] = []
        self.current: Task | None = None
        self._is_over = False
        self._random = random.Random(seed)

    def start(self, process: Process, name: str,
              target: abc.Callable[[], object]) -> Task:
        """Have a task run, from its first turn on."""
        self.check()
        task = Task(self, process, name, target)
        self.tasks.append(task)
        return task

    def wait(self, is_ready: abc.Callable[[], bool],
             timeout: float | None = None) -> bool:
        """Let others run until something is so, or for some time.

        :returns: whether it is so
        """
        self.check()
        task = self.current
        assert task is not None, 'only a task can wait'
        task.is_ready = is_ready
        task.until = None if timeout is None else self._later(timeout)
        self.main.switch()
        self.check()
        return is_ready()

    def _later(self, seconds: float) -> float:
        if seconds <= 0:
            return self.now
        # What is too short to be added to the time must not be no time.
        return max(self.now + seconds, math.nextafter(self.now, math.inf))

    def switch(self) -> None:
        """Let another task run, if there is one that can."""
        self.wait(_always)

    def run(self, until: float) -> None:
        """Run the tasks until a time, or until nobody has anything to do.

        :raises Endless: they have no end
        """
        turns = 0
        while (task := self._choose(until)) is not None:
            self.current = task
            task.go_on()
            self.current = None
            if task.is_over:
                self.tasks.remove(task)
                self.failed += [task] if task.error else []
            turns += 1
            if turns > _MOST_TURNS:
                raise Endless('task %s of %s' % (task.name, task.process))
        self.now = max(self.now, until)

    def _choose(self, until: float) -> Task | None:
        while True:
            alive = [one for one in self.tasks if not one.process.is_dead]
            ready = [one for one in alive
                     if one.process.stopped_until <= self.now and (
                         one.is_ready() or (one.until is not None and
                                            one.until <= self.now))]
            if ready:
                return self._random.choice(ready)
            times = [max(one.process.stopped_until, one.until)
                     for one in alive if one.until is not None]
            times += [one.process.stopped_until for one in alive
                      if one.process.stopped_until > self.now]
            if not times or min(times) > until:
                return None
            self.now = min(times)

    def close(self) -> None:
        """End all tasks, those of processes that died, too."""
        self._is_over = True
        for task in self.tasks:
            task.unwind()

    def check(self) -> None:
        """See that the run goes on, and the process of this task.

        :raises Unwound: one of them does not
        """
        if self._is_over or (
                self.current is not None and self.current.process.is_dead):
            raise Unwound()


def _always() -> bool:
    return True


class _Event:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        return self._scheduler.wait(self.is_set, timeout)


class _Lock(contextlib.AbstractContextManager[None]):
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_held = False

    def __enter__(self) -> None:
        self._scheduler.wait(lambda: not self._is_held)
        self._is_held = True

    def __exit__(self, *_error: object) -> None:
        self._is_held = False


class SimulatedMachine:
    """The machine of one process, for the freeze room.

    :param scheduler: of all processes
    :param process: whose tasks it starts
    :ivar boot: the id of the host's boot
    """

    def __init__(self, scheduler: Scheduler, process: Process,
                 boot: abc.Callable[[], str]) -> None:
        self._scheduler = scheduler
        self._process = process
        self._boot = boot

    def monotonic(self) -> float:
        """Return the virtual seconds of this boot."""
        return self._scheduler.now

    def now(self) -> datetime.datetime:
        """Return the virtual time of day."""
        return _EPOCH + datetime.timedelta(seconds=self._scheduler.now)

    def sleep(self, seconds: float) -> None:
        """Do nothing for so long."""
        self._scheduler.wait(lambda: False, seconds)

    def boot_id(self) -> str:
        """Tell which boot of the host this is."""
        return self._boot()

    def event(self) -> _Event:
        """Make a new event, which has not happened."""
        return _Event(self._scheduler)

    def lock(self) -> _Lock:
        """Make a new lock, to be held for a ``with`` block."""
        return _Lock(self._scheduler)

    def turn(self, name: str) -> _Lock:
        """Return the lock of a name of this process's."""
        return self._process.turns.setdefault(name, _Lock(self._scheduler))

    def start(self, name: str, target: abc.Callable[..., object],
              *arguments: object) -> Task:
        """Run something in a task of this process."""
        return self._scheduler.start(
            self._process, name, lambda: target(*arguments))

