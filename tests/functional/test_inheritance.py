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

"""Instances that come from a host with stock Nova, and what they carry.

Stock Nova copies the record of a labelled image into the instances that are
booted from it. Here, it is put there by hand.
"""

from collections import abc
import functools
import typing

import fixtures
from nova import conf
from nova import context
from nova import objects

from nova_quiesce.record import inheritance
from tests.functional import base

#: What the operator's guide has nova-api's configuration say.
NON_INHERITABLE = ['cache_in_nova', 'bittorrent', *base.PARENT]


class _InheritanceTestBase(base.QuiesceTestBase):

    # Neither API service waits for the compute service.
    CAST_AS_CALL = False

    def _instance(self, server: dict[str, typing.Any]) -> typing.Any:
        return objects.Instance.get_by_uuid(
            context.get_admin_context(), server['id'],
            expected_attrs=['system_metadata'])

    def inherit(self, server: dict[str, typing.Any]) -> None:
        """Have an instance carry the record of its image."""
        instance = self._instance(server)
        instance.system_metadata.update(
            {'image_' + name: value for name, value in base.PARENT.items()})
        instance.save()
        self.assertTrue(self.inherited(server))

    def inherited(self, server: dict[str, typing.Any]) -> set[str]:
        """Read what an instance has of its image's record."""
        return {key for key in self._instance(server).system_metadata
                if key.startswith('image_quiesce_')}

    def act(self, server: dict[str, typing.Any], state: str,
            **action: object) -> None:
        """Have something done to a server, until it is in a state."""
        self.admin_api.post_server_action(server['id'], action)
        self._wait_for_state_change(server, state)

    def stop(self, server: dict[str, typing.Any]) -> None:
        """Shut a server off."""
        self.act(server, 'SHUTOFF', **{'os-stop': None})


class ForgottenTest(_InheritanceTestBase):
    """Wherever an instance begins to run, comes to, or is met."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.boot_from_volume(base.PREFERRED)

    def _assert_forgotten(self, by: abc.Callable[[], object]) -> None:
        self.inherit(self.server)
        by()
        self.assertEqual(set(), self.inherited(self.server))
        # Nothing else went with it.
        self.assertEqual('yes', self._instance(self.server).system_metadata[
            'image_hw_qemu_guest_agent'])

    def test_start(self) -> None:
        self.stop(self.server)
        self._assert_forgotten(lambda: self.act(
            self.server, 'ACTIVE', **{'os-start': None}))

    def test_reboot(self) -> None:
        for kind in ('SOFT', 'HARD'):
            self._assert_forgotten(functools.partial(
                self.act, self.server, 'ACTIVE', reboot={'type': kind}))

    def test_resume(self) -> None:
        self.act(self.server, 'SUSPENDED', suspend=None)
        self._assert_forgotten(lambda: self.act(
            self.server, 'ACTIVE', resume=None))

    def test_restart_of_the_service(self) -> None:
        self._assert_forgotten(
            lambda: self.restart_compute_service('compute1'))

    def test_move(self) -> None:
        self.start_compute('compute2')
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver.'
            'migrate_disk_and_power_off', lambda *args, **kwargs: '{}'))
        self.flags(allow_resize_to_same_host=False)
        self._assert_forgotten(lambda: self.act(
            self.server, 'VERIFY_RESIZE', migrate=None))
        self._assert_forgotten(lambda: self.act(
            self.server, 'ACTIVE', revertResize=None))

    def test_live_migration(self) -> None:
        self.start_compute('compute2')

        def migrate(domain: typing.Any, uri: str, params: dict[str, str],
                    flags: int) -> None:
            target = self.computes['compute2'].driver._host
            target.get_connection().createXML(params['destination_xml'], 0)
            domain.complete_job()

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.migrateToURI3', migrate))

        def move() -> None:
            self.admin_api.post_server_action(self.server['id'], {
                'os-migrateLive': {'host': None, 'block_migration': 'auto'}})
            self._wait_for_migration_status(self.server, ['completed'])

        self._assert_forgotten(move)

    def test_database_that_fails(self) -> None:
        """The operation goes on, and the next one drops the copy."""
        self.stop(self.server)
        self.inherit(self.server)
        broken = fixtures.MockPatchObject(
            inheritance, '_drop', side_effect=TimeoutError('no answer'))
        with broken:
            self.act(self.server, 'ACTIVE', **{'os-start': None})
        self.assertIn('no answer', self.stdlog.logger.output)
        self.assertTrue(self.inherited(self.server))
        self.act(self.server, 'ACTIVE', reboot={'type': 'HARD'})
        self.assertEqual(set(), self.inherited(self.server))


class SnapshotTest(_InheritanceTestBase):
    """Snapshots of instances that carry a record."""

    def test_image_backed(self) -> None:
        server = self.boot(base.PREFERRED)
        self.inherit(server)
        self.guest.connected = False
        record = self.properties_of(self.create_image(server))
        self.assertFalse(set(base.PARENT.values()) & set(record.values()))
        self.assertEqual(set(), self.inherited(server))

    def test_stopped_and_volume_backed(self) -> None:
        """nova-api makes the image without asking any host."""
        server = self.boot_from_volume(base.PREFERRED)
        self.stop(server)
        self.inherit(server)
        self.restart_compute_service('compute1')
        self.assertEqual({}, self.properties_of(self.ask_for_image(server)))

    def test_nova_api_is_told(self) -> None:
        """The instance is on a host that has another driver."""
        server = self.boot_from_volume(base.PREFERRED)
        self.stop(server)
        self.inherit(server)
        self.assertEqual(
            base.PARENT, self.properties_of(self.ask_for_image(server)))
        conf.CONF.set_override(
            'non_inheritable_image_properties', NON_INHERITABLE)
        self.addCleanup(conf.CONF.clear_override,
                        'non_inheritable_image_properties')
        self.assertEqual({}, self.properties_of(
            self.ask_for_image(server, 'another')))
