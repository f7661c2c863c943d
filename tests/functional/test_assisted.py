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

"""Snapshots of volumes that Cinder cannot make alone, end to end in Nova."""

from collections import abc
import json
import typing
from urllib import parse

import fixtures
import libvirt
from nova import conf
from nova import context as nova_context
from nova import objects
from nova.tests.functional.api import client

from nova_quiesce import fixture
from tests.functional import base

CALLS = ['fsInfo', 'fsFreeze', 'fsThaw']
POLICY = 'os_compute_api:os-assisted-volume-snapshots:%s'
DISK = ("<disk type='file' device='disk'><source file='/mnt/volume'/>"
        "<target dev='vda'/><serial>%s</serial></disk>")
#: What Cinder is told of a snapshot that is made, and of one that is not.
BACKUP = ("<domainbackup mode='push'><disks><disk name='vda' backup='yes' "
          "type='file'/></disks></domainbackup>")
MADE = 'creating'
FAILED = 'error'


class AssistedTest(base.QuiesceTestBase):

    # The API has Cinder's snapshots cast, and nothing tells of their end.
    CAST_AS_CALL = True

    def setUp(self) -> None:
        super().setUp()
        self.policy.set_rules({POLICY % 'create': '@',
                               POLICY % 'delete': '@'}, overwrite=False)
        if 'response_validation' in conf.CONF.api:
            # As in production: 2025.1's own answer would not pass.
            self.flags(response_validation='warn', group='api')
        self.volume_id = self.cinder.IMAGE_BACKED_VOL
        self.disk_xml = DISK % self.volume_id
        #: The guest's state at each cut, and libvirt's errors to come.
        self.cuts: list[bool] = []
        self.on_cut: abc.Callable[[], None] = lambda: None
        self.refusals: list[Exception] = []
        self.statuses: list[str] = []
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.snapshotCreateXML',
            lambda domain, xml, flags: self._cut(flags)))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.update_snapshot_status',
            lambda api, context, snapshot_id, status: self.statuses.append(
                status)))

    def _cut(self, flags: int) -> None:
        self.assertFalse(flags & libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
        self.cuts.append(self.guest.frozen)
        self.on_cut()
        if self.refusals:
            raise self.refusals.pop()

    def _data(self, server: dict[str, typing.Any]) -> typing.Any:
        """Read what Nova has of the connection to the server's volume."""
        return json.loads(self._bdm(server).connection_info)['data']

    def _connect(self, server: dict[str, typing.Any],
                 **data: str) -> None:
        bdm = self._bdm(server)
        bdm.connection_info = json.dumps(
            {**json.loads(bdm.connection_info), 'data': data})
        bdm.save()

    def _bdm(self, server: dict[str, typing.Any]) -> typing.Any:
        return objects.BlockDeviceMapping.get_by_volume_and_instance(
            nova_context.get_admin_context(), self.volume_id, server['id'])

    def _snapshot(self) -> None:
        """Ask as Cinder does."""
        self.api.api_post('/os-assisted-volume-snapshots', {'snapshot': {
            'volume_id': self.volume_id, 'create_info': {
                'snapshot_id': self.volume_id, 'type': 'qcow2',
                'new_file': 'new'}}})

    def _delete_snapshot(self) -> None:
        """Ask as Cinder does."""
        self.api.api_delete('/os-assisted-volume-snapshots/%s?%s' % (
            self.volume_id, parse.urlencode({'delete_info': json.dumps(
                {'volume_id': self.volume_id})})))

    def _fail(self) -> str:
        """Ask, and see that Cinder is told of a failure; the log."""
        # A cast in production: Cinder sees the status alone.
        self.assertRaises(client.OpenStackApiException, self._snapshot)
        self.assertEqual([FAILED], self.statuses)
        self.assert_released()
        return str(self.stdlog.logger.output)

    def _assert_made(self, *cuts: bool) -> None:
        self.assertEqual(list(cuts), self.cuts)
        self.assertEqual([MADE], self.statuses)
        self.assert_released()

    def test_required_and_healthy(self) -> None:
        self.boot_from_volume(base.QUIESCED)
        self._snapshot()
        self._assert_made(True)
        self.assertEqual(CALLS, self.guest.calls)
        self.assertIn('has consistency level filesystem',
                      self.stdlog.logger.output)

    def test_cut_that_hangs(self) -> None:
        """nova-compute thaws at the deadline, while libvirt is at it."""
        self.flags(max_freeze_time=1, group='quiesce')
        self.on_cut = lambda: self.wait_until(
            lambda: not self.guest.frozen, 'the deadline passed')
        self.boot_from_volume(base.QUIESCED)
        self._snapshot()
        self._assert_made(True)
        self.assertEqual(CALLS, self.guest.calls)
        self.assertIn('is kept although quiesce is required',
                      self.stdlog.logger.output)
        self.assertIn('at its deadline of 1 s', self.stdlog.logger.output)

    def test_started_again_at_once(self) -> None:
        """Nova asks Cinder for the file's name later on."""
        server = self.boot_from_volume(base.QUIESCED)
        self._stop_server(server)
        self._connect(server, name='old', format='raw', export='server:/it')
        files: list[object] = []
        self.useFixture(fixtures.MonkeyPatch(
            'nova.volume.cinder.API.update_snapshot_status',
            lambda *args: files.append(self._data(server))))
        self._snapshot()
        self.assertEqual([{'name': 'new', 'format': 'qcow2',
                           'export': 'server:/it'}], files)

    def test_required_and_dead_agent(self) -> None:
        self.boot_from_volume(base.QUIESCED)
        self.guest.connected = False
        self.assertIn('install and start', self._fail())
        self.assertEqual([], self.cuts)
        self.assertNotIn('fsFreeze', self.guest.calls)

    def test_required_and_failing_hook(self) -> None:
        self.boot_from_volume(base.QUIESCED)
        self.guest.errors['fsFreeze'] = [fixture.hook_failure('freeze')]
        self.assertIn('status 1', self._fail())
        self.assertEqual([], self.cuts)

    def test_required_since_it_was_booted(self) -> None:
        self.boot_from_volume(base.PREFERRED)
        self.set_on_parent(os_require_quiesce='yes')
        self.guest.connected = False
        self.assertIn('install and start', self._fail())
        self.assertEqual([], self.cuts)

    def test_preferred_and_dead_agent(self) -> None:
        self.boot_from_volume(base.PREFERRED)
        self.guest.connected = False
        self._snapshot()
        self._assert_made(False)
        self.assertIn('has consistency level crash: the guest agent is not '
                      'connected', self.stdlog.logger.output)

    def test_not_asked_for(self) -> None:
        self.boot_from_volume({})
        self._snapshot()
        self._assert_made(False)
        self.assertEqual([], self.guest.calls)

    def test_opted_out(self) -> None:
        """Nova would have libvirt freeze the guest: there is an agent."""
        self.boot_from_volume({**base.PREFERRED, 'os_skip_quiesce': 'yes'})
        self._snapshot()
        self._assert_made(False)
        self.assertEqual([], self.guest.calls)

    def test_required_and_shut_off(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        self._stop_server(server)
        self.guest.calls.clear()
        self._snapshot()
        self._assert_made(False)
        self.assertEqual([], self.guest.calls)
        self.assertIn('has consistency level offline',
                      self.stdlog.logger.output)

    def test_required_and_cut_off(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        self.end_guest(server, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
        self.assertIn('crashed, or was killed', self._fail())
        self.assertEqual([], self.cuts)

    def test_preferred_and_cut_off(self) -> None:
        server = self.boot_from_volume(base.PREFERRED)
        self.end_guest(server, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
        self._snapshot()
        self._assert_made(False)
        self.assertIn('has consistency level crash: the instance crashed',
                      self.stdlog.logger.output)

    def test_disk_that_is_rewritten_while_shut_off(self) -> None:
        """Each snapshot does that, and so does the end of each."""
        server = self.boot_from_volume(base.QUIESCED)
        self._stop_server(server)
        self.on_cut = self._rewrite
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver.volume_snapshot_delete',
            lambda *args: self._rewrite()))
        for _ in range(2):
            self._snapshot()
            self._delete_snapshot()
        self.assertEqual([False, False], self.cuts)
        self.assertEqual({'written': 5}, self.trace)
        self.assertEqual(2, self.stdlog.logger.output.count(
            'has consistency level offline'))

    def _rewrite(self) -> None:
        assert self.trace is not None
        self.trace = {'written': int(self.trace['written']) + 1}

    def test_required_and_paused(self) -> None:
        server = self.boot_from_volume(base.QUIESCED)
        self.api.post_server_action(server['id'], {'pause': None})
        self._wait_for_state_change(server, 'PAUSED')
        self.assertIn('resume it first', self._fail())
        self.assertEqual([], self.cuts)

    def test_freeze_that_was_lost(self) -> None:
        """The guest writes to the new file by then: Cinder must know it."""
        self.boot_from_volume(base.QUIESCED)
        self.guest.thaw_answer = 1
        self._snapshot()
        self._assert_made(True)
        self.assertIn('is kept although quiesce is required',
                      self.stdlog.logger.output)

    def _refuse(self, properties: dict[str, str]) -> None:
        self.boot_from_volume(properties)
        self.refusals.append(fixture.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, 'no space left'))
        self.assertIn('no space left', self._fail())
        self.assertEqual([True], self.cuts)
        self.assertEqual(CALLS, self.guest.calls)

    def test_required_and_libvirt_refuses(self) -> None:
        self._refuse(base.QUIESCED)

    def test_preferred_and_libvirt_refuses(self) -> None:
        """Nova tries again without a freeze, which was not the cause."""
        self._refuse(base.PREFERRED)

    def _refuse_beside(self, properties: dict[str, str],
                       reason: str) -> None:
        self.boot_from_volume(properties)
        self.assertIn(reason, self._fail())
        self.assertEqual([], self.cuts)
        self.assertNotIn('fsFreeze', self.guest.calls)

    def test_required_and_backed_up_by_others(self) -> None:
        self.guest.backup = BACKUP
        self._refuse_beside(base.QUIESCED, 'backup job is under way')
        self.assertEqual(BACKUP, self.guest.backup)

    def test_preferred_and_backed_up_by_others(self) -> None:
        self.guest.backup = BACKUP
        self._refuse_beside(base.PREFERRED, 'backup job is under way')
        self.assertEqual(BACKUP, self.guest.backup)

    def test_volume_is_being_copied(self) -> None:
        self.guest.block_jobs['vda'] = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
        self._refuse_beside(base.QUIESCED, 'another copy job is under way')

    def test_another_disk_is_being_copied(self) -> None:
        self.guest.block_jobs['vdb'] = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
        self.boot_from_volume(base.QUIESCED)
        self._snapshot()
        self._assert_made(True)

    # Inside the freeze of an image

    def _create_image(self, properties: dict[str, str]) -> dict[str, str]:
        server = self.boot_from_volume(properties)
        self.cinder.on_snapshot = self._snapshot
        return self.record_of(self.create_image(server))

    def test_image_and_required(self) -> None:
        record = self._create_image(base.QUIESCED)
        self._assert_made(True)
        self.assertEqual(CALLS, self.guest.calls)
        self.assertEqual('filesystem', record['quiesce_consistency'])

    def test_image_and_preferred_and_dead_agent(self) -> None:
        self.guest.connected = False
        record = self._create_image(base.PREFERRED)
        self._assert_made(False)
        self.assertEqual('crash', record['quiesce_consistency'])

    def test_image_and_backed_up_by_others(self) -> None:
        """libvirt would let it wait for 30 s, in the frozen guest."""
        server = self.boot_from_volume(base.QUIESCED)
        self.guest.backup = BACKUP
        told: list[str] = []
        self.cinder.on_snapshot = lambda: told.append(str(self.assertRaises(
            client.OpenStackApiException, self._snapshot)))
        self.create_image(server)
        self.assertEqual([FAILED], self.statuses)
        self.assertEqual([], self.cuts)
        self.assertIn('backup job is under way', self.stdlog.logger.output)
        self.assertEqual(BACKUP, self.guest.backup)

    def test_image_whose_freeze_ends_at_the_cut(self) -> None:
        def lapse(_domain: object, _xml: str, flags: int) -> None:
            self._cut(flags)
            held: typing.Any = self.driver._compute_host.freezer.spanning
            for instance_uuid in list(held._spans):
                held.lapse(instance_uuid, 'the test ended it')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.snapshotCreateXML', lapse))
        record = self._create_image(base.PREFERRED)
        self._assert_made(True)
        self.assertEqual(CALLS, self.guest.calls)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertEqual('the test ended it', record['quiesce_reason'])
        self.assertIn('was thawed while it was made',
                      self.stdlog.logger.output)
