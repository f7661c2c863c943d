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

"""Live migrations of a server, as an operator asks for them."""

from quiescelab import api
from quiescelab import servers
from quiescelab import waiting

#: Seconds of one of a guest without KVM, on a busy machine.
PATIENCE = 60
LOOK = 0.2
SETTLED = ('completed', 'error', 'failed', 'cancelled')


class Migrations:
    """All live migrations that an operator asks for.

    :param operator: the operator
    """

    def __init__(self, operator: servers.User) -> None:
        self._operator = operator

    def ask(self, server: api.Json, host: str) -> None:
        """Ask for one.

        :param host: what Nova calls the host that the server is to be on
        :raises LabError: nova-api refuses
        """
        self._operator.act(server, 'os-migrateLive', {
            'host': host, 'block_migration': 'auto'})

    def wait(self, server: api.Json) -> None:
        """Wait until the latest one of a server is over, for good or ill.

        :raises LabError: it takes too long
        """
        waiting.wait(lambda: self._is_settled(server), PATIENCE,
                     'the migration', LOOK)

    def host_of(self, server: api.Json) -> str:
        """Return what Nova calls the host that a server is on."""
        return str(self._operator.show(server)['OS-EXT-SRV-ATTR:host'])

    def _is_settled(self, server: api.Json) -> bool:
        # Nova notes a migration before it is done with the server, and goes
        # on to clean up after that.
        if self._operator.show(server)['OS-EXT-STS:task_state'] is not None:
            return False
        known = self._operator.api.get(
            'nova', f'/v2.1/os-migrations?instance_uuid={server["id"]}')
        return known['migrations'][0]['status'] in SETTLED
