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

"""A guest whose agent means harm, beside one that is well.

A program in place of the agent of some servers gives answers of all kinds.
Meanwhile another server is snapshotted: it must not notice.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import contextlib
import pathlib
import re
import statistics
import threading

from quiescelab.campaign import judgement
from quiescelab.campaign import resources
from quiescelab.campaign import subjects
from quiescelab import console
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import images
from quiescelab import lab as running
from quiescelab import tenant

PROGRAM = pathlib.Path(__file__).with_name('hostile-agent.sh')
PLACE = f'{guestctl.KNOBS}/hostile-agent'
#: Seconds for which the usual agent is kept away at most.
AWAY = 24 * 3600
#: Snapshots of the one that is well: until all is loaded, and of each kind of
#: those that count.
WARM, ALONE = 2, 12
#: What its snapshots may take beside agents that do harm, compared with what
#: they take beside the same ones before.
SLOWER = 1.5
#: MiB by which nova-compute may grow.
MORE_MIB = 64
#: nova-compute's meanwhile: one answer in eight is none, and each is waited
#: for as long.
OPTIONS = {'quiesce': {
    'agent_timeout': 2, 'freeze_timeout': 3, 'thaw_timeout': 3}}
WELL = subjects.Kind('well', subjects.REQUIRED)
#: Several, because most of their time is waiting.
HOSTILE = tuple(subjects.Kind(f'hostile-{number}', images.PREFERRED)
                for number in range(3))
#: The distance of their first answers.
APART = 1000000


def run(lab: running.Lab, answers: int, seed: int) -> int:
    """Run it, and tell.

    :param lab: a lab that is up
    :param answers: that the agents give at least
    :param seed: the number of the first answer, which decides on all
    :returns: 0
    :raises LabError: a promise was broken
    """
    screen = console.Console()
    watch = resources.Watch(lab)
    judge = judgement.Judge(lab)
    with (lab.compute_options(OPTIONS),
          subjects.booted(tenant.Tenant(lab), (WELL, *HOSTILE)) as (
              well, *hostile)):
        for _ in range(WARM):
            well.snapshot()
        alone = [well.snapshot() for _ in range(ALONE)]
        screen.say(f'alone, a snapshot takes {_times(alone)}')
        # Whoever copies disks beside it takes processors, harm or not.
        honest, control = _beside(hostile, well, lambda: True)
        screen.say(f'beside {len(hostile)} agents that do their work: '
                   f'{_times(control)}')
        watch.look()
        with contextlib.ExitStack() as ending:
            seeds = {one: seed + place * APART
                     for place, one in enumerate(hostile)}
            for one in hostile:
                ending.enter_context(_replaced(one, seeds[one]))
            harm, beside = _beside(
                hostile, well, lambda: _given(lab, seeds) >= answers)
            given = _given(lab, seeds)
        screen.say(f'beside {len(hostile)} agents that gave {given} answers: '
                   f'{_times(beside)}')
        broken = _judge(judge, screen, harm,
                        [*alone, *honest, *control, *beside])
        watch.look()
        screen.say(watch.longest())
        broken += watch.growth(MORE_MIB)
        if _middle(beside) > SLOWER * _middle(control):
            broken.append('the other server was slowed down')
    if broken:
        raise errors.LabError('\n'.join(['promises broken:', *broken]))
    return 0


def _beside(hostile: Sequence[subjects.Subject], well: subjects.Subject,
            is_enough: Callable[[], bool]
            ) -> tuple[list[subjects.Attempt], list[subjects.Attempt]]:
    over = threading.Event()
    harm: list[subjects.Attempt] = []

    def do_harm(one: subjects.Subject) -> None:
        while not over.is_set():
            harm.append(one.snapshot())

    taken: list[subjects.Attempt] = []
    with concurrent.futures.ThreadPoolExecutor(len(hostile)) as pool:
        doing = [pool.submit(do_harm, one) for one in hostile]
        try:
            while not any(one.done() for one in doing) and (
                    not is_enough() or len(taken) < ALONE):
                taken.append(well.snapshot())
        finally:
            over.set()
        for one in doing:
            one.result()
    return harm, taken


@contextlib.contextmanager
def _replaced(hostile: subjects.Subject, seed: int) -> Iterator[None]:
    guest = hostile.guest
    text = PROGRAM.read_text()
    guest.run(f"cat > {PLACE} << 'END'\n{text}END\nchmod +x {PLACE}")
    guest.hold_agent(AWAY)
    # What follows on the console's line needs it to be one command.
    guest.console(f'({PLACE} {seed} > /dev/null 2>&1 &)')
    try:
        yield
    finally:
        # What it has running may hold the port.
        guest.console('killall -9 hostile-agent head tr sleep')
        guest.release_agent()


def _given(lab: running.Lab, seeds: Mapping[subjects.Subject, int]) -> int:
    """Count the answers, of which each has the number after the one before."""
    instances = lab.host.paths.data('nova') / 'instances'
    count = 0
    for hostile, seed in seeds.items():
        log = instances / hostile.server['id'] / 'console.log'
        found = re.findall(rb'quiesce-hostile (\d+)', log.read_bytes())
        count += int(found[-1]) - seed if found else 0
    return count


def _judge(judge: judgement.Judge, screen: console.Console,
           harm: list[subjects.Attempt],
           taken: list[subjects.Attempt]) -> list[str]:
    servers = list(dict.fromkeys(one.subject for one in [*harm, *taken]))
    broken = [text for server in servers
              for text in judge.judge_guest(server)]
    broken += judge.judge_host(servers)
    for attempt in taken:
        broken += judge.judge(attempt, is_calm=True).broken
    # Of a guest that lies, what is written on an image is a lie as well: its
    # owner's alone.
    results = collections.Counter(
        judge.judge(attempt, is_calm=False).result for attempt in harm)
    for result, count in sorted(results.items()):
        screen.say(f'  {result:28} {count:5}')
    return broken


def _middle(attempts: list[subjects.Attempt]) -> float:
    return statistics.median(attempt.seconds for attempt in attempts)


def _times(attempts: list[subjects.Attempt]) -> str:
    return (f'{_middle(attempts):.2f} s in the middle, '
            f'{max(attempt.seconds for attempt in attempts):.2f} s at most, '
            f'of {len(attempts)}')
