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

"""Each thing fails at each moment of each kind of snapshot.

What came of it is printed, and can be written as a table for the
documentation.
"""

from collections.abc import Sequence
import concurrent.futures
import csv
import dataclasses
import itertools
import pathlib
import time

from quiescelab.campaign import disturbances
from quiescelab.campaign import judgement
from quiescelab.campaign import moments
from quiescelab.campaign import subjects
from quiescelab import console
from quiescelab import errors
from quiescelab import lab as running
from quiescelab import tenant

#: Seconds for which something stands still, or is down.
DOWN = 5.0
FAULTS = disturbances.ALL | disturbances.WITH_TWO_HOSTS
HEADINGS = ('snapshot', 'moment', 'what fails', 'result', 'frozen for',
            'all in order after')


@dataclasses.dataclass(frozen=True)
class Cell:
    """What came of one fault.

    :ivar frozen: seconds, by the guest's clock; None where it was not frozen,
        or was reset
    :ivar settled: seconds from the end of the fault until nothing is left
    """

    kind: str
    moment: str
    fault: str
    result: str
    frozen: float | None
    settled: float
    broken: Sequence[str]

    def row(self) -> tuple[str, ...]:
        """Return it as a row of the table."""
        frozen = '-' if self.frozen is None else f'{self.frozen:.1f} s'
        return (self.kind, self.moment, self.fault, self.result, frozen,
                f'{self.settled:.0f} s')


class Campaign:
    """A run through the matrix.

    :param lab: a lab that is up
    """

    def __init__(self, lab: running.Lab) -> None:
        self._lab = lab
        self._screen = console.Console()

    def run(self, names: Sequence[str]) -> list[Cell]:
        """Try each fault at each moment.

        :param names: parts of what is tried alone; all where there are none
        """
        user = tenant.Tenant(self._lab)
        kinds = [kind for kind in subjects.KINDS if any(
            kind.name in whose for _, whose in moments.ALL.values())]
        cells = []
        with (subjects.booted(user, tuple(kinds)) as servers,
              self._lab.second_host({}) as second):
            judge = judgement.Judge(self._lab, [second])
            for server, moment, fault in itertools.product(
                    servers, moments.ALL, FAULTS):
                label = f'{server.kind.name}, {moment}, {fault}'
                if (not _is_possible(server, moment, fault)
                        or not all(name in label for name in names)):
                    continue
                cell = self._try(judge, server, moment, fault)
                cells.append(cell)
                self._screen.say(', '.join(cell.row()))
                for text in cell.broken:
                    self._screen.complain(f'BROKEN: {text}')
        return cells

    def _try(self, judge: judgement.Judge, server: subjects.Subject,
             moment: str, fault: str) -> Cell:
        calls = len(server.guest.hook_log())
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with moments.ALL[moment][0](self._lab, server) as wait:
                attempt = pool.submit(server.snapshot)
                wait()
                FAULTS[fault](self._lab, server, DOWN)
            healed = time.monotonic()
            done = attempt.result()
        self._lab.end_disturbance()
        broken = [*judge.judge_guest(server), *judge.judge_host([server])]
        settled = time.monotonic() - healed
        outcome = judge.judge(done, is_calm=False)
        frozen = _frozen_since(server, calls)
        return Cell(server.kind.name, moment, fault, outcome.result, frozen,
                    settled, [*broken, *outcome.broken])


def _is_possible(server: subjects.Subject, moment: str, fault: str) -> bool:
    if server.kind.name not in moments.ALL[moment][1]:
        return False
    # A volume's migration needs Cinder, which stands still in that moment.
    return fault not in disturbances.WITH_TWO_HOSTS or moment != 'frozen'


def _frozen_since(server: subjects.Subject, calls: int) -> float | None:
    """Return for how long the guest was frozen after so many hook calls."""
    new = server.guest.hook_log()[calls:]
    for before, after in itertools.pairwise(new):
        if (before.action, after.action) == ('freeze', 'thaw'):
            return after.begin - before.end
    return None


def run(lab: running.Lab, names: Sequence[str],
        table: pathlib.Path | None) -> int:
    """Run it, and tell.

    :param lab: a lab that is up
    :param names: parts of what is tried alone
    :param table: where a table is to be written
    :returns: 0
    :raises LabError: a promise was broken, or the lab does not come to rest
    """
    cells = Campaign(lab).run(names)
    if table is not None:
        with table.open('w', newline='') as stream:
            writer = csv.writer(stream, lineterminator='\n')
            writer.writerows([HEADINGS, *(cell.row() for cell in cells)])
    broken = [f'{", ".join(cell.row()[:3])}: {text}'
              for cell in cells for text in cell.broken]
    if broken:
        raise errors.LabError('\n'.join(['promises broken:', *broken]))
    return 0
