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

"""A real guest does what the simulation's model of it does."""

import time
import typing

import libvirt
from quiescelab import guestctl
from quiescelab import waiting

from nova_quiesce import fixture
from tests.integration import base
from tests.integration import copies
from tests import measured

#: Of the libvirt and the agent of this distribution; its releases between
#: the two that were measured are not known.
WORDS = fixture.OLDER if libvirt.getVersion() < 10000000 else fixture.NEWER


class _Hand:
    def __init__(self, case: base.LabTestCase) -> None:
        self._case = case
        self._guest = case.guest

    def slow_freeze(self, seconds: float) -> None:
        self._guest.set_hook(freeze_delay=seconds)

    def kill_agent(self) -> None:
        # The guest is frozen, and this writes nothing to its disk.
        self._guest.console('killall -9 qemu-ga')
        waiting.wait(self._guest.agent_alive, base.SOON, 'the agent')

    def reset_guest(self) -> None:
        self._guest.virsh('reset')
        waiting.wait(self._has_booted, self._case.user.boot_seconds,
                     'the reset')
        self._case.user.ready(self._case.server)

    def _has_booted(self) -> bool:
        # It was frozen before, and keeps the log of that in its memory.
        try:
            return not self.hooks()
        except guestctl.ControlError:
            return False

    @staticmethod
    def wait(seconds: float) -> None:
        time.sleep(seconds)

    def hooks(self) -> list[str]:
        return [call.action for call in self._guest.hook_log()]


class ModelTest(copies.CopyTestCase):

    shares_server = True

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self._thaw)

    def _thaw(self) -> None:
        if self.guest.frozen():
            self.guest.agent('guest-fsfreeze-thaw')
        self.guest.set_hook()

    def test_all_that_was_measured(self) -> None:
        for name, sequence in measured.sequences(WORDS).items():
            with self.subTest(name), self.domain() as domain:
                self.assertEqual([], list(measured.problems(
                    typing.cast(measured.Domain, domain), _Hand(self),
                    sequence)))
                self._thaw()
                domain.agentSetResponseTimeout(-2, 0)
