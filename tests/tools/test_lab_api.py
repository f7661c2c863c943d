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

"""The one client of OpenStack's APIs, and what is built on it."""

import collections
from collections import abc
from email import message
import http.server
import json
import os
import pathlib
import sys
import tempfile
import threading
import typing
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from devstackbox import cloud
from quiescelab import api
from quiescelab import errors
from quiescelab import imaging
from quiescelab import logs
from quiescelab import servers

PROJECT = {'token': {'project': {'id': 'p1'}}}
SIGN_IN = 'POST /identity/v3/auth/tokens'
Answer = tuple[int, object]


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers as a test says, and keeps what was asked."""

    answers: typing.ClassVar[dict[str, list[Answer]]]
    asked: typing.ClassVar[list[tuple[str, typing.Any, message.Message]]]

    def handle_any(self) -> None:
        call = '%s %s' % (self.command, self.path)
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.asked.append((call, body, self.headers))
        answers = self.answers[call]
        code, answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(code)
        self.send_header('X-Subject-Token', 'token-1')
        self.end_headers()
        if answer is not None:
            self.wfile.write(answer if isinstance(answer, bytes)
                             else json.dumps(answer).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def log_message(self, *arguments: object) -> None:
        """Tell nobody."""


class ApiTestCase(unittest.TestCase):
    """A cloud whose services answer at DevStack's places."""

    def setUp(self) -> None:
        super().setUp()
        _Handler.answers = collections.defaultdict(lambda: [(404, None)])
        _Handler.answers[SIGN_IN] = [(201, PROJECT)]
        _Handler.asked = []
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
        self.addCleanup(server.server_close)
        serving = threading.Thread(target=server.serve_forever,
                                   kwargs={'poll_interval': 0.01})
        serving.start()
        self.addCleanup(serving.join)
        self.addCleanup(server.shutdown)
        self.directory = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self._write_clouds('http://127.0.0.1:%d' % server.server_port)

    def _write_clouds(self, root: str) -> None:
        path = self.directory / 'clouds.yaml'
        path.write_text(json.dumps({'clouds': {'devstack': {'auth': {
            'auth_url': root + '/identity', 'username': 'demo',
            'password': 'secret', 'project_name': 'demo',
            'user_domain_id': 'default', 'project_domain_id': 'default'}}}}))
        self.enterContext(mock.patch.dict(
            os.environ, {'OS_CLIENT_CONFIG_FILE': str(path)}))

    def answer(self, call: str, *answers: Answer) -> None:
        """Have a call answered; the last answer is given for ever."""
        _Handler.answers[call] = list(answers)

    @property
    def asked(self) -> abc.Sequence[tuple[str, typing.Any, message.Message]]:
        """The calls since the sign-in, with their bodies and headers."""
        return _Handler.asked[1:]


class ClientTest(ApiTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.client = cloud.sign_in()

    def test_signs_in(self) -> None:
        call, body, _ = _Handler.asked[0]
        self.assertEqual(SIGN_IN, call)
        auth = json.loads(body)['auth']
        self.assertEqual('demo', auth['scope']['project']['name'])
        user = auth['identity']['password']['user']
        self.assertEqual(('demo', 'secret'), (user['name'], user['password']))
        self.assertEqual('p1', self.client.project)

    def test_is_refused(self) -> None:
        self.answer(SIGN_IN, (401, {'error': 'no'}))
        with self.assertRaisesRegex(errors.LabError, 'tokens: 401 .*no'):
            cloud.sign_in()

    def test_calls_carry_token_and_microversion(self) -> None:
        self.answer('GET /compute/v2.1/servers', (200, {'servers': []}))
        self.answer('GET /volume/v3/p1/volumes', (200, {'volumes': []}))
        self.assertEqual({'servers': []},
                         self.client.get('nova', '/v2.1/servers'))
        self.client.get('cinder', '/v3/p1/volumes')
        nova, cinder = (headers for _, _, headers in self.asked)
        self.assertEqual('token-1', nova['X-Auth-Token'])
        self.assertEqual(api.MICROVERSIONS['nova'],
                         nova['OpenStack-API-Version'])
        self.assertNotIn('OpenStack-API-Version', cinder)

    def test_no_content(self) -> None:
        self.answer('DELETE /image/v2/images/i1', (204, None))
        self.assertIsNone(self.client.call(
            'DELETE', 'glance', '/v2/images/i1'))

    def test_refusal_tells_code_and_reason(self) -> None:
        self.answer('POST /compute/v2.1/servers/s1/action',
                    (409, {'conflict': 'frozen'}))
        with self.assertRaisesRegex(errors.LabError, ': 409 .*frozen'):
            self.client.post('nova', '/v2.1/servers/s1/action', {})

    def test_nobody_there(self) -> None:
        with self.assertRaises(errors.LabError):
            api.Client(lambda service, path: 'http://127.0.0.1:9', 'u', 'p')

    def test_content_of_an_image(self) -> None:
        here, there = self.directory / 'here', self.directory / 'there'
        here.write_bytes(b'bits')
        self.answer('PUT /image/v2/images/i1/file', (204, None))
        self.answer('GET /image/v2/images/i1/file', (200, b'other bits'))
        self.client.upload('/v2/images/i1/file', here, 'ceph')
        self.client.download('/v2/images/i1/file', there)
        _, sent, headers = self.asked[0]
        self.assertEqual(b'bits', sent)
        self.assertEqual('ceph', headers['X-Image-Meta-Store'])
        self.assertEqual(b'other bits', there.read_bytes())


class UserTest(ApiTestCase):
    """DevStack's tenant, who shares all of this with the lab's."""

    def setUp(self) -> None:
        super().setUp()
        self.user: servers.User = cloud.Cloud()

    def _answer_boot(self) -> None:
        self.answer('GET /compute/v2.1/flavors', (200, {'flavors': [
            {'id': 'f0', 'name': 'other'},
            {'id': 'f1', 'name': cloud.Cloud.flavor}]}))
        self.answer('GET /image/v2/images?name=guest',
                    (200, {'images': [{'id': 'i1'}]}))
        self.answer('POST /compute/v2.1/servers',
                    (202, {'server': {'id': 's1'}}))

    def _boot(self, from_volume: bool, volume_type: str | None = None
              ) -> typing.Any:
        self._answer_boot()
        self.assertEqual({'id': 's1'}, self.user.boot(
            'name', 'guest', from_volume, volume_type))
        return json.loads(self.asked[-1][1])['server']

    def test_boot(self) -> None:
        server = self._boot(False)
        self.assertEqual(('f1', 'i1', 'none'), (
            server['flavorRef'], server['imageRef'], server['networks']))

    def test_boot_from_volume(self) -> None:
        server = self._boot(True)
        disk, = server['block_device_mapping_v2']
        self.assertNotIn('imageRef', server)
        self.assertEqual(('i1', 1), (disk['uuid'], disk['volume_size']))
        self.assertNotIn('volume_type', disk)

    def test_boot_from_volume_of_a_type(self) -> None:
        disk, = self._boot(True, 'nfs')['block_device_mapping_v2']
        self.assertEqual('nfs', disk['volume_type'])

    def test_server_that_does_not_start(self) -> None:
        self.answer('GET /compute/v2.1/servers/s1', (200, {'server': {
            'status': 'ERROR', 'fault': 'no valid host'}}))
        with self.assertRaisesRegex(errors.LabError, 'no valid host'):
            self.user.wait_until_active({'id': 's1'})

    def test_delete(self) -> None:
        self.answer('GET /compute/v2.1/servers',
                    (200, {'servers': [{'id': 's1'}]}), (200, {'servers': []}))
        self.answer('DELETE /compute/v2.1/servers/s1', (204, None))
        self.user.delete({'id': 's1'})
        self.assertIn('DELETE /compute/v2.1/servers/s1',
                      [call for call, _, _ in self.asked])

    def test_change_of_a_property(self) -> None:
        self.answer('PATCH /image/v2/images/i1', (200, {}))
        self.user.change_image('i1', 'add', 'os_require_quiesce', 'yes')
        _, body, headers = self.asked[0]
        self.assertEqual([{'op': 'add', 'path': '/os_require_quiesce',
                           'value': 'yes'}], json.loads(body))
        self.assertEqual(imaging.IMAGE_PATCH, headers['Content-Type'])

    def test_image_that_nova_withdraws(self) -> None:
        self.answer('GET /image/v2/images?limit=1000', (200, {'images': []}))
        self.user.delete_image('i1')

    def test_image_that_cannot_be_deleted(self) -> None:
        self.answer('DELETE /image/v2/images/i1', (403, None))
        self.answer('GET /image/v2/images?limit=1000',
                    (200, {'images': [{'id': 'i1'}]}))
        with self.assertRaisesRegex(errors.LabError, ': 403 '):
            self.user.delete_image('i1')

    def test_record(self) -> None:
        self.answer('GET /image/v2/images/i1', (200, {
            'id': 'i1', 'quiesce_consistency': 'crash'}))
        self.assertEqual({'consistency': 'crash'}, self.user.record('i1'))

    def test_failures_of_snapshots_only(self) -> None:
        self.answer('GET /compute/v2.1/servers/s1/os-instance-actions', (200, {
            'instanceActions': [
                {'action': 'createImage', 'request_id': 'r1'},
                {'action': 'reboot', 'request_id': 'r2'}]}))
        for request in ('r1', 'r2'):
            self.answer(
                'GET /compute/v2.1/servers/s1/os-instance-actions/' + request,
                (200, {'instanceAction': {'events': [
                    {'event': request, 'result': 'Error'},
                    {'event': 'fine', 'result': 'Success'}]}}))
        self.assertEqual(['r1'], self.user.failures({'id': 's1'}))


class AgentCallsTest(unittest.TestCase):

    def test_counts_what_is_sent_from_now_on(self) -> None:
        sent = 'Send command \'{"execute":"guest-fsfreeze-%s"}\' for write\n'
        with tempfile.NamedTemporaryFile('w') as log:
            log.write(sent % 'freeze')
            log.flush()
            calls = logs.AgentCalls(pathlib.Path(log.name))
            self.assertEqual({'freeze': 0, 'thaw': 0}, calls.sent)
            log.write(sent % 'freeze' + sent % 'status' + sent % 'thaw')
            log.write('failed: \'{"execute":"guest-fsfreeze-thaw"}\'\n')
            log.flush()
            self.assertEqual({'freeze': 1, 'thaw': 1}, calls.sent)
