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

"""A client of OpenStack's APIs: the one that the lab and its users have.

It needs nothing but the standard library, because the lab sets itself up
before there is anything else. It sends what it is asked to and knows nothing
of what the services are for; see :mod:`~quiescelab.servers` for that.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import http.client
import json
import pathlib
import shutil
from typing import Any
import urllib.error
import urllib.request

from quiescelab import errors

TIMEOUT_SECONDS = 120
JSON = 'application/json'
# Without it Nova's API answers as it did in 2013: no server without a
# network, and no id of the image that it makes.
MICROVERSIONS = {'nova': 'compute 2.90'}

Json = dict[str, Any]
#: Gives the address of a service's path.
Address = Callable[[str, str], str]


class Client:
    """A signed-in user of a cloud's services.

    :param address: of what the services have, by their projects' names
    :param user: the user, whose project has the same name
    :param password: the user's
    :param seconds: that an answer may take
    :ivar project: the id of the project
    :raises LabError: Keystone refuses
    """

    def __init__(self, address: Address, user: str, password: str,
                 seconds: float = TIMEOUT_SECONDS) -> None:
        self._address = address
        self._seconds = seconds
        self._token = ''
        self.project = ''
        self._sign_in(user, password)

    def get(self, service: str, path: str) -> Any:
        """Return the JSON that a GET answers."""
        return self.call('GET', service, path)

    def post(self, service: str, path: str, body: object) -> Any:
        """Return the JSON that a POST answers."""
        return self.call('POST', service, path, body)

    def call(self, method: str, service: str, path: str, body: object = None,
             kind: str = JSON) -> Any:
        """Send a request with a JSON body, if any.

        :param kind: the body's type
        :returns: the JSON of the answer, or None
        :raises LabError: the service refuses
        """
        data = None if body is None else json.dumps(body).encode()
        version = MICROVERSIONS.get(service)
        headers = {'OpenStack-API-Version': version} if version else {}
        with self._send(method, service, path, data,
                        {'Content-Type': kind, **headers}) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def upload(self, path: str, source: pathlib.Path,
               store: str | None = None) -> None:
        """Send a file's content to Glance.

        :param store: which of its stores keeps it; None for the default
        """
        headers = {'Content-Type': 'application/octet-stream',
                   'Content-Length': str(source.stat().st_size),
                   **({'X-Image-Meta-Store': store} if store else {})}
        with source.open('rb') as stream, self._send(
                'PUT', 'glance', path, stream, headers):
            pass

    def download(self, path: str, target: pathlib.Path) -> None:
        """Write to a file what Glance answers a GET."""
        with self._send('GET', 'glance', path) as response, target.open(
                'wb') as stream:
            shutil.copyfileobj(response, stream)

    def _sign_in(self, user: str, password: str) -> None:
        domain = {'id': 'default'}
        person = {'name': user, 'domain': domain, 'password': password}
        body = {'auth': {
            'identity': {'methods': ['password'],
                         'password': {'user': person}},
            'scope': {'project': {'name': user, 'domain': domain}},
        }}
        with self._send('POST', 'keystone', '/v3/auth/tokens',
                        json.dumps(body).encode()) as response:
            self._token = response.headers['X-Subject-Token']
            self.project = json.load(response)['token']['project']['id']

    @contextlib.contextmanager
    def _send(self, method: str, service: str, path: str, data: Any = None,
              headers: Mapping[str, str] | None = None
              ) -> Iterator[http.client.HTTPResponse]:
        url = self._address(service, path)
        request = urllib.request.Request(
            url, data, {'Content-Type': JSON, 'X-Auth-Token': self._token,
                        **(headers or {})}, method=method)
        # Proxies of the environment are for other hosts than this one.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self._seconds) as response:
                yield response
        except urllib.error.HTTPError as refusal:
            text = refusal.read().decode(errors='replace')
            raise errors.LabError(
                f'{method} {url}: {refusal.code} {text}') from refusal
        except OSError as failure:
            raise errors.LabError(f'{method} {url}: {failure}') from failure
