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

"""What the processes of a compute service have: files, threads, memory."""

from collections.abc import Iterator
import dataclasses
import os
import pathlib
import re

from quiescelab.campaign import disturbances
from quiescelab import lab as running
from quiescelab import proc

#: What a process may have more at the end than when it was in use already.
#: Requests that come at once make it open connections and threads that it
#: keeps: so many.
MORE_FILES, MORE_THREADS, MORE_MIB = 12, 12, 24


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a process has at one moment.

    :ivar files: its open file descriptors
    :ivar mebibytes: its resident memory
    """

    files: int
    threads: int
    mebibytes: float

    def __str__(self) -> str:
        return (f'{self.files} files, {self.threads} threads, '
                f'{self.mebibytes:.0f} MiB')


class Watch:
    """One who looks at the processes, again and again.

    :param lab: the lab
    """

    def __init__(self, lab: running.Lab) -> None:
        self._lab = lab
        self._samples: dict[tuple[str, proc.Process], list[Sample]] = {}

    def look(self) -> None:
        """Take a sample of each process; it is to be at a quiet moment."""
        for name, process in self._processes():
            self._samples.setdefault((name, process), []).append(
                _sample(process))

    def latest(self) -> str:
        """Tell what each process that is there has."""
        return '; '.join(
            f'{name}: {self._samples[name, process][-1]}'
            for name, process in self._processes()
            if (name, process) in self._samples)

    def leaks(self) -> Iterator[str]:
        """Yield what a process has more than when it first was in use.

        A process's first look is left out: not all was loaded by then.
        """
        for (name, process), samples in self._samples.items():
            if len(samples) < 3:
                continue
            before, after = samples[1], samples[-1]
            if (after.files - before.files > MORE_FILES
                    or after.threads - before.threads > MORE_THREADS
                    or after.mebibytes - before.mebibytes > MORE_MIB):
                yield (f'{name} (process {process.pid}) had {before}, and has '
                       f'{after}, {len(samples)} rounds later')

    def growth(self, mebibytes: float) -> Iterator[str]:
        """Yield what has grown by more than so much since its first look."""
        for (name, process), samples in self._samples.items():
            before, after = samples[0], samples[-1]
            if after.mebibytes - before.mebibytes > mebibytes:
                yield (f'{name} (process {process.pid}) had {before}, and '
                       f'has {after}')

    def longest(self) -> str:
        """Tell how the process went that was looked at most often."""
        told = []
        for name in ('nova-compute', 'guard'):
            rows = [samples for (whose, _), samples in self._samples.items()
                    if whose == name]
            if rows:
                row = max(rows, key=len)
                told.append(f'{name}, over {len(row)} rounds: '
                            f'{row[0]} -> {row[-1]}')
        return '; '.join(told)

    def _processes(self) -> Iterator[tuple[str, proc.Process]]:
        main = self._lab.process(disturbances.COMPUTE)
        if main is not None:
            yield 'nova-compute', main
        for guard in disturbances.guards(self._lab):
            yield 'guard', guard


def _sample(process: proc.Process) -> Sample:
    place = pathlib.Path(f'/proc/{process.pid}')
    status = (place / 'status').read_text()
    return Sample(len(os.listdir(place / 'fd')),
                  int(_field(status, 'Threads')),
                  int(_field(status, 'VmRSS')) / 1024)


def _field(status: str, name: str) -> str:
    found = re.search(rf'^{name}:\s+(\d+)', status, re.MULTILINE)
    assert found is not None
    return found[1]
