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

"""Each fault at each point of each path."""

import itertools
import logging
import unittest

from tests.simulation import paths
from tests.simulation import runs
from tests.simulation import world

#: After it, many can go on at once, in any order.
_SEEDS = {world.Fault.STALL_COMPUTE: (0, 1, 2)}
#: The paths that are tried with quiesce preferred, too.
_WITH_EACH_POLICY = ('image-backed', 'volume-backed')


class SingleFaultTest(unittest.TestCase):
    """A test for each path, policy and kind of fault, made below."""

    def setUp(self) -> None:
        super().setUp()
        # Each fault is logged, and it is many of them.
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)

    def _points(self, path: runs.Path, is_required: bool) -> list[world.Point]:
        healthy = runs.Run(path, is_required).go()
        self.assertEqual([], healthy.problems, healthy.story())
        self.assertEqual('filesystem', healthy.level, healthy.story())
        self.assertEqual(['freeze', 'thaw'], healthy.guest.hooks)
        self.assertGreater(len(healthy.world.points), 50)
        return healthy.world.points

    def try_each_point(self, path: runs.Path, is_required: bool,
                       fault: world.Fault) -> None:
        """Have a fault at each point that a healthy run passes.

        :param path: the path
        :param is_required: whether quiesce is required
        :param fault: what goes wrong
        """
        points = [one for one in self._points(path, is_required)
                  if world.can_be_at(fault, one)]
        for point, seed in itertools.product(points, _SEEDS.get(fault, (0,))):
            done = runs.Run(
                path, is_required, seed, {point.number: fault}).go()
            self.assertEqual([], done.problems, done.story())


def _add_tests() -> None:
    for name, is_required, fault in itertools.product(
            paths.PATHS, (True, False), world.Fault):
        path = paths.PATHS[name]
        if fault in world.OF_CLOUD and not path.is_of_api:
            continue
        if not is_required and name not in _WITH_EACH_POLICY:
            # Left to the command: these go the same ways.
            continue

        def test(self: SingleFaultTest, path: runs.Path = path,
                 is_required: bool = is_required,
                 fault: world.Fault = fault) -> None:
            self.try_each_point(path, is_required, fault)

        setattr(SingleFaultTest, 'test_%s_%s_%s' % (
            name.replace('-', '_').replace(' ', '_'),
            'required' if is_required else 'preferred',
            fault.name.lower()), test)


_add_tests()
