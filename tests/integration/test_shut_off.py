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

"""Instances that are off: those that shut themselves down, and others.

What libvirt says, and what nova-compute makes of it, is compared with what is
on the disk.
"""

import signal

import libvirt

from quiescelab import proc
from quiescelab.services import nova
from quiescelab import waiting

from tests.integration import base
from tests.integration import copies
from tests.integration import faults


class ShutOffTest(copies.CopyTestCase, faults.FaultTestCase):

    shares_server = True

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.start)

    def _reason(self) -> int:
        with self.domain() as domain:
            state, reason = domain.state()
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF, state)
        return int(reason)

    def _end(self, number: signal.Signals) -> None:
        """Send the guest's QEMU a signal, and wait until it is off."""
        qemu, = (one for one in proc.everyone()
                 if self.server['id'] in proc.arguments(one) and
                 '-uuid' in proc.arguments(one))
        qemu.signal(number)
        waiting.wait(self._is_off, base.SOON, 'QEMU to end')

    def _is_off(self) -> bool:
        with self.domain() as domain:
            return not domain.isActive()

    def _assert_neither_claimed_nor_made(self, reason: str) -> None:
        self.assert_crash(self.snapshot(), reason)
        self.require()
        self.assert_refused(self.snapshot(), reason)

    def test_killed(self) -> None:
        self._end(signal.SIGKILL)
        self.wait_for_status('SHUTOFF')
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, self._reason())
        self._assert_neither_claimed_nor_made('crashed, or was killed')

    def test_terminated(self) -> None:
        """libvirt calls it a shutdown."""
        self._end(signal.SIGTERM)
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, self._reason())
        self._assert_neither_claimed_nor_made('the compute host ended')
        # Nova stops what has ended by itself, some seconds later or as it is
        # connected again. A request that comes in between fails with 500.
        self.wait_for_status('SHUTOFF')
        self.restart_libvirtd()
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, self._reason())
        self.assert_refused(self.snapshot(), 'the compute host ended')
        self.assertFalse(self.note.exists())

    def test_stopped(self) -> None:
        self.require()
        self.user.act(self.server, 'os-stop')
        self.wait_for_status('SHUTOFF')
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, self._reason())
        self.assert_offline(self.snapshot())
        self.restart_libvirtd()
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, self._reason())
        self.assert_offline(self.snapshot())
        self._start_and_end_unseen()
        self.assert_refused(self.snapshot(), 'it is not known')

    def _start_and_end_unseen(self) -> None:
        self.addCleanup(self.lab.start, nova.COMPUTE)
        self.lab.stop(nova.COMPUTE)
        with self.domain() as domain:
            domain.create()
        self.assert_writing()
        self._end(signal.SIGTERM)
        self.assertEqual(libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, self._reason())
        self.lab.start(nova.COMPUTE)

    def test_shelved_without_a_shutdown(self) -> None:
        """A guest that stands still cannot shut itself down."""
        self.require()
        self.user.act(self.server, 'pause')
        self.wait_for_status('PAUSED')
        name = '%s-shelved' % self.user.show(self.server)['name']
        self.addCleanup(self.remove_images, name)
        self.user.act(self.server, 'shelve')
        self.wait_until_done()
        self.assert_told('powered off before')
        left = self.user.image_named(name)
        self.assertEqual('queued', left['status'])
        # It is off, where it was, with its disk: it is started again.
        self.wait_for_status('SHUTOFF')
