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

"""Snapshots of instances that are off, end to end in Nova."""

import typing

import libvirt

from tests.functional import base
from tests.functional import test_other_paths

CRASHED = libvirt.VIR_DOMAIN_SHUTOFF_CRASHED
SHUTDOWN = libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
UNKNOWN = libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN
BY_GUEST = libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST
BY_HOST = libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST


class ShutOffTest(test_other_paths.SuspendTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.flags(shutdown_timeout=1)
        self.server: dict[str, typing.Any] = {}

    def _boot(self, properties: dict[str, str] = base.QUIESCED) -> None:
        self.server = self.boot(properties)
        self.guest.calls.clear()

    def _assert_refused(self, reason: str) -> None:
        image_id = self.create_image(self.server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn(reason, self.fault_of(self.server))
        self.assertEqual([], self.guest.calls)

    def _assert_offline(self) -> None:
        record = self.properties_of(self.create_image(self.server))
        self.assertEqual('offline', record['quiesce_consistency'])
        self.assertEqual('the guest had shut itself down',
                         record['quiesce_reason'])
        self.assertEqual([], self.guest.calls)

    def _assert_crash(self, reason: str) -> None:
        record = self.properties_of(self.create_image(self.server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn(reason, record['quiesce_reason'])

    def test_stopped(self) -> None:
        self._boot()
        self._stop_server(self.server)
        self._assert_offline()
        # As often as one likes.
        self._assert_offline()

    def test_shut_down_inside(self) -> None:
        self._boot()
        self.end_guest(self.server, SHUTDOWN, BY_GUEST)
        self._assert_offline()

    def test_killed_and_required(self) -> None:
        self._boot()
        self.end_guest(self.server, CRASHED)
        self._assert_refused('crashed, or was killed; start it, have it shut '
                             'down by itself, and try again')
        # Nova's own stop, as soon as it notices, is no shutdown either.
        self._stop_server(self.server)
        self._assert_refused('crashed, or was killed')

    def test_killed_and_preferred(self) -> None:
        self._boot(base.PREFERRED)
        self.end_guest(self.server, CRASHED)
        self._assert_crash('crashed, or was killed')

    def test_killed_and_not_asked_for(self) -> None:
        self._boot({})
        self.end_guest(self.server, CRASHED)
        self._assert_crash('crashed, or was killed')

    def test_ended_by_a_signal(self) -> None:
        self._boot()
        self.end_guest(self.server, SHUTDOWN, BY_HOST)
        self._stop_server(self.server)
        self._assert_refused('the compute host ended the instance')

    def test_stopped_and_does_not_react(self) -> None:
        self._boot()
        self.guest.ignoring = True
        self._stop_server(self.server)
        self._assert_refused('powered off before it had shut itself down')

    def test_remedy(self) -> None:
        self.test_stopped_and_does_not_react()
        self.guest.ignoring = False
        self.api.post_server_action(self.server['id'], {'os-start': None})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self._stop_server(self.server)
        self._assert_offline()

    def test_libvirtd_forgot(self) -> None:
        self._boot()
        self._stop_server(self.server)
        self.guest.shutoff = UNKNOWN
        self._assert_offline()
        # Somebody started it and killed it, and Nova did not see it.
        self.trace = {'written': 2}
        self._assert_refused('it is not known')

    def test_libvirtd_forgot_one_that_was_killed(self) -> None:
        self._boot()
        self.end_guest(self.server, CRASHED)
        self.guest.shutoff = UNKNOWN
        self._assert_refused('it is not known')

    def test_suspended_by_the_host(self) -> None:
        self._boot()
        self._stop_server(self.server)
        self.guest.saved = True
        self._assert_refused('the compute host has suspended')

    def _start_during_the_copy(self, target: str, _format: str) -> None:
        self._extract(target, _format)
        self.trace = {'written': 2}
        self.guest.shutoff = None

    def test_started_while_it_is_copied(self) -> None:
        self._boot()
        self._stop_server(self.server)
        self.disk.snapshot_extract.side_effect = self._start_during_the_copy
        self._assert_refused('not shut off any more')

    # Nova stops an instance before it shelves it.

    def _shelve(self) -> None:
        self.guest.ignoring = True
        self.api.post_server_action(self.server['id'], {'shelve': None})

    def test_shelved_without_a_shutdown_and_required(self) -> None:
        self._boot()
        self._shelve()
        self._wait_for_action_fail_completion(
            self.server, 'shelve', 'compute_shelve_instance')
        self.assertIn('powered off before',
                      self.fault_of(self.server, 'shelve'))
        self._wait_for_server_parameter(
            self.server, {'OS-EXT-STS:task_state': None})
        # It is where it was, with its disk, and can be started.
        left = self.admin_api.get_server(self.server['id'])
        self.assertEqual('compute1', left['OS-EXT-SRV-ATTR:host'])
        self.assertEqual('active', left['OS-EXT-STS:vm_state'])
        self.assertEqual(1, self.persistent_domains())
        self.assertEqual([], self.saved_at_copy)

    def test_shelved_without_a_shutdown_and_preferred(self) -> None:
        self._boot(base.PREFERRED)
        self._shelve()
        self._wait_for_state_change(self.server, 'SHELVED_OFFLOADED')
        made, = [image for image in self.glance.images.values()
                 if image['name'].endswith('-shelved')]
        self.assertEqual('crash', made['properties']['quiesce_consistency'])
