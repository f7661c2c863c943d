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

"""Tests: of units, of Nova's services in one process, and of a whole lab."""

import faulthandler
import pathlib
import unittest

ROOT = pathlib.Path(__file__).parents[1]
#: What "stestr run" runs. The other kinds have --test-path name them.
USUAL = ('unit', 'tools', 'simulation', 'hostile')


def load_tests(loader: unittest.TestLoader, found: unittest.TestSuite,
               pattern: str) -> unittest.TestSuite:
    """Find the usual tests, where a runner begins with this directory.

    :param loader: the runner's loader
    :param found: the tests of this module, of which there are none
    :param pattern: of the names of files that have tests
    :returns: the tests
    """
    for kind in USUAL:
        found.addTests(loader.discover(
            str(ROOT / 'tests' / kind), pattern, str(ROOT)))
    return found


def limit(seconds: int) -> None:
    """End this process of tests where it hangs, and say where that is.

    The runner then counts the test that it was at as failed; otherwise it
    would wait for it without limit, and not even name it.

    :param seconds: from now; well above what all its tests take
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
