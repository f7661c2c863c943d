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
import importlib
import io
import os
import threading
import time
import typing
from unittest import mock
import warnings

import fixtures
import glanceclient.exc
import libvirt
from nova import conf
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional.api import client
from nova.tests.functional.libvirt import base
from sqlalchemy import exc

from nova_quiesce import conf as quiesce_conf
from nova_quiesce import fixture
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import lease_directory
from tests.functional import cinder
from tests.functional import hypervisor
from tests.functional import native

QUIESCED = {'hw_qemu_guest_agent': 'yes', 'os_require_quiesce': 'yes'}
PREFERRED = {'hw_qemu_guest_agent': 'yes'}
#: Seconds by which what is waited for has to happen.
SOON = 20
#: What an image says that is itself a snapshot.
PARENT = {'quiesce_consistency': 'filesystem', 'quiesce_reason': 'parent',
          'quiesce_frozen_at': '2020-01-01T00:00:00.000+00:00',
          'quiesce_window_ms': '1', 'quiesce_filesystems': '7'}


class QuiesceTestBase(base.ServersTestBase):  # type: ignore[misc]
    """One compute service, and the fake guests that it runs.

    :ivar guest: what is behind each domain that has no guest of its own
    :ivar guests: those that have, by the instance's UUID
    """

    microversion = 'latest'
    # Up to 2025.2, a snapshot's errors would reach its request otherwise.
    CAST_AS_CALL = False
    #: Whether the hypervisor has backup jobs; else disks are mirrored.
    has_backup_jobs = False

    def setUp(self) -> None:
        if native.are_lacking():
            self.useFixture(native.NativeThreadsFixture(self.id()))
        self._make_routes_once()
        super().setUp()
        # Nova makes an error of it, for its own pinned version.
        warnings.filterwarnings('ignore', category=exc.SADeprecationWarning)
        self.guest = fixture.FakeDomain()
        self.guest.has_backup_jobs = self.has_backup_jobs
        self.disk_xml = hypervisor.DISK
        self.guests: dict[str, fixture.FakeDomain] = {}
        leases = self.useFixture(fixtures.TempDir()).path + '/leases'
        self.leases = lease_directory.LeaseDirectory(leases)
        self.addCleanup(self._assert_nothing_left)
        self.hypervisor = self.useFixture(hypervisor.GuestsFixture(
            lambda uuid: self.guests.get(uuid, self.guest),
            lambda: self.disk_xml))
        #: What the disks show of writes to them.
        self.trace: dict[str, str | int] | None = {'written': 1}
        self.useFixture(fixtures.MonkeyPatch(
            'nova_quiesce.shutdown.traces.of', lambda path: self.trace))
        self.useFixture(fixtures.MonkeyPatch(
            'nova_quiesce.freeze.thawing.LOST_COMMAND', 0.5))
        # Another connection of Nova's fake would have other domains.
        self.useFixture(fixtures.MonkeyPatch(
            'nova_quiesce.compute_host.ComputeHost.connect',
            lambda host: host.hypervisor.get_connection()))
        self.frozen_at_cut: list[bool] = []
        #: Called as a record is written onto an image.
        self.on_record: abc.Callable[[str], object] = lambda image_id: None
        #: Whether Glance's policy lets a project deactivate its images.
        self.may_deactivate = True
        #: The image that the servers are booted from.
        self.parent_id = ''
        self.on_abort: abc.Callable[[], None] = lambda: None
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.blockJobAbort',
            lambda domain, disk, flags: self._abort()))
        self._fake_disk_tools()
        self.cinder = self.useFixture(cinder.CinderFixture(self))
        self._date_images()
        self._fake_activation()
        quiesce_conf.register_opts(conf.CONF)
        # The guard would not find the fake hypervisor.
        self.flags(lease_directory=leases, guard='off', group='quiesce')
        self.flags(thaw_timeout=1, thaw_retry_interval=0.1,
                   record_timeout=10, group='quiesce')
        self.start_compute()
        shutdowns = self.driver._compute_host.shutdowns
        self.hypervisor.hear = shutdowns.events.receive
        self.addCleanup(self._stop_recording)
        self.addCleanup(lambda: self.driver._compute_host.shutdowns.stop())

    def _make_routes_once(self) -> None:
        """Have nova-api make its routes for one version of two.

        They are the same for both, and take a seventh of a test's time.
        """
        # Not imported above: Nova's tests have to be first.
        routes = importlib.import_module('nova.api.openstack.compute.routes')
        made: list[object] = []

        def once(*_configuration: object, **_local: object) -> object:
            if not made:
                made.append(routes.APIRouterV21())
            return made[0]

        self.useFixture(fixtures.MonkeyPatch(
            'nova.api.openstack.compute.routes.APIRouterV21.factory', once))

    def _assert_nothing_left(self) -> None:
        self.assertFalse(self.guest.frozen)
        self.assertEqual(([], []), self.leases.read_all())

    def _stop_recording(self) -> None:
        # They would go on in the next test, whose Glance is another one.
        self.driver._compute_host.requests.stop()
        # One that is about to start is listed and cannot be joined yet.
        self.wait_until(
            lambda: not any(thread.name.startswith('record-')
                            for thread in threading.enumerate()),
            'a record is still being made')

    def _setup_compute_service(self) -> None:
        self.flags(compute_driver='quiesce.QuiesceLibvirtDriver')

    @property
    def driver(self) -> typing.Any:
        """The driver of the one compute service."""
        return self.computes['compute1'].driver

    def duties(self) -> list[duties.Duty]:
        """The duties of requests, as they are on the disk."""
        found, problems = duties.DutyDirectory(
            os.path.join(self.leases.path, 'duties')).read_all()
        self.assertEqual([], problems)
        return found

    def persistent_domains(self) -> int:
        """Count the domains that are defined."""
        domains = self.driver._host.get_connection()._vms.values()
        return sum(1 for domain in domains if domain.isPersistent())

    def _abort(self) -> None:
        self.frozen_at_cut.append(self.guest.frozen)
        self.on_abort()

    def _date_images(self) -> None:
        # Nova's fixture dates all images alike, and years ago, or does not
        # date them, and lists them in the order in which they were made.
        glance = nova_fixtures.GlanceFixture
        create, detail = glance.create, glance.detail

        def create_now(glance: typing.Any, context: object,
                       metadata: dict[str, object],
                       data: object = None) -> object:
            now = datetime.datetime.now(datetime.UTC)
            metadata.update(created_at=now, updated_at=now)
            return create(glance, context, metadata, data)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.GlanceFixture.create', create_now))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.GlanceFixture.detail',
            lambda *args, **kwargs: detail(*args, **kwargs)[::-1]))

    def _fake_activation(self) -> None:
        # Nova's fixture stands in for Nova's API of images alone.
        self.useFixture(fixtures.MonkeyPatch(
            'nova_quiesce.record.glance._call',
            lambda context, method, *arguments, **keywords: getattr(
                self, '_%s_image' % method)(*arguments, **keywords)))

    def _get_image(self, image_id: str) -> dict[str, typing.Any]:
        if image_id not in self.glance.images:
            raise glanceclient.exc.HTTPNotFound()
        image = self.glance.images[image_id]
        return {**image['properties'], 'id': image_id,
                'status': image['status']}

    def _list_image(self, filters: dict[str, object],
                    **_order: object) -> list[dict[str, typing.Any]]:
        return [self._get_image(image_id) for image_id, image
                in list(self.glance.images.items())
                if bool(image.get('os_hidden')) ==
                bool(filters.get('os_hidden'))]

    def _deactivate_image(self, image_id: str) -> None:
        if not self.may_deactivate:
            raise glanceclient.exc.HTTPForbidden('planned')
        self.glance.images[image_id]['status'] = 'deactivated'

    def _update_image(self, image_id: str, os_hidden: bool = False,
                      remove_props: abc.Iterable[str] = (),
                      **properties: str) -> None:
        image = self.glance.images[image_id]
        if os_hidden:
            image['os_hidden'] = True
        for name in remove_props:
            del image['properties'][name]
        self.on_record(image_id)
        image['properties'].update(properties)

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

    def boot_from_volume(self, properties: dict[str, str],
                         *others: str) -> dict[str, typing.Any]:
        """An active volume-backed server.

        :param properties: what the image says that its volume was made of
        :param others: ids of the volumes that it has beside that one
        """
        self._create_parent(properties)
        self.cinder.image_properties = {
            **properties, 'image_id': self.parent_id}
        request = self._build_server(networks='none')
        request.pop('imageRef')
        volumes = (self.cinder.IMAGE_BACKED_VOL, *others)
        request['block_device_mapping_v2'] = [
            {'boot_index': index, 'source_type': 'volume',
             'uuid': volume, 'destination_type': 'volume'}
            for index, volume in enumerate(volumes)]
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

    def fault_of(self, server: dict[str, typing.Any],
                 asked: str = 'createImage') -> str:
        """Read what the tenant is told of failed snapshots.

        :param asked: the action that they were part of
        """
        actions = [self.api.get_instance_action_details(
            server['id'], action['request_id']) for action
            in self.api.get_instance_actions(server['id'])
            if action['action'] == asked]
        return str([event['event'] for action in actions
                    for event in action['events']
                    if event['result'] == 'Error'])

    def domain_of(self, server: dict[str, typing.Any]) -> typing.Any:
        """A server's domain, of Nova's fake of libvirt."""
        return self.driver._host.get_connection().lookupByUUIDString(
            server['id'])

    def end_guest(self, server: dict[str, typing.Any], reason: int,
                  begun_by: int | None = None) -> None:
        """Have a guest end, with nobody asking Nova.

        :param reason: libvirt's for its being off then
        :param begun_by: what libvirt tells before that, if it does: who had
            it end
        """
        self.hypervisor.end(
            self.domain_of(server), self.guest, reason, begun_by)

    def properties_of(self, image_id: str) -> dict[str, str]:
        """The record on an image."""
        properties: dict[str, str] = self.glance.images[image_id][
            'properties']
        return {key: value for key, value in properties.items()
                if key.startswith('quiesce_')}

    def record_of(self, image_id: str) -> dict[str, str]:
        """The record of a volume-backed snapshot.

        It is written a moment after the request.
        """
        self.wait_until(lambda: bool(self.properties_of(image_id)),
                        'no record appeared on the image')
        return self.properties_of(image_id)

    def assert_put_away(self, server: dict[str, typing.Any], image_id: str,
                        reason: str) -> None:
        """A volume-backed snapshot is there, and nobody takes it for good."""
        self.wait_until(lambda: self.glance.images[image_id]['status'] ==
                        'deactivated', 'the image can still be booted')
        record = self.record_of(image_id)
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn(reason, record['quiesce_reason'])
        self.assertTrue(self.cinder.volume_snapshots)
        self.assertIn(reason, self.fault_of(server))

    def wait_until(self, condition: abc.Callable[[], bool],
                   failure: str) -> None:
        """Wait for something that has to happen soon.

        :param failure: what is wrong if it does not
        """
        end = time.monotonic() + SOON
        while not condition():
            if time.monotonic() > end:
                raise self.failureException(failure)
            time.sleep(0.05)

    def commands(self, guest: fixture.FakeDomain | None = None) -> list[str]:
        """List the commands sent to the agent, but for questions at the end.

        :param guest: whose; that of all instances by default
        """
        calls = (guest or self.guest).calls
        return [name for number, name in enumerate(calls) if name in (
            'fsFreeze', 'fsThaw') or 'fsFreeze' not in calls[:number]]

    def assert_released(self, guest: fixture.FakeDomain | None = None) -> None:
        """Wait until a freeze has ended, and see what is left of it.

        :param guest: which was frozen; that of all instances by default
        """
        guest = guest or self.guest
        self.wait_until(lambda: not self.leases.read_all()[0],
                        'a lease is left: the guest was not thawed')
        self.assertFalse(guest.frozen)
        self.assertEqual(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK,
                         guest.timeout)

    def assert_failed(self, server: dict[str, typing.Any], image_id: str,
                      reason: str) -> None:
        """An image-backed snapshot failed, and the tenant is told why."""
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn(reason, self.fault_of(server))
        self.assertEqual('ACTIVE', self.api.get_server(
            server['id'])['status'])
        self.assertFalse(self.guest.frozen)

    def assert_refused(self, server: dict[str, typing.Any],
                       reason: str) -> None:
        """A volume-backed snapshot is refused, and leaves nothing behind."""
        self.assertIn(reason, self.assert_answered(409, server))
        self.assertEqual({}, self.cinder.volume_snapshots)

    def assert_answered(self, code: int,
                        server: dict[str, typing.Any]) -> str:
        """A request for a volume-backed snapshot fails, and makes no image.

        :param code: with which HTTP code
        :returns: the text
        """
        images = set(self.glance.images)
        error = self.assertRaises(client.OpenStackApiException,
                                  self.ask_for_image, server)
        self.assertEqual(code, error.response.status_code)
        self.assertEqual(images, set(self.glance.images))
        return str(error.response.text)
