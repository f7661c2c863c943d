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

"""What the scenarios have in common: servers, snapshots, and what they tell.

Everything here is what a tenant can do and see through the APIs.
"""

import datetime
import re
import time
import typing

from tempest.common import waiters
from tempest import config
from tempest.lib.common.utils import data_utils
from tempest.lib.common.utils import test_utils
from tempest.lib import exceptions as lib_exc
from tempest.scenario import manager

CONF = config.CONF

PREFERRED = {'hw_qemu_guest_agent': 'yes'}
REQUIRED = PREFERRED | {'os_require_quiesce': 'yes'}

#: The lines of a console that hold at least one of a guest's writer.
CONSOLE_LINES = 50
POLL_SECONDS = 1

Json = dict[str, typing.Any]


def written(console: str) -> int:
    """Read how far a guest's writer has come.

    :param console: the end of what the guest printed
    :returns: the number, 0 if there is none yet
    """
    numbers = re.findall(CONF.quiesce.progress_pattern, console)
    return int(numbers[-1]) if numbers else 0


class QuiesceScenario(manager.ScenarioTest):
    """A scenario with a server of its own."""

    credentials = ['primary']

    # The first in which a server's owner sees the events of its actions, and
    # from 2.45 on the API tells which image it makes.
    compute_min_microversion = '2.51'

    def copy_image(self, image_id: str | None, option: str,
                   properties: dict[str, str]) -> str:
        """Copy an image, to give it properties of its own.

        :param image_id: the image
        :param option: which option it comes from
        :param properties: the copy's properties
        :returns: the copy
        """
        if not image_id:
            raise lib_exc.InvalidConfiguration(
                '[quiesce] %s is not set' % option)
        source = self.image_client.show_image(image_id)
        kept = {key: value for key, value in source.items()
                if key in ('disk_format', 'container_format', 'min_disk',
                           'min_ram') or key.startswith('hw_')}
        copy = self.image_client.create_image(
            name=self.random_name('image'), visibility='private',
            **(kept | properties))
        self.addCleanup(self._delete_image, copy['id'])
        data = self.image_client.show_image_file(image_id, chunked=True)
        try:
            self.image_client.store_image_file(copy['id'], data)
        finally:
            data.release_conn()
        return str(copy['id'])

    def healthy_image(self, properties: dict[str, str]) -> str:
        """Make an image whose guest runs the agent.

        :param properties: the image's
        :returns: the image
        """
        return self.copy_image(
            CONF.quiesce.image_ref, 'image_ref', properties)

    def dead_image(self, properties: dict[str, str]) -> str:
        """Make an image whose guest does not run the agent.

        :param properties: the image's
        :returns: the image
        """
        return self.copy_image(CONF.quiesce.image_without_agent_ref,
                               'image_without_agent_ref', properties)

    def boot_from(self, image_id: str) -> Json:
        """Boot a server of the kind that the scenario is about.

        :param image_id: what its root disk is made from
        :returns: the server, whose guest writes
        """
        return self.boot(image_id=image_id)

    def check_healthy(self, properties: dict[str, str]) -> None:
        """A snapshot of a guest whose agent answers is consistent.

        :param properties: its image's
        """
        server = self.boot_from(self.healthy_image(properties))
        self.wait_for_agent()
        image = self.create_server_snapshot(server)
        self.assert_consistent(self.record_of(image['id']))
        self.assert_writes_on(server)

    def check_preferred_without_agent(self) -> None:
        """A snapshot of a guest whose agent is dead says that it is not."""
        server = self.boot_from(self.dead_image(PREFERRED))
        image = self.create_server_snapshot(server)
        self.assert_not_frozen(self.record_of(image['id']))
        self.assert_writes_on(server)

    def boot(self, **how: typing.Any) -> Json:
        """Boot a server, and wait until its guest writes.

        :param how: what tempest's ``create_server`` takes
        :returns: the server
        """
        # The guests need none, and a cloud may have none.
        if not self.get_tenant_network():
            how['networks'] = 'none'
        server: Json = self.create_server(
            flavor=CONF.quiesce.flavor_ref, **how)
        self.assert_writes_on(server)
        return server

    def wait_for_agent(self) -> None:
        """Let the agent of a guest that has begun to write start, too."""
        time.sleep(CONF.quiesce.agent_start_time)

    def assert_writes_on(self, server: Json) -> None:
        """A guest gets more onto its disk, so it is not frozen.

        :param server: its server
        """
        before = self._written(server)
        self.assertTrue(
            test_utils.call_until_true(
                lambda: self._written(server) > before,
                CONF.quiesce.guest_timeout, POLL_SECONDS),
            'the guest of server %s does not write, or its console does not '
            'tell' % server['id'])

    def _written(self, server: Json) -> int:
        output = self.servers_client.get_console_output(
            server['id'], length=CONSOLE_LINES)['output']
        return written(output)

    def request_snapshot(self, server: Json, name: str) -> typing.Any:
        """Ask for a snapshot, and do not wait for it.

        :param server: whose
        :param name: the image's
        :returns: the answer
        """
        answer = self.compute_images_client.create_image(
            server['id'], name=name)
        self.addCleanup(self._delete_image, answer['image_id'])
        return answer

    def events(self, server: Json, answer: typing.Any) -> list[Json]:
        """List what happened to a server on a request.

        :param server: the server
        :param answer: what the API answered to the request
        :returns: the events, as the server's owner sees them
        """
        request = answer.response['x-openstack-request-id']
        action = self.servers_client.show_instance_action(
            server['id'], request)['instanceAction']
        found: list[Json] = action['events']
        return found

    def wait_until_idle(self, server: Json) -> None:
        """Wait until a server is active, and nothing is done to it.

        :param server: the server
        """
        waiters.wait_for_server_status(
            self.servers_client, server['id'], 'ACTIVE')

    def record_of(self, image_id: str) -> Json:
        """Wait for the record of a snapshot.

        :param image_id: the snapshot
        :returns: the record's properties
        """
        record: Json = {}

        def recorded() -> bool:
            image = self.image_client.show_image(image_id)
            record.update((key, value) for key, value in image.items()
                          if key.startswith('quiesce_'))
            return bool(record)

        self.assertTrue(
            test_utils.call_until_true(
                recorded, CONF.quiesce.record_timeout, POLL_SECONDS),
            'image %s carries no record: does its compute host run '
            'quiesce.QuiesceLibvirtDriver?' % image_id)
        return record

    def assert_consistent(self, record: Json) -> None:
        """A record claims a freeze, and tells all there is to tell of it.

        :param record: the record
        """
        self.assertEqual('filesystem', record['quiesce_consistency'], record)
        self.assertNotEmpty(record['quiesce_reason'], record)
        self.assertGreater(int(record['quiesce_filesystems']), 0)
        self.assertGreater(int(record['quiesce_window_ms']), 0)
        frozen_at = datetime.datetime.fromisoformat(
            record['quiesce_frozen_at'])
        self.assertEqual(datetime.timedelta(0), frozen_at.utcoffset())

    def assert_not_frozen(self, record: Json) -> None:
        """A record claims nothing, and blames the agent.

        :param record: the record
        """
        self.assertEqual('crash', record['quiesce_consistency'], record)
        self.assertIn('agent is not connected', record['quiesce_reason'])
        self.assertEqual('', record['quiesce_frozen_at'])
        self.assertEqual('0', record['quiesce_filesystems'])
        self.assertEqual('0', record['quiesce_window_ms'])

    def random_name(self, what: str) -> str:
        """Make up a name that tells whose it is.

        :param what: it names
        :returns: the name
        """
        return str(data_utils.rand_name(
            prefix=CONF.resource_name_prefix,
            name='%s-%s' % (type(self).__name__, what)))

    def _delete_image(self, image_id: str) -> None:
        test_utils.call_and_ignore_notfound_exc(
            self.image_client.delete_image, image_id)
        self.image_client.wait_for_resource_deletion(image_id)
