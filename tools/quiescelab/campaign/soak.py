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

"""Many snapshots of several servers at once, while things fail at random.

It goes in rounds. In each, every server is snapshotted again and again for
some seconds, while up to two things fail and are mended; then all is waited
for, and judged. One round in four is calm: there, each snapshot has to be
consistent. A seed chooses what fails, and when.
"""

import collections
from collections.abc import Iterator, Sequence
import concurrent.futures
import contextlib
import dataclasses
import random
import time

from quiescelab.campaign import disturbances
from quiescelab.campaign import judgement
from quiescelab.campaign import moments
from quiescelab.campaign import resources
from quiescelab.campaign import subjects
from quiescelab import console
from quiescelab import errors
from quiescelab import lab as running
from quiescelab import tenant
from quiescelab import waiting

ROUND_SECONDS = 25
MOST_FAULTS = 2
#: In which of so many rounds nothing fails.
CALM = 4
#: Seconds for which something stands still, or is down.
SHORTEST, LONGEST = 0.5, 8.0
#: Attempts that are judged at once.
JUDGES = 3
#: Seconds that a whole round may take.
PATIENCE = 600


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that fails in a round.

    :ivar name: of the disturbance
    :ivar subject: the place of the server that it is about
    :ivar delay: seconds from the round's begin
    :ivar seconds: how long it lasts
    """

    name: str
    subject: int
    delay: float
    seconds: float

    def __str__(self) -> str:
        return f'{self.name} (at {self.delay:.1f} s for {self.seconds:.1f} s)'


@dataclasses.dataclass(frozen=True)
class Plan:
    """What fails in a round.

    :ivar hook: what one server's hook does, if it does not behave
    """

    faults: Sequence[Fault]
    hook: str | None
    hook_subject: int

    def __str__(self) -> str:
        told = [str(fault) for fault in self.faults]
        return '; '.join([*told, *([self.hook] if self.hook else [])]) or (
            'nothing fails')

    @property
    def is_calm(self) -> bool:
        """Whether nothing fails in it."""
        return not self.faults and self.hook is None


def plan(chosen: random.Random, count: int) -> Plan:
    """Choose what fails in a round.

    :param chosen: the choice
    :param count: how many servers there are
    """
    if chosen.randrange(CALM) == 0:
        return Plan((), None, 0)
    faults = [Fault(chosen.choice(sorted(disturbances.ALL)),
                    chosen.randrange(count),
                    chosen.uniform(0, ROUND_SECONDS / 2),
                    chosen.uniform(SHORTEST, LONGEST))
              for _ in range(chosen.randint(0, MOST_FAULTS))]
    hook = None
    if not faults or chosen.random() < 0.3:
        hook = chosen.choice(sorted(disturbances.HOOKS))
    return Plan(faults, hook, chosen.randrange(count))


class Soak:
    """A run of it.

    :param lab: a lab that is up
    :param seed: of all that is chosen
    :ivar broken: the promises that were broken
    """

    def __init__(self, lab: running.Lab, seed: int) -> None:
        self._lab = lab
        self._seed = seed
        self._screen = console.Console()
        self._judge = judgement.Judge(lab)
        self._watch = resources.Watch(lab)
        self._outcomes: collections.Counter[tuple[str, str]] = (
            collections.Counter())
        self.broken: list[str] = []

    def run(self, snapshots: int, seconds: float) -> None:
        """Go on until so many snapshots were made, or so long.

        :param seconds: after these, no more rounds are begun
        """
        user = tenant.Tenant(self._lab)
        end = time.monotonic() + seconds
        self._screen.say(f'booting {len(subjects.KINDS)} servers')
        with subjects.booted(user, subjects.KINDS) as servers:
            number = 0
            while (self._outcomes.total() < snapshots
                   and time.monotonic() < end):
                self._round(number, servers)
                number += 1
        self.broken += self._watch.leaks()
        self._tell()

    def _round(self, number: int,
               servers: Sequence[subjects.Subject]) -> None:
        # Each round's choice is its own, so that one can be repeated.
        planned = plan(random.Random(f'{self._seed}-{number}'), len(servers))
        began = time.monotonic()
        self._screen.say(f'round {number}: {planned}')
        with concurrent.futures.ThreadPoolExecutor(
                len(servers) + MOST_FAULTS) as pool:
            with self._hook(planned, servers):
                failing = [pool.submit(self._fail, fault, servers)
                           for fault in planned.faults]
                making = [pool.submit(_snapshot_for, server, ROUND_SECONDS)
                          for server in servers]
                concurrent.futures.wait(failing, PATIENCE)
                concurrent.futures.wait(making, PATIENCE)
        self._lab.end_disturbance()
        for failed in failing:
            failed.result()
        broken = self._settle(servers)
        attempts = [one for made in making for one in made.result()]
        with concurrent.futures.ThreadPoolExecutor(JUDGES) as pool:
            for outcome in pool.map(
                    lambda one: self._judge.judge(one, planned.is_calm),
                    attempts):
                self._outcomes[outcome.kind, outcome.result] += 1
                broken += outcome.broken
        self._watch.look()
        for text in broken:
            self._screen.complain(f'BROKEN in round {number}: {text}')
        self.broken += broken
        self._screen.say(
            f'round {number}: {len(attempts)} snapshots, '
            f'{time.monotonic() - began:.0f} s; {self._watch.latest()}')

    def _fail(self, fault: Fault,
              servers: Sequence[subjects.Subject]) -> None:
        time.sleep(fault.delay)
        disturbances.ALL[fault.name](
            self._lab, servers[fault.subject], fault.seconds)

    @contextlib.contextmanager
    def _hook(self, planned: Plan, servers: Sequence[subjects.Subject]
              ) -> Iterator[None]:
        guest = servers[planned.hook_subject].guest
        if planned.hook is not None:
            disturbances.HOOKS[planned.hook](guest)
        try:
            yield
        finally:
            if planned.hook is not None:
                # A guest that was reset forgot it, and boots.
                waiting.wait(lambda: moments.quiet(guest), judgement.BOUND,
                             'the hook to be told')

    def _settle(self, servers: Sequence[subjects.Subject]) -> list[str]:
        broken = []
        with concurrent.futures.ThreadPoolExecutor(JUDGES) as pool:
            for server, found in zip(servers, pool.map(
                    lambda one: list(self._judge.judge_guest(one)), servers),
                    strict=True):
                broken += found
                if found:
                    self._revive(server)
        return broken + list(self._judge.judge_host(servers))

    def _revive(self, server: subjects.Subject) -> None:
        server.user.act(server.server, 'reboot', {'type': 'HARD'})
        time.sleep(1)
        waiting.wait(server.is_idle, subjects.PATIENCE, 'the reboot')
        server.ready()

    def _tell(self) -> None:
        self._screen.say(f'{self._outcomes.total()} snapshots:')
        for (kind, result), count in sorted(self._outcomes.items()):
            self._screen.say(f'  {kind:24} {result:28} {count:5}')
        self._screen.say(self._watch.longest())
        self._screen.say(f'{len(self.broken)} promises broken')


def _snapshot_for(server: subjects.Subject,
                  seconds: float) -> list[subjects.Attempt]:
    made = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        made.append(server.snapshot())
    return made


def run(lab: running.Lab, snapshots: int, seed: int, seconds: float) -> int:
    """Run it, and tell.

    :param lab: a lab that is up
    :param snapshots: to be made at least, unless time is over
    :param seed: of what fails
    :param seconds: after these, no more rounds are begun
    :returns: 1 if a promise was broken
    :raises LabError: the lab itself does not come to rest
    """
    soak = Soak(lab, seed)
    soak.run(snapshots, seconds)
    if soak.broken:
        raise errors.LabError('\n'.join(['promises broken:', *soak.broken]))
    return 0
