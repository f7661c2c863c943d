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

from tests.simulation import runs
from tests.simulation import world


class SingleFaultTest(unittest.TestCase):
    """A test for each path, policy and kind of fault, made below."""

    def setUp(self) -> None:
        super().setUp()
        # Each fault is logged, and it is many of them.
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)

    def _count_points(self, path: runs.Path, is_required: bool) -> int:
        healthy = runs.Run(path, is_required).go()
        self.assertEqual([], healthy.problems, healthy.story())
        self.assertIsNone(healthy.error, healthy.story())
        assert healthy.record is not None
        self.assertEqual('filesystem', healthy.record.level.value)
        return len(healthy.world.points)

    def try_each_point(self, path: runs.Path, is_required: bool,
                       fault: world.Fault) -> None:
        """Have a fault at each point that a healthy run passes.

        :param path: the path
        :param is_required: whether quiesce is required
        :param fault: what goes wrong
        """
        count = self._count_points(path, is_required)
        self.assertGreater(count, 35)
        for number in range(count):
            done = runs.Run(path, is_required, faults={number: fault}).go()
            self.assertEqual([], done.problems, done.story())


def _add_tests() -> None:
    for name, is_required, fault in itertools.product(
            runs.PATHS, (True, False), world.Fault):
        def test(self: SingleFaultTest, name: str = name,
                 is_required: bool = is_required,
                 fault: world.Fault = fault) -> None:
            self.try_each_point(runs.PATHS[name], is_required, fault)

        setattr(SingleFaultTest, 'test_%s_%s_%s' % (
            name.replace('-', '_').replace(' ', '_'),
            'required' if is_required else 'preferred',
            fault.name.lower()), test)


_add_tests()
