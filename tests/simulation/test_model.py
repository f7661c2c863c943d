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

"""The model of a guest does what a real one was seen to do."""

import typing
import unittest

from nova_quiesce import fixture
from tests import measured
from tests.simulation import guests
from tests.simulation import hypervisors
from tests.simulation import world as worlds

_LIMIT = 5


class _Hand:
    def __init__(self, world: worlds.World, guest: guests.Guest) -> None:
        self._scheduler = world.scheduler
        self._guest = guest
        self._forgotten = 0

    def slow_freeze(self, seconds: float) -> None:
        self._guest.hang_agent(seconds)

    def kill_agent(self) -> None:
        self._guest.kill_agent()
        self._scheduler.wait(lambda: self._guest.is_agent_up)

    def reset_guest(self) -> None:
        self._guest.reset()
        self._forgotten = len(self._guest.hooks)
        self._scheduler.wait(lambda: self._guest.is_agent_up)

    def wait(self, seconds: float) -> None:
        self._scheduler.wait(lambda: False, seconds)

    def hooks(self) -> list[str]:
        return self._guest.hooks[self._forgotten:]


class ModelTest(unittest.TestCase):

    def test_all_that_was_measured(self) -> None:
        for name, sequence in measured.sequences(fixture.OLDER).items():
            with self.subTest(name):
                self.assertEqual([], self._problems(sequence))

    def _problems(self, sequence: measured.Sequence) -> list[str]:
        world = worlds.World(0, {}, has_guard=True)
        self.addCleanup(world.scheduler.close)
        guest = guests.Guest(world)
        found: list[str] = []

        def take() -> None:
            connection = hypervisors.Connection(world, guest)
            domain = connection.lookupByUUIDString('')
            domain.agentSetResponseTimeout(_LIMIT)
            found.extend(measured.problems(
                typing.cast(measured.Domain, domain), _Hand(world, guest),
                sequence))

        world.scheduler.start(world.operator, 'test', take)
        world.scheduler.run(world.scheduler.now + 100)
        self.assertEqual([], world.scheduler.failed)
        self.assertEqual([], world.scheduler.tasks)
        return [*found, *world.broken]
