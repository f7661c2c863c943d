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

"""Faults of the freeze of a volume-backed snapshot, and of its service.

nova-api waits for the freeze in a remote call. It may hear of an error, or of
nothing, while the guest is frozen all the same.
"""

from collections import abc
import functools
import threading

import fixtures
import libvirt
from nova.compute import rpcapi

from nova_quiesce import fixture
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines
from tests.functional import base

CALLS = ['fsInfo', 'fsFreeze', 'fsThaw']
UNQUIESCE = 'nova.compute.rpcapi.ComputeAPI.unquiesce_instance'


class FreezeFaultTest(base.QuiesceTestBase):

    # nova-api does not wait for the thaw that it asks for.
    CAST_AS_CALL = False

    def _fail_freeze(self) -> None:
        """Have the agent freeze the guest, and report an error."""
        def fail() -> None:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'internal error: planned for after the freeze')

        self.guest.after['fsFreeze'] = fail

    def test_required_and_failing_freeze(self) -> None:
        """The freeze fails and the guest may be frozen: 409, and not 500."""
        server = self.boot_from_volume(base.QUIESCED)
        self._fail_freeze()
        self.assert_refused(server, 'planned for after the freeze')
        self.assertEqual(CALLS, self.guest.calls)
        self.assert_released()

    def test_preferred_and_failing_freeze(self) -> None:
        """The same, where an image is made of the thawed guest."""
        server = self.boot_from_volume(base.PREFERRED)
        frozen: list[bool] = []
        self.cinder.on_snapshot = lambda: frozen.append(self.guest.frozen)
        self._fail_freeze()
        record = self.record_of(self.ask_for_image(server))
        self.assertEqual([False], frozen)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('planned for after', record['quiesce_reason'])
        self.assertEqual(CALLS, self.guest.calls)
        self.assert_released()

    def test_required_and_zero_frozen(self) -> None:
        """The agent reports success, and no filesystem."""
        server = self.boot_from_volume(base.QUIESCED)
        self.guest.filesystems = 0
        self.assert_refused(server, 'no filesystem')
        self.assert_released()

    def test_preferred_and_zero_frozen(self) -> None:
        """The same, where an image is made in any case."""
        server = self.boot_from_volume(base.PREFERRED)
        self.guest.filesystems = 0
        record = self.record_of(self.ask_for_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('no filesystem', record['quiesce_reason'])
        self.assert_released()

    # The freeze takes longer than nova-api waits

    def _outlast_api(self) -> abc.Callable[[], None]:
        """Freeze for longer than nova-api waits for it.

        :returns: ends the freeze
        """
        server = self.boot_from_volume(base.QUIESCED)
        is_over, is_answered = threading.Event(), threading.Event()
        self.addCleanup(is_over.set)
        self.guest.after['fsFreeze'] = lambda: self.assertTrue(
            is_over.wait(base.SOON))
        quiesce = self.driver.quiesce

        def tell(*args: object) -> None:
            try:
                quiesce(*args)
            finally:
                is_answered.set()

        self.driver.quiesce = tell

        def end() -> None:
            is_over.set()
            self.assertTrue(is_answered.wait(base.SOON))

        self.flags(rpc_response_timeout=2)
        self.assert_answered(500, server)
        self.flags(rpc_response_timeout=base.SOON)
        self.assertTrue(self.guest.frozen)
        self.assertEqual({}, self.cinder.volume_snapshots)
        return end

    def _wait_for_refusal(self, times: int = 1) -> None:
        self.wait_until(
            lambda: self.stdlog.logger.output.count(
                'there is nothing to thaw') == times,
            'the request to thaw did not come')

    def test_thaw_requested_during_the_freeze(self) -> None:
        """nova-api gives up; its thaw comes before the guest is frozen."""
        end = self._outlast_api()
        self._wait_for_refusal()
        self.assertTrue(self.guest.frozen)
        end()
        self.assert_released()
        self.assertEqual(CALLS, self.guest.calls)

    def test_thaw_requested_after_the_freeze(self) -> None:
        """nova-api gives up; its thaw is queued for a while, and repeated."""
        casts: list[abc.Callable[[], None]] = []
        unquiesce = rpcapi.ComputeAPI.unquiesce_instance
        self.useFixture(fixtures.MonkeyPatch(
            UNQUIESCE, lambda *args, **kwargs: casts.append(
                functools.partial(unquiesce, *args, **kwargs))))
        end = self._outlast_api()
        end()
        self.assertTrue(self.guest.frozen)
        cast, = casts
        cast()
        self.assert_released()
        cast()
        self._wait_for_refusal()
        self.assertEqual(CALLS, self.guest.calls)

    def test_thaw_never_requested(self) -> None:
        """nova-api gives up and its thaw is lost: the deadline thaws."""
        self.flags(max_freeze_time=1, group='quiesce')
        self.useFixture(fixtures.MonkeyPatch(
            UNQUIESCE, lambda *args, **kwargs: None))
        end = self._outlast_api()
        end()
        self.assert_released()
        # It is said after the lease is gone.
        self.wait_until(
            lambda: 'before its cut is complete' in self.stdlog.logger.output,
            'the deadline passed without a thaw')
        self.assertEqual(CALLS, self.guest.calls)

    # The service stops, or did

    def test_lease_that_was_left_behind(self) -> None:
        """nova-compute died while a guest was frozen, and is started."""
        server = self.boot_from_volume(base.QUIESCED)
        domain = self.driver._compute_host.find_domain(server['id'])
        self.leases.acquire(leases.Lease.new(
            machines.REAL, server['id'], 'req-1', 'a test', 60, domain.ID()))
        self.guest.frozen = True
        self.driver.init_host('compute1')
        self.assert_released()

    def test_stopping_service_thaws(self) -> None:
        """nova-compute is stopped while a guest is frozen."""
        server = self.boot_from_volume(base.PREFERRED)
        self.cinder.on_snapshot = lambda: self.driver.cleanup_host('host')
        image_id = self.create_image(server)
        self.assert_released()
        self.cinder.on_snapshot = lambda: None
        # The next nova-compute records it.
        self.assertEqual({}, self.properties_of(image_id))
        self.restart_compute_service('compute1')
        self.create_image(server, 'next')
        record = self.record_of(image_id)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('stopped', record['quiesce_reason'])
