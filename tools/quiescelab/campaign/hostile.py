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

A program in place of the agent gives answers of all kinds. Meanwhile another
server is snapshotted: it must not notice.
"""

import collections
from collections.abc import Callable, Iterator
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
#: Snapshots of the one that is well, with nothing beside it: until all is
#: loaded, and those that count.
WARM, ALONE = 2, 12
#: What its snapshots may take beside the other one, compared with that.
SLOWER = 1.5
#: MiB by which nova-compute may grow.
MORE_MIB = 64
#: nova-compute's meanwhile: one answer in eight is none, and each is waited
#: for as long.
OPTIONS = {'quiesce': {
    'agent_timeout': 2, 'freeze_timeout': 3, 'thaw_timeout': 3}}
KINDS = (subjects.Kind('hostile', images.PREFERRED),
         subjects.Kind('well', subjects.REQUIRED))


def run(lab: running.Lab, answers: int, seed: int) -> int:
    """Run it, and tell.

    :param lab: a lab that is up
    :param answers: that the agent gives at least
    :param seed: the number of its first answer, which decides on all
    :returns: 0
    :raises LabError: a promise was broken
    """
    screen = console.Console()
    watch = resources.Watch(lab)
    judge = judgement.Judge(lab)
    with (lab.compute_options(OPTIONS),
          subjects.booted(tenant.Tenant(lab), KINDS) as (hostile, well)):
        for _ in range(WARM):
            well.snapshot()
        alone = [well.snapshot() for _ in range(ALONE)]
        screen.say(f'alone, a snapshot takes {_times(alone)}')
        watch.look()
        with _replaced(hostile, seed):
            harm, beside = _beside(
                hostile, well, lambda: _given(lab, hostile) - seed >= answers)
            given = _given(lab, hostile) - seed
        screen.say(f'beside an agent that gave {given} answers: '
                   f'{_times(beside)}')
        broken = _judge(judge, screen, harm, alone + beside)
        watch.look()
        screen.say(watch.longest())
        broken += watch.growth(MORE_MIB)
        if _middle(beside) > SLOWER * _middle(alone):
            broken.append('the other server was slowed down')
    if broken:
        raise errors.LabError('\n'.join(['promises broken:', *broken]))
    return 0


def _beside(hostile: subjects.Subject, well: subjects.Subject,
            is_enough: Callable[[], bool]
            ) -> tuple[list[subjects.Attempt], list[subjects.Attempt]]:
    over = threading.Event()
    harm: list[subjects.Attempt] = []

    def do_harm() -> None:
        while not over.is_set():
            harm.append(hostile.snapshot())

    taken: list[subjects.Attempt] = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        doing = pool.submit(do_harm)
        try:
            while not doing.done() and (
                    not is_enough() or len(taken) < ALONE):
                taken.append(well.snapshot())
        finally:
            over.set()
        doing.result()
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


def _given(lab: running.Lab, hostile: subjects.Subject) -> int:
    log = (lab.host.paths.data('nova') / 'instances' / hostile.server['id'] /
           'console.log')
    found = re.findall(rb'quiesce-hostile (\d+)', log.read_bytes())
    return int(found[-1]) if found else 0


def _judge(judge: judgement.Judge, screen: console.Console,
           harm: list[subjects.Attempt],
           taken: list[subjects.Attempt]) -> list[str]:
    servers = [harm[0].subject, taken[0].subject]
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
