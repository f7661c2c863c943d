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

"""Running steps side by side, each after the ones that it needs."""

from collections.abc import Callable, Sequence
import concurrent.futures
import dataclasses
import graphlib
import time

from quiescelab import console
from quiescelab import errors

WORKERS = 8
HEARTBEAT_SECONDS = 20
WORTH_TELLING_SECONDS = 2


@dataclasses.dataclass(frozen=True)
class Task:
    """A step.

    :param name: what to call it, in messages and in others' needs
    :param run: does it; finds out itself whether there is anything to do
    :param needs: the names of the tasks to finish before
    """

    name: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()


class Runner:
    """Runs tasks in threads; after a failure it starts no more of them.

    :param screen: where progress and failures are told
    """

    def __init__(self, screen: console.Console):
        self._screen = screen
        self._running: dict[concurrent.futures.Future[None], Task] = {}
        self._began: dict[str, float] = {}
        self._failed = False

    def run(self, tasks: Sequence[Task]) -> bool:
        """Run all tasks.

        :param tasks: the steps, in any order
        :returns: whether all of them went well
        """
        known = {task.name: task for task in tasks}
        graph = graphlib.TopologicalSorter(
            {task.name: task.needs for task in tasks})
        graph.prepare()
        pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
        try:
            while graph.is_active() and not self._failed:
                for name in graph.get_ready():
                    self._submit(pool, known[name])
                graph.done(*self._wait())
            self._drain()
        finally:
            pool.shutdown(cancel_futures=True)
        return not self._failed

    def _submit(self, pool: concurrent.futures.Executor, task: Task) -> None:
        self._began[task.name] = time.monotonic()
        self._running[pool.submit(task.run)] = task

    def _wait(self) -> list[str]:
        done, _ = concurrent.futures.wait(
            self._running, HEARTBEAT_SECONDS,
            concurrent.futures.FIRST_COMPLETED)
        if not done:
            self._screen.say(f'still at work: {self._names()}')
        return [self._conclude(future) for future in done]

    def _conclude(self, future: concurrent.futures.Future[None]) -> str:
        task = self._running.pop(future)
        took = time.monotonic() - self._began[task.name]
        failure = future.exception()
        if isinstance(failure, errors.LabError):
            self._failed = True
            self._screen.complain(f'FAILED: {task.name}: {failure.explain()}')
        elif failure:
            raise failure
        elif took > WORTH_TELLING_SECONDS:
            self._screen.say(f'done: {task.name} ({took:.0f} s)')
        return task.name

    def _drain(self) -> None:
        if self._running:
            self._screen.say(f'waiting for what is under way: '
                             f'{self._names()}')
        while self._running:
            self._wait()

    def _names(self) -> str:
        return ', '.join(task.name for task in self._running.values())
