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

"""Tries several faults in one run, at random, as long as it is told.

``python -m tests.simulation --seconds 600`` prints the seed of each run in
which a promise is broken, and its story; ``--seed`` with ``--runs 1`` tells
that one again.

Two faults may leave what one does not, and it is no broken promise: the files
of a snapshot that the next nova-compute removes, which is started for that.
And libvirt ends whatever job there is: where one of ours ends by itself just
as it is to be ended, and another's begins before that, it is the other's.
Products look whether a domain is free only each few seconds here.
"""

import argparse
import faulthandler
import logging
import random
import sys
import time

from tests.simulation import paths
from tests.simulation import runs
from tests.simulation import world

#: The first fault is at one of the points of a healthy run, and the others
#: come soon after, or some time.
_POINTS, _DISTANCES = 140, (10, 40, 200)


def new_run(seed: int, count: int) -> tuple[str, runs.Run]:
    """Make a run of a seed.

    :param seed: of all that is chosen for it
    :param count: how many faults it has at the most
    :returns: what it is, and the run
    """
    chosen = random.Random(seed)
    name = chosen.choice(sorted(paths.PATHS))
    path, is_required = paths.PATHS[name], chosen.random() < 0.5
    kinds = [one for one in world.Fault
             if path.is_of_api or one not in world.OF_CLOUD]
    first = chosen.randrange(_POINTS)
    numbers = [first, *(first + chosen.randrange(1, chosen.choice(_DISTANCES))
                        for _ in range(chosen.randint(1, count - 1)))]
    faults = {number: chosen.choice(kinds) for number in numbers}
    return ('%s, %s' % (name, 'required' if is_required else 'preferred'),
            runs.Run(path, is_required, seed, faults))


def main() -> int:
    """Do as the command line says.

    :returns: 1 if a promise was broken
    """
    parser = argparse.ArgumentParser(
        prog='python -m tests.simulation', description=__doc__)
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--seed', type=int, default=0,
                        help='of the first run; each next one has one more')
    parser.add_argument('--runs', type=int, default=sys.maxsize)
    parser.add_argument('--faults', type=int, default=3,
                        help='the most faults of one run, from 2 on')
    arguments = parser.parse_args()
    # It runs for as long as it is told.
    faulthandler.cancel_dump_traceback_later()
    logging.disable(logging.CRITICAL)
    end, done, broken = time.monotonic() + arguments.seconds, 0, 0
    while done < arguments.runs and time.monotonic() < end:
        seed = arguments.seed + done
        what, run = new_run(seed, arguments.faults)
        run.go()
        done += 1
        if run.problems or arguments.runs == 1:
            broken += bool(run.problems)
            print('seed %d, %s: %s%s\n' % (
                seed, what, '; '.join(run.problems) or 'all promises kept',
                run.story()))
    print('%d runs, %d with broken promises' % (done, broken))
    return 1 if broken else 0


sys.exit(main())
