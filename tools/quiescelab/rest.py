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

"""OpenStack's APIs, as far as the lab needs them to set itself up."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any
import urllib.error
import urllib.request

from quiescelab import errors
from quiescelab import layout
from quiescelab import site

TIMEOUT_SECONDS = 120
JSON = 'application/json'
IMAGE_PATCH = 'application/openstack-images-v2.1-json-patch'
# Without it Nova's API answers as it did in 2013: no server without a
# network, and no id of the image that it makes.
MICROVERSIONS = {'nova': 'compute 2.90'}


class Client:
    """A signed-in user of the lab's services.

    :param lab: the lab.
    :param user: the user, whose project has the same name.
    :param seconds: that an answer may take.
    """

    def __init__(self, lab: site.Site, user: str,
                 seconds: float = TIMEOUT_SECONDS):
        self._seconds = seconds
        self._token = ''
        self.project = ''
        self._sign_in(lab.state.password(user), user)

    def get(self, service: str, path: str) -> Any:
        """:returns: what a GET answers."""
        return self.call('GET', service, path)

    def post(self, service: str, path: str, body: object) -> Any:
        """:returns: what a POST answers."""
        return self.call('POST', service, path, body)

    def call(self, method: str, service: str, path: str,
             body: object = None) -> Any:
        """Send a request with a JSON body, if any.

        :returns: the JSON of the answer, or None.
        :raises LabError: when the service refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        version = MICROVERSIONS.get(service)
        headers = {'OpenStack-API-Version': version} if version else {}
        answer = self._send(method, layout.url(service, path), data,
                            headers)[1]
        return json.loads(answer) if answer else None

    def upload(self, path: str, source: pathlib.Path,
               store: str | None = None) -> None:
        """Send a file's content to Glance.

        :param store: which of its stores keeps it; None for the default.
        """
        headers = {'Content-Type': 'application/octet-stream',
                   'Content-Length': str(source.stat().st_size),
                   **({'X-Image-Meta-Store': store} if store else {})}
        with source.open('rb') as stream:
            self._send('PUT', layout.url('glance', path), stream, headers)

    def change_image(self, image_id: str, operation: str, name: str,
                     value: str | None = None) -> None:
        """Change one property of an image.

        :param operation: of a JSON patch: ``add`` or ``remove``.
        """
        change = {'op': operation, 'path': f'/{name}',
                  **({} if value is None else {'value': value})}
        self._send('PATCH', layout.url('glance', f'/v2/images/{image_id}'),
                   json.dumps([change]).encode(),
                   {'Content-Type': IMAGE_PATCH})

    def set_volume_status(self, volume_id: str, status: str) -> None:
        """Have Cinder say that a volume has a status; administrators may."""
        self.post('cinder', f'/v3/{self.project}/volumes/{volume_id}/action',
                  {'os-reset_status': {'status': status}})

    def _sign_in(self, password: str, user: str) -> None:
        domain = {'id': 'default'}
        person = {'name': user, 'domain': domain, 'password': password}
        headers, answer = self._send(
            'POST', layout.url('keystone', '/v3/auth/tokens'),
            json.dumps({'auth': {
                'identity': {'methods': ['password'],
                             'password': {'user': person}},
                'scope': {'project': {'name': user, 'domain': domain}},
            }}).encode())
        self._token = headers['X-Subject-Token']
        self.project = json.loads(answer)['token']['project']['id']

    def _send(self, method: str, url: str, data: Any = None,
              headers: Mapping[str, str] | None = None
              ) -> tuple[Mapping[str, str], bytes]:
        request = urllib.request.Request(
            url, data, {'Content-Type': JSON, 'X-Auth-Token': self._token,
                        **(headers or {})}, method=method)
        # Proxies of the environment are for other hosts than this one.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self._seconds) as answer:
                return answer.headers, answer.read()
        except urllib.error.HTTPError as refusal:
            text = refusal.read().decode(errors='replace')
            raise errors.LabError(
                f'{method} {url}: {refusal.code} {text}') from refusal
        except OSError as failure:
            raise errors.LabError(f'{method} {url}: {failure}') from failure


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
