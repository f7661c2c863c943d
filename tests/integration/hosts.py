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

"""A server that moves between the lab's host and a second one."""

from collections import abc
import typing

from quiescelab import api
from quiescelab import guestctl
from quiescelab import lab as running
from quiescelab import migrations
from quiescelab import servers
from quiescelab import waiting

from tests.integration import base

REFUSED = 'Migration pre-check error'


class TwoHostsTestCase(base.LabTestCase):
    """Tests with a second compute host, which is there for a class.

    A test finds the server on one of them, and may leave it on the other.
    """

    #: What the second host's nova-compute has besides: that one has to be
    #: started in any case.
    second_options: typing.ClassVar[
        abc.Mapping[str, abc.Mapping[str, object]]] = {}

    second: running.Host
    admin: servers.User
    migrations: migrations.Migrations

    @classmethod
    def prepare(cls) -> None:
        """Start the second host, once the server is on the first one."""
        super().prepare()
        cls.admin = servers.User(cls.lab.client('admin'))
        cls.migrations = migrations.Migrations(cls.admin)
        cls.second = cls.enterClassContext(cls.lab.second_host(
            cls.second_options))
        # As long as there is somebody to do it.
        cls.addClassCleanup(cls.user.delete, cls.server)

    @property
    def hosts(self) -> abc.Sequence[running.Host]:
        """Both of them."""
        return (self.lab.host, self.second)

    @property
    def other_host(self) -> running.Host:
        """The host where the server is not."""
        return next(host for host in self.hosts if host != self.host)

    def be_on(self, host: running.Host) -> None:
        """Have the server there, wherever another test left it."""
        if self.host != host:
            self.move_to(host)

    def move_to(self, host: running.Host) -> None:
        """Migrate the server, alive."""
        self.assertIsNone(self.try_to_move_to(host))

    def try_to_move_to(self, host: running.Host) -> str | None:
        """Ask for the server's live migration, and wait for its end.

        :returns: why it was refused; None where it came to pass
        """
        self.ask_to_move_to(host)
        self.migrations.wait(self.server)
        if self.migrations.host_of(self.server) == host.name:
            self.arrive_at(host)
            return None
        waiting.wait(lambda: self._failures() != [], base.SOON,
                     'an event that says why')
        return str(self._failures())

    def ask_to_move_to(self, host: running.Host) -> None:
        """Ask for the server's live migration, as an operator."""
        self.migrations.ask(self.server, host.name)

    def evacuate_to(self, host: running.Host) -> None:
        """Have the server of a host that failed start on another one."""
        self.admin.act(self.server, 'evacuate', {'host': host.name})
        waiting.wait(lambda: self._nova_knows()['OS-EXT-STS:task_state'] is
                     None, servers.BOOT_SECONDS, 'the evacuation')
        self.assertEqual(host.name, self.migrations.host_of(self.server))
        self.arrive_at(host)

    def arrive_at(self, host: running.Host) -> None:
        """Look for the guest on this host from now on."""
        type(self).host = host
        type(self).guest = self._guest_on(host)

    @property
    def guests(self) -> abc.Sequence[guestctl.Guest]:
        """The guest as it would be found on each host."""
        return [self._guest_on(host) for host in self.hosts]

    def _guest_on(self, host: running.Host) -> guestctl.Guest:
        return guestctl.Guest(self.server['id'], host.paths.libvirt_uri)

    def force_down(self, host: running.Host, is_down: bool) -> None:
        """Have Nova know that a host has failed, or is back."""
        service, = self.admin.api.get(
            'nova', '/v2.1/os-services?binary=nova-compute&host=%s'
            % host.name)['services']
        self.admin.api.call(
            'PUT', 'nova', '/v2.1/os-services/%s' % service['id'],
            {'forced_down': is_down})

    def _failures(self) -> list[str]:
        # Of the latest request, with details, which operators see.
        return [event['details'] for event in self.admin.events(self.server)
                if event['result'] == 'Error']

    def _nova_knows(self) -> api.Json:
        return self.admin.show(self.server)
