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

"""Answers that an agent may give, on a real one: none is misread."""

import subprocess


from quiescelab import waiting

from tests.integration import base
from tests.integration import copies
from tests.integration import faults
from tests.integration import snapshots

FREEZE = ('guest-fsfreeze-freeze,guest-fsfreeze-freeze-list,'
          'guest-fsfreeze-thaw')
QUESTIONS = 'guest-get-fsinfo,guest-get-time,guest-network-get-interfaces'
HOOK = '/etc/qemu/fsfreeze-hook'


class AnswersTest(copies.CopyTestCase, faults.FaultTestCase):
    """The image prefers quiesce, or requires it."""

    shares_server = True

    def setUp(self) -> None:
        super().setUp()
        self._hooks_before = len(self.guest.hook_log())

    def _assert_over(self, *hooks: str) -> None:
        """Nothing is left of the freeze, and these hooks were called."""
        self.wait_until_lease_ends()
        self.assertEqual(list(hooks), [
            call.action for call in
            self.guest.hook_log()[self._hooks_before:]])
        self.assert_no_response_timeout()

    def test_hook_that_cannot_be_run(self) -> None:
        """Nothing is frozen, and nothing is thawed."""
        self.require()
        self.guest.run('chmod -x %s' % HOOK)
        self.addCleanup(self.guest.run, 'chmod +x %s' % HOOK)
        taken = self.snapshot()
        self.assert_refused(taken, 'fsfreeze hook')
        self.assertNotIn(self.server['id'], self.leases())
        self.assertEqual({'freeze': 1, 'thaw': 0}, taken.sent)
        self._assert_over()

    def test_thaw_hook_that_fails(self) -> None:
        """The agent has thawed by then: once, and not for ever."""
        self.require()
        self.set_hook(thaw_fail=3)
        taken = self.snapshot()
        # 'hook has failed with' it, or, since QEMU 9.1, 'fsfreeze hook: exit'.
        self.assert_refused(taken, 'status 3')
        self.assertEqual(snapshots.ONE_EACH, taken.sent)
        self._assert_over('freeze', 'thaw')

    def test_freeze_is_forbidden(self) -> None:
        self.guest.restart_agent('-b %s' % FREEZE)
        self.addCleanup(self.guest.restart_agent)
        taken = self.snapshot()
        self.assert_crash(taken, 'allow its guest-fsfreeze commands')
        self.assertNotIn(self.server['id'], self.leases())
        self.assertEqual({'freeze': 1, 'thaw': 0}, taken.sent)
        self.require()
        self.assert_refused(self.snapshot(), 'allow its guest-fsfreeze')
        self._assert_over()

    def test_all_but_the_freeze_is_forbidden(self) -> None:
        """The agent tells only how much it froze and thawed, which will do."""
        self.guest.restart_agent('-b %s' % QUESTIONS)
        self.addCleanup(self.guest.restart_agent)
        self.assert_healthy(self.snapshot())
        self._assert_over('freeze', 'thaw')

    def test_another_call_does_not_end(self) -> None:
        """libvirt waits 30 s for its turn, and sends nothing."""
        self.guest.console('killall -STOP qemu-ga')
        self.addCleanup(self.guest.console, 'killall -CONT qemu-ga')
        calls = self.agent_calls()
        with subprocess.Popen(
                ['virsh', '-c', self.lab.libvirt_uri, 'domfsinfo',
                 self.server['id']], stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL) as other:
            self.addCleanup(other.wait)
            waiting.wait(lambda: 'guest-' in calls.text(),
                         base.SOON, 'the other call', base.LOOK)
            taken = self.snapshot()
            self.assert_crash(taken, 'another command of the guest agent')
            self.assertEqual(snapshots.NO_CALLS, taken.sent)
            self.guest.console('killall -CONT qemu-ga')
        self._assert_over()
