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

"""Asks the freeze code as many questions as it is told.

``python -m tests.hostile --answers 100000`` prints the seed of each run in
which something is not as it is promised, and its story; ``--seed`` with
``--runs 1`` tells that one again.
"""

import argparse
import collections
import faulthandler
import resource
import statistics
import sys
import time

from tests.hostile import runs


def main() -> int:
    """Do as the command line says.

    :returns: 1 if something was not as it is promised
    """
    arguments = _arguments()
    # It takes as long as it is told to.
    faulthandler.cancel_dump_traceback_later()
    began, count, broken, done = time.monotonic(), 0, 0, 0
    outcomes: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    peak = 0
    while count < arguments.answers and done < arguments.runs:
        run = runs.Run(arguments.seed + done,
                       is_traced=done % arguments.measure == 0).go()
        done += 1
        count += run.count
        outcomes.update(run.outcomes)
        seconds += run.neighbour_seconds
        peak = max(peak, run.peak)
        if run.problems or arguments.runs == 1:
            broken += bool(run.problems)
            print('seed %d: %s\n%s\n' % (
                run.seed, '; '.join(run.problems) or 'all promises kept',
                '\n'.join(run.story)), flush=True)
    print('%d answers in %d runs and %.0f s; %d runs with broken promises' % (
        count, done, time.monotonic() - began, broken))
    print('how snapshots ended: %s' % ', '.join(
        '%s %d' % one for one in outcomes.most_common()))
    print('snapshots of the other guest: median %.3f s, longest %.3f s; '
          'without a hostile one %.3f s' % (
              statistics.median(seconds), max(seconds), _alone()))
    print('memory: %.1f MiB at the most in one run, %d MiB in all' % (
        peak / 2**20,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10))
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m tests.hostile', description=__doc__)
    parser.add_argument('--answers', type=int, default=100000)
    parser.add_argument('--seed', type=int, default=0,
                        help='of the first run; each next one has one more')
    parser.add_argument('--runs', type=int, default=sys.maxsize)
    parser.add_argument('--measure', type=int, default=10,
                        help='measure the memory of one in so many runs')
    return parser.parse_args()


def _alone() -> float:
    return statistics.median(runs.Run(0, is_hostile=False).go(
        ).neighbour_seconds)


if __name__ == '__main__':
    sys.exit(main())
