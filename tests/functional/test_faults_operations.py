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

"""Operations that begin while the volumes of a frozen guest are snapshotted.

Nova keeps none of them from it. Each meets a thawed guest, or ends the freeze
as it ends the guest, and the snapshot says so.
"""

from collections import abc
import os
import threading
import typing

import fixtures
from nova.compute import manager
from nova import conf
from nova import context
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt

from tests.functional import base
from tests.functional import cinder

DOMAIN = 'nova.tests.fixtures.libvirt.Domain.%s'
RESCUE = {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'}


class NeighbourTest(base.QuiesceTestBase):

    # Neither API service waits for the compute service.
    CAST_AS_CALL = False

    def setUp(self) -> None:
        super().setUp()
        self.server = self.boot_from_volume(base.PREFERRED)
        #: Whether the guest was frozen as its domain was changed.
        self.met: list[bool] = []

    def _watch(self, name: str,
               end: abc.Callable[[], None] = lambda: None) -> None:
        """Note what the guest is as Nova calls something of its domain."""
        original = getattr(fakelibvirt.Domain, name)

        def watch(*args: object) -> object:
            self.met.append(self.guest.frozen)
            end()
            return original(*args)

        self.useFixture(fixtures.MonkeyPatch(DOMAIN % name, watch))

    def _end_guest(self) -> None:
        self.guest.frozen = False

    def _snapshot_during(self, state: str, reason: str,
                         **action: object) -> dict[str, typing.Any]:
        """Let another operation begin while volumes are snapshotted.

        :param state: of the server once both are done
        :param reason: what the record says
        :returns: the server
        """
        def act() -> None:
            self.assertTrue(self.guest.frozen)
            self.assertEqual(1, len(self.leases.read_all()[0]))
            self.admin_api.post_server_action(self.server['id'], action)
            self.assert_released()

        self.cinder.on_snapshot = act
        self._assert_lost(self.ask_for_image(self.server), reason)
        self.assertEqual(1, self.guest.calls.count('fsThaw'))
        settled: dict[str, typing.Any] = self._wait_for_state_change(
            self.server, state)
        return settled

    def _assert_lost(self, image_id: str, reason: str) -> None:
        record = self.record_of(image_id)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('was %s during' % reason, record['quiesce_reason'])

    def _assert_met_thawed(self) -> None:
        self.assertEqual([False], self.met[:1])

    def test_pause(self) -> None:
        """A pause meets a thawed guest."""
        self._watch('suspend')
        self._snapshot_during('PAUSED', 'paused', pause=None)
        self._assert_met_thawed()

    def test_suspend(self) -> None:
        """A suspension meets a thawed guest."""
        self._watch('managedSave')
        self._snapshot_during('SUSPENDED', 'suspended', suspend=None)
        self._assert_met_thawed()

    def test_soft_stop(self) -> None:
        """A guest that is asked to shut down is thawed."""
        self._watch('shutdown')
        stop = {'os-stop': None}
        self._snapshot_during('SHUTOFF', 'stopped', **stop)
        self._assert_met_thawed()

    def test_soft_reboot(self) -> None:
        """A guest that is asked to reboot is thawed."""
        self._watch('shutdown')
        self._snapshot_during('ACTIVE', 'rebooted', reboot={'type': 'SOFT'})
        self._assert_met_thawed()

    def test_hard_reboot(self) -> None:
        """A hard reboot ends the freeze by itself."""
        self._watch('destroy', self._end_guest)
        self._snapshot_during('ACTIVE', 'shut off hard',
                              reboot={'type': 'HARD'})
        self.assertEqual([True], self.met[:1])

    def test_rescue(self) -> None:
        """A guest that is shut down for its rescue is thawed."""
        image_id = self.glance.create(None, {
            'name': 'rescue', 'container_format': 'bare',
            'disk_format': 'raw', 'min_ram': 0, 'min_disk': 0,
            'visibility': 'public', 'properties': RESCUE})['id']
        os.makedirs(os.path.join(conf.CONF.instances_path, self.server['id']))
        self._watch('shutdown')
        # Nova stops the guest before it rescues it.
        self._snapshot_during('RESCUE', 'stopped', rescue={
            'adminPass': 'secret', 'rescue_image_ref': image_id})
        self._assert_met_thawed()

    def _delay_deletion(self) -> threading.Event:
        """Have Nova forget the instance's volumes no sooner than it may.

        The record goes to the image of these volumes.
        """
        is_over = threading.Event()
        self.addCleanup(is_over.set)
        complete = manager.ComputeManager._complete_deletion

        def wait(*args: object) -> None:
            is_over.wait(base.SOON)
            complete(*args)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.compute.manager.ComputeManager._complete_deletion', wait))
        return is_over

    def test_delete(self) -> None:
        """A deletion ends the freeze with the guest."""
        def end() -> None:
            self.guest.frozen = self.guest.defined = False

        def delete() -> None:
            self.assertTrue(self.guest.frozen)
            self.api.delete_server(self.server['id'])
            self.wait_until(lambda: not self.leases.read_all()[0],
                            'the lease outlived the instance')

        self._watch('destroy', end)
        is_recorded = self._delay_deletion()
        self.cinder.on_snapshot = delete
        self._assert_lost(self.ask_for_image(self.server), 'shut off hard')
        self.assertEqual([True], self.met[:1])
        is_recorded.set()
        self._wait_until_deleted(self.server)

    def test_cold_migration(self) -> None:
        """A guest that is shut down for its migration is thawed."""
        self.start_compute('compute2')

        def move(*args: object, **kwargs: object) -> str:
            self.met.append(self.guest.frozen)
            return '{}'

        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver.'
            'migrate_disk_and_power_off', move))
        self.flags(allow_resize_to_same_host=False)
        server = self._snapshot_during(
            'VERIFY_RESIZE', 'migrated', migrate=None)
        self._assert_met_thawed()
        self.assertEqual('compute2', server['OS-EXT-SRV-ATTR:host'])

    def test_live_migration(self) -> None:
        """A guest that is migrated is thawed where it comes from.

        Nova casts the thaw to the host that the guest has left.
        """
        self._prepare_migration()
        live = {'os-migrateLive': {'host': None, 'block_migration': 'auto'}}
        server = self._snapshot_during('ACTIVE', 'migrated', **live)
        self._assert_met_thawed()
        self._wait_for_migration_status(server, ['completed'])
        self.assertEqual('compute2', self.admin_api.get_server(
            server['id'])['OS-EXT-SRV-ATTR:host'])


    def _migrate(self, domain: typing.Any, uri: str, params: dict[str, str],
                 flags: int) -> None:
        self.met.append(self.guest.frozen)
        target = self.computes['compute2'].driver._host
        target.get_connection().createXML(params['destination_xml'], 0)
        domain.complete_job()

    def _live_migrate(self, status: str) -> str:
        """Migrate the server; the host that it is on after that."""
        self.admin_api.post_server_action(self.server['id'], {
            'os-migrateLive': {'host': None, 'block_migration': 'auto'}})
        self._wait_for_migration_status(self.server, [status])
        server = self._wait_for_state_change(self.server, 'ACTIVE')
        return str(server['OS-EXT-SRV-ATTR:host'])

    def _prepare_migration(self) -> None:
        self.start_compute('compute2')
        self.useFixture(fixtures.MonkeyPatch(
            DOMAIN % 'migrateToURI3', self._migrate))

    def test_live_migration_while_a_freeze_may_land(self) -> None:
        """The guest stays: on another host, nobody would thaw it."""
        self._prepare_migration()
        self.guest.after['fsInfo'] = lambda: setattr(
            self.guest, 'hanging', True)
        self.assertIn('not frozen within', self.record_of(
            self.ask_for_image(self.server))['quiesce_reason'])
        self.assertEqual('compute1', self._live_migrate('error'))
        self.assertEqual([], self.met)
        self.assertIn('their thaw is not confirmed',
                      self.stdlog.logger.output)
        self.guest.after.clear()
        self.guest.land()
        self.assert_released()
        self.assertEqual('compute2', self._live_migrate('completed'))
        self.assertEqual([False], self.met)

    def test_guest_that_is_frozen_after_the_check(self) -> None:
        """It stays, and is not put into an error state."""
        self._prepare_migration()
        answers = [False, True]
        self.useFixture(fixtures.MonkeyPatch(
            'nova_quiesce.freeze.freezer.Freezer.may_be_frozen',
            lambda freezer, instance_uuid: answers.pop(0)))
        self.assertEqual('compute1', self._live_migrate('failed'))
        self.assertEqual([], self.met)
        self.assertEqual([], answers)
        self.assertIn('is not migrated', self.stdlog.logger.output)

    def test_freeze_while_a_live_migration_is_under_way(self) -> None:
        """It is refused before anything is sent."""
        self._prepare_migration()
        instance = objects.Instance.get_by_uuid(
            context.get_admin_context(), self.server['id'])

        def migrate(*args: typing.Any, **kwargs: typing.Any) -> None:
            asking = context.get_admin_context()
            asking.request_id = 'req-during-migration'
            self.driver.quiesce(asking, instance, None)
            self._migrate(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            DOMAIN % 'migrateToURI3', migrate))
        self.assertEqual('compute2', self._live_migrate('completed'))
        self.assertEqual([False], self.met)
        self.assertNotIn('fsFreeze', self.guest.calls)
        self.assertIn('is being live-migrated', self.stdlog.logger.output)

    def test_guest_that_arrives_frozen(self) -> None:
        """It is thawed where it is."""
        self._prepare_migration()
        self.useFixture(fixtures.MonkeyPatch(
            DOMAIN % 'migrateToURI3', self._migrate_frozen))
        self.assertEqual('compute2', self._live_migrate('completed'))
        self.wait_until(lambda: not self.guest.frozen,
                        'it is frozen where it is')
        self.assert_released()
        self.assertEqual(1, self.guest.calls.count('fsThaw'))

    def _migrate_frozen(self, *args: typing.Any,
                        **kwargs: typing.Any) -> None:
        self._migrate(*args, **kwargs)
        self.guest.frozen = True


class RequiredTest(base.QuiesceTestBase):

    # nova-api does not wait for the compute service.
    CAST_AS_CALL = False

    def test_pause_of_what_is_required(self) -> None:
        """Nothing is left of a snapshot that has to be consistent."""
        server = self.boot_from_volume(base.QUIESCED)

        def pause() -> None:
            self.api.post_server_action(server['id'], {'pause': None})
            self.assert_released()

        self.cinder.on_snapshot = pause
        self.assert_put_away(
            server, self.ask_for_image(server), 'was paused during')
        self._wait_for_state_change(server, 'PAUSED')


class VolumeOperationTest(base.QuiesceTestBase):
    """Operations on a volume while all of them are snapshotted."""

    CAST_AS_CALL = False

    def setUp(self) -> None:
        super().setUp()
        self.server = self.boot_from_volume(
            base.PREFERRED, cinder.DATA_VOLUME)
        #: Whether the guest was frozen as Nova's driver was called.
        self.met: list[bool] = []

    def _snapshot_during(self, method: str, operation: str,
                         act: abc.Callable[[], object]) -> None:
        """Let an operation begin while volumes are snapshotted.

        :param method: of Nova's driver, which carries it out
        :param operation: what the record calls it
        :param act: asks for it
        """
        # Nova's fake of a domain has no disks that could be changed.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver.%s' % method,
            lambda *args, **kwargs: self.met.append(self.guest.frozen)))

        def begin() -> None:
            self.cinder.on_snapshot = lambda: None
            self.assertTrue(self.guest.frozen)
            act()
            self.assert_released()

        self.cinder.on_snapshot = begin
        record = self.record_of(self.ask_for_image(self.server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('a volume of the instance was %s' % operation,
                      record['quiesce_reason'])
        self.wait_until(lambda: bool(self.met), 'it was not carried out')
        self.assertEqual([False], self.met)
        self.assertEqual(1, self.guest.calls.count('fsThaw'))

    def _call(self, method: str, *arguments: object) -> None:
        # As Nova's compute manager calls it, in a thread of its own.
        instance = objects.Instance.get_by_uuid(
            context.get_admin_context(), self.server['id'])
        thread = threading.Thread(target=getattr(self.driver, method), args=(
            *arguments[:-1], instance, arguments[-1]))
        thread.start()
        self.addCleanup(thread.join)

    def test_detach(self) -> None:
        """A volume is detached from a thawed guest."""
        self._snapshot_during('detach_volume', 'detached', lambda: self._call(
            'detach_volume', context.get_admin_context(), {}, '/dev/vdb'))

    def test_swap(self) -> None:
        """A volume is replaced in a thawed guest."""
        self._snapshot_during('swap_volume', 'migrated', lambda: self._call(
            'swap_volume', context.get_admin_context(), {}, {}, '/dev/vdb'))

    def test_extend(self) -> None:
        """A volume grows in a thawed guest."""
        self._snapshot_during('extend_volume', 'extended', lambda: self._call(
            'extend_volume', context.get_admin_context(), {}, 2 << 30))
