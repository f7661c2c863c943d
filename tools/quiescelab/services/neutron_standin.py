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

"""A stand-in for Neutron: every collection there is, and empty.

This is NOT Neutron. Nova lists and deletes a server only if a network
endpoint answers ``GET /v2.0/ports``; the lab's guests have no network, so an
empty list is the truth. A request for a server that says nothing of networks
has Nova look at the quota of ports, which nothing limits. Whatever would
change something gets 501.
Run as ``neutron_standin.py ADDRESS PORT``; it needs nothing else of the lab.
"""

import http.server
import json
import sys
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self) -> None:
        """Answer the version list, or an empty collection."""
        parts = urllib.parse.urlsplit(self.path).path.strip('/').split('/')
        if parts == ['']:
            versions = [{'id': 'v2.0', 'status': 'CURRENT', 'links': []}]
            self._answer(200, {'versions': versions})
        elif len(parts) == 2 and parts[0] == 'v2.0':
            collection = parts[1].removesuffix('.json')
            self._answer(200, {collection.replace('-', '_'): []})
        elif len(parts) == 3 and parts[:2] == ['v2.0', 'quotas']:
            self._answer(200, {'quota': {'port': -1}})
        else:
            self._answer(404, {'NeutronError': 'there is nothing here'})

    def _refuse(self) -> None:
        self._answer(501, {'NeutronError': 'this is only a stand-in'})

    do_POST = do_PUT = do_DELETE = _refuse

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == '__main__':
    http.server.ThreadingHTTPServer(
        (sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
