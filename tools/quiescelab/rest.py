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

"""The lab's own APIs, for those who set it up and look after it."""

from typing import Any

from quiescelab import api
from quiescelab import layout
from quiescelab import site


class Client(api.Client):
    """A signed-in user of the lab's services.

    :param lab: the lab
    :param user: the user, whose project has the same name
    :param seconds: that an answer may take
    """

    def __init__(self, lab: site.Site, user: str,
                 seconds: float = api.TIMEOUT_SECONDS) -> None:
        super().__init__(layout.url, user, lab.state.password(user), seconds)


class Identity(Client):
    """Keystone's users, projects, roles and catalog."""

    def ensure_project(self, name: str) -> None:
        """Make a project unless it exists."""
        self._ensure('projects', {'name': name, 'domain_id': 'default'})

    def ensure_user(self, name: str, password: str) -> None:
        """Make a user unless it exists."""
        self._ensure('users', {'name': name, 'domain_id': 'default',
                               'password': password})

    def grant(self, user: str, project: str, role: str) -> None:
        """Give a user a role in a project."""
        ids = [self._find(kind, f'name={name}')['id'] for kind, name in (
            ('projects', project), ('users', user), ('roles', role))]
        self.call('PUT', 'keystone', '/v3/projects/{}/users/{}/roles/{}'
                  .format(*ids))

    def ensure_endpoint(self, name: str, kind: str, url: str,
                        region: str) -> None:
        """Put a service into the catalog unless it is there."""
        service = self._ensure('services', {'name': name, 'type': kind})
        for interface in ('public', 'internal'):
            query = f'service_id={service["id"]}&interface={interface}'
            self._ensure('endpoints', {
                'service_id': service['id'], 'interface': interface,
                'url': url, 'region_id': region}, query)

    def _ensure(self, kind: str, body: dict[str, str],
                query: str = '') -> dict[str, Any]:
        found = self._search(kind, query or f'name={body["name"]}')
        if found:
            return found[0]
        singular = kind.removesuffix('s')
        answer = self.post('keystone', f'/v3/{kind}', {singular: body})
        made: dict[str, Any] = answer[singular]
        return made

    def _find(self, kind: str, query: str) -> dict[str, Any]:
        return self._search(kind, query)[0]

    def _search(self, kind: str, query: str) -> list[dict[str, Any]]:
        answer = self.get('keystone', f'/v3/{kind}?{query}')
        found: list[dict[str, Any]] = answer[kind]
        return found
