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

"""Nova's own API, conductor and compute in one process, with this driver.

What is faked is the hypervisor, by Nova's fixtures, and the guest behind it,
by this project's own.
"""

from collections import abc
import datetime
import io
import threading
import typing
from unittest import mock
import warnings

import fixtures
from nova import conf
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as libvirt_fixture
from nova.tests.functional.libvirt import base
from sqlalchemy import exc

from nova_quiesce import conf as quiesce_conf
from nova_quiesce import fixture
from nova_quiesce import lease_directory

QUIESCED = {'hw_qemu_guest_agent': 'yes', 'os_require_quiesce': 'yes'}
PREFERRED = {'hw_qemu_guest_agent': 'yes'}
#: What an image says that is itself a snapshot.
PARENT = {'quiesce_consistency': 'filesystem', 'quiesce_reason': 'parent',
          'quiesce_frozen_at': '2020-01-01T00:00:00.000+00:00',
          'quiesce_window_ms': '1', 'quiesce_filesystems': '7'}
CHANNEL = ("<channel type='unix'>"
           "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>")
DISK = ("<disk type='file' device='disk'><source file='/disk'/>"
        "<target dev='vda'/></disk>")


class CinderFixture(nova_fixtures.CinderFixture):  # type: ignore[misc]
    """Cinder, with what the driver reads and Nova's own tests do not need.

    :ivar image_properties: of the image that each volume was made of
    :ivar on_snapshot: called as Cinder is asked for a snapshot
    """

    def __init__(self, test: object) -> None:
        super().__init__(test)
        self.image_properties: dict[str, str] = {}
        self.on_snapshot: abc.Callable[[], None] = lambda: None

    def fake_get(self, *args: object, **kwargs: object) -> dict[str, object]:
        """Show a volume."""
        volume: dict[str, object] = super().fake_get(*args, **kwargs)
        volume['display_description'] = ''
        volume['volume_image_metadata'] = dict(self.image_properties)
        return volume

    def fake_create_snapshot_force(self, *args: object) -> dict[str, object]:
        """Start a snapshot."""
        self.on_snapshot()
        snapshot: dict[str, object] = super().fake_create_snapshot_force(*args)
        # Cinder tells UTC, and does not say so.
        snapshot['created_at'] = datetime.datetime.now(
            datetime.UTC).replace(tzinfo=None).isoformat()
        return snapshot


class QuiesceTestBase(base.ServersTestBase):  # type: ignore[misc]
    """One compute service whose guests all share one fake agent."""

    microversion = 'latest'
    #: Whether the hypervisor has backup jobs; else disks are mirrored.
    has_backup_jobs = False

    def setUp(self) -> None:
        super().setUp()
        # Nova makes an error of it, for its own pinned version.
        warnings.filterwarnings('ignore', category=exc.SADeprecationWarning)
        self.guest = fixture.FakeDomain()
        self.disk_xml = DISK
        leases = self.useFixture(fixtures.TempDir()).path + '/leases'
        self.leases = lease_directory.LeaseDirectory(leases)
        self.addCleanup(self._assert_nothing_left)
        self.guest.has_backup_jobs = self.has_backup_jobs
        for name in ('fsInfo', 'fsFreeze', 'fsThaw', 'isActive',
                     'agentSetResponseTimeout', 'backupBegin',
                     'backupGetXMLDesc', 'abortJob', 'state',
                     'hasManagedSaveImage', 'connect'):
            self._pass_on(name)
        self.frozen_at_cut: list[bool] = []
        #: The image that the servers are booted from.
        self.parent_id = ''
        self._tell_channel()
        self.on_abort: abc.Callable[[], None] = lambda: None
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.blockJobAbort',
            lambda domain, disk, flags: self._abort()))
        self._fake_disk_tools()
        self.cinder = self.useFixture(CinderFixture(self))
        # Nova's fixture dates all images alike, and years ago.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.GlanceFixture.timestamp',
            property(lambda glance: datetime.datetime.now(datetime.UTC))))
        quiesce_conf.register_opts(conf.CONF)
        # The guard would not find the fake hypervisor.
        self.flags(lease_directory=leases, guard='off', group='quiesce')
        self.flags(thaw_timeout=1, thaw_retry_interval=0.1,
                   record_timeout=10, group='quiesce')
        self.start_compute()
        self.addCleanup(self._end_recordings)

    def _assert_nothing_left(self) -> None:
        self.assertFalse(self.guest.frozen)
        self.assertEqual(([], []), self.leases.read_all())

    def _end_recordings(self) -> None:
        # They would go on in the next test, whose Glance is another one.
        self.driver._recordings.stop()
        for thread in threading.enumerate():
            if thread.name.startswith('record-'):
                thread.join()

    def _setup_compute_service(self) -> None:
        self.flags(compute_driver='quiesce.QuiesceLibvirtDriver')

    @property
    def driver(self) -> typing.Any:
        """The driver of the one compute service."""
        return self.computes['compute1'].driver

    def _pass_on(self, name: str) -> None:
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.%s' % name,
            lambda domain, *args: getattr(self.guest, name)(*args)))

    def _tell_channel(self) -> None:
        # Nova's fake forgets the channels that a domain was defined with.
        xml_desc = libvirt_fixture.Domain.XMLDesc

        def tell(domain: typing.Any, flags: int) -> str:
            channels = CHANNEL if self.guest.configured else ''
            described: str = xml_desc(domain, flags)
            return described.replace(
                '</devices>', channels + self.disk_xml + '</devices>')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.XMLDesc', tell))

    def _abort(self) -> None:
        self.frozen_at_cut.append(self.guest.frozen)
        self.on_abort()

    def _fake_disk_tools(self) -> None:
        # Of the live snapshot only the files are faked.
        self.disk_tools: dict[str, mock.Mock] = {}
        for name, answer in (
                ('get_disk_size', 1 << 30), ('get_disk_backing_file', '/base'),
                ('create_image', None), ('extract_snapshot', None),
                ('find_disk', ('/disk', 'qcow2'))):
            self.disk_tools[name] = self.useFixture(fixtures.MockPatch(
                'nova.virt.libvirt.utils.%s' % name,
                return_value=answer)).mock
        self.chown = self.useFixture(
            fixtures.MockPatch('nova.privsep.path.chown')).mock
        self.mock_file_open.side_effect = (
            lambda *args, **kwargs: io.BytesIO(b'bits'))

    def boot(self, properties: dict[str, str]) -> dict[str, typing.Any]:
        """An active image-backed server.

        :param properties: what its image says
        """
        self._create_parent(properties)
        server: dict[str, typing.Any] = self._create_server(
            image_uuid=self.parent_id, networks='none')
        return server

    def _create_parent(self, properties: dict[str, str]) -> None:
        self.parent_id = self.glance.create(None, {
            'name': 'guest', 'container_format': 'bare',
            'disk_format': 'qcow2', 'min_ram': 0, 'min_disk': 0,
            'visibility': 'public', 'properties': dict(properties)})['id']

    def boot_from_volume(
            self, properties: dict[str, str]) -> dict[str, typing.Any]:
        """An active volume-backed server.

        :param properties: what the image says that its volume was made of
        """
        self._create_parent(properties)
        self.cinder.image_properties = {
            **properties, 'image_id': self.parent_id}
        request = self._build_server(networks='none')
        request.pop('imageRef')
        request['block_device_mapping_v2'] = [{
            'boot_index': 0, 'source_type': 'volume',
            'uuid': self.cinder.IMAGE_BACKED_VOL,
            'destination_type': 'volume'}]
        server = self.api.post_server({'server': request})
        active: dict[str, typing.Any] = self._wait_for_state_change(
            server, 'ACTIVE')
        return active

    def set_on_parent(self, **properties: str) -> None:
        """Change the image that the servers were booted from."""
        self.glance.images[self.parent_id]['properties'].update(properties)

    def create_image(self, server: dict[str, typing.Any],
                     name: str = 'snapshot') -> str:
        """Ask for a snapshot, and wait until Nova is done with it.

        :returns: the image's id
        """
        image_id = self.ask_for_image(server, name)
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None})
        return image_id

    def ask_for_image(self, server: dict[str, typing.Any],
                      name: str = 'snapshot') -> str:
        """Ask for a snapshot.

        :returns: the image's id
        """
        answer = self.api.post_server_action(
            server['id'], {'createImage': {'name': name}})
        return str(answer['image_id'])

    def fault_of(self, server: dict[str, typing.Any]) -> str:
        """What the tenant is told of a failed snapshot."""
        actions = self.api.get_instance_actions(server['id'])
        action = next(action for action in actions
                      if action['action'] == 'createImage')
        details = self.api.get_instance_action_details(
            server['id'], action['request_id'])
        return str([event['event'] for event in details['events']
                    if event['result'] == 'Error'])

    def properties_of(self, image_id: str) -> dict[str, str]:
        """The record on an image."""
        properties: dict[str, str] = self.glance.images[image_id][
            'properties']
        return {key: value for key, value in properties.items()
                if key.startswith('quiesce_')}
