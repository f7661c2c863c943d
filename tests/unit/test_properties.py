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

"""The image properties that count, and look-ups that fail or hang."""

from collections import abc
import dataclasses
from http import server
import json
import threading
import time
import unittest
from unittest import mock
import uuid

from nova import conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova.image import glance
from nova import service_auth
from oslo_config import fixture as config_fixture

from nova_quiesce import policy
from nova_quiesce import properties

IMAGE_ID = str(uuid.uuid4())
VOLUME_ID = str(uuid.uuid4())
REQUIRE = {'os_require_quiesce': 'yes'}
PREFER = {'hw_qemu_guest_agent': 'yes'}
OPT_OUT = {'hw_qemu_guest_agent': 'yes', 'os_skip_quiesce': 'yes'}


@dataclasses.dataclass
class Options:
    """The operator's options."""

    properties_from: str = properties.STRICTER
    glance_timeout: int = 5
    allow_opt_out: bool = True


@dataclasses.dataclass
class Instance:
    """An instance, as far as it is read."""

    image_ref: str | None = IMAGE_ID
    uuid: str = 'an-instance'
    name: str = 'instance-1'
    vm_state: str = 'active'
    power_state: int = 1
    system_metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    def save(self) -> None:
        """Never called."""
        raise AssertionError


@dataclasses.dataclass
class Context:
    """A request's context, as far as it is read."""

    request_id: str = 'req-1'
    project_id: str = 'project-1'


class ImageAPI:
    """Nova's image API, with one image.

    :ivar fail: called before each answer
    :ivar asked: the ids asked for
    """

    def __init__(self) -> None:
        self.properties: dict[str, object] = dict(REQUIRE)
        self.fail: abc.Callable[[], None] = lambda: None
        self.asked: list[str] = []

    def get(self, context: object, id_or_uri: str) -> dict[str, object]:
        """Show the image."""
        self.asked.append(id_or_uri)
        self.fail()
        return {'id': id_or_uri, 'properties': dict(self.properties)}

    def get_all(self, context: object,
                **kwargs: object) -> list[dict[str, object]]:
        """Never called."""
        raise AssertionError

    def update(self, context: object, id_or_uri: str,
               image_info: dict[str, object], data: object = None,
               **kwargs: object) -> dict[str, object]:
        """Never called."""
        raise AssertionError


class VolumeAPI:
    """Nova's volume API, with one volume."""

    def __init__(self) -> None:
        self.volume: dict[str, object] = {
            'volume_image_metadata': {'image_id': IMAGE_ID}}

    def get(self, context: object, volume_id: str) -> dict[str, object]:
        """Show the volume."""
        assert volume_id == VOLUME_ID
        return self.volume

    def get_snapshot(self, context: object,
                     snapshot_id: str) -> dict[str, object]:
        """Never called."""
        raise AssertionError


class ReaderTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.options = Options()
        self.instance = Instance()
        self.image_api = ImageAPI()
        self.volume_api = VolumeAPI()
        self.root_volume: str | None = VOLUME_ID
        self.reader = properties.Reader(
            self.image_api, self.volume_api,
            lambda context, instance: self.root_volume, self.options)

    def _read(self, copy: dict[str, str]) -> dict[str, object]:
        return self.reader.read(Context(), self.instance, copy)

    def _assert_copy_counts(self, reason: str) -> None:
        with self.assertLogs('nova_quiesce.properties', 'WARNING') as logs:
            self.assertEqual(PREFER, self._read(PREFER))
        line, = logs.output
        self.assertIn(reason, line)
        self.assertNotIn('\n', line)
        self.assertIs(self.instance,
                      logs.records[0].__dict__['instance'])

    def _lookups(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate()
                if thread.name == 'image-an-instance']

    def _wait_for_lookups(self) -> None:
        for thread in self._lookups():
            thread.join(20)
        self.assertEqual([], self._lookups())

    def _assert_asks_nobody(self) -> None:
        with self.assertNoLogs('nova_quiesce.properties'):
            self.assertEqual(PREFER, self._read(PREFER))
        self.assertEqual([], self.image_api.asked)


class ReaderTest(ReaderTestCase):
    """The choice between the instance's properties and its image's."""

    def test_instance(self) -> None:
        self.options.properties_from = properties.INSTANCE
        self._assert_asks_nobody()

    def test_image(self) -> None:
        self.options.properties_from = properties.IMAGE
        self.assertEqual(REQUIRE, self._read(PREFER))
        self.image_api.properties = dict(PREFER)
        self.assertEqual(PREFER, self._read(REQUIRE))

    def test_stricter(self) -> None:
        self.assertEqual(REQUIRE, self._read(PREFER))
        self.image_api.properties = dict(PREFER)
        self.assertEqual(REQUIRE, self._read(REQUIRE))

    def test_what_is_read_is_the_callers_own(self) -> None:
        self.options.properties_from = properties.INSTANCE
        copy = dict(PREFER)
        self._read(copy).clear()
        self.assertEqual(PREFER, copy)


class ImageIdTest(ReaderTestCase):
    """The image of an instance."""

    def test_image_backed(self) -> None:
        self.root_volume = None
        self.assertEqual(REQUIRE, self._read(PREFER))
        self.assertEqual([IMAGE_ID], self.image_api.asked)

    def test_volume_backed(self) -> None:
        for nothing in ('', None):
            self.instance.image_ref = nothing
            self.assertEqual(REQUIRE, self._read(PREFER))
        self.assertEqual([IMAGE_ID] * 2, self.image_api.asked)

    def test_from_the_image_of_a_volume_backed_snapshot(self) -> None:
        self.volume_api.volume = {
            'volume_image_metadata': {'image_id': str(uuid.uuid4())}}
        self._read(PREFER)
        self.assertEqual([IMAGE_ID], self.image_api.asked)

    def test_ancestor_is_not_asked_for(self) -> None:
        self.instance.system_metadata = {
            'image_base_image_ref': str(uuid.uuid4())}
        self._read(PREFER)
        self.assertEqual([IMAGE_ID], self.image_api.asked)

    def test_volume_that_was_made_of_no_image(self) -> None:
        self.instance.image_ref = ''
        self.volume_api.volume = {}
        self._assert_asks_nobody()
        self.volume_api.volume = {'volume_image_metadata': {}}
        self._assert_asks_nobody()

    def test_neither_image_nor_volume(self) -> None:
        self.instance.image_ref = ''
        self.root_volume = None
        self._assert_asks_nobody()

    def test_tenants_address_of_a_glance_of_his_own(self) -> None:
        # Nova would send the request's token there.
        self.instance.image_ref = ''
        for value in ('http://192.0.2.1/v2/images/' + IMAGE_ID,
                      '//192.0.2.1/v2/images/' + IMAGE_ID, '../' + IMAGE_ID,
                      'banana'):
            self.volume_api.volume = {
                'volume_image_metadata': {'image_id': value}}
            self._assert_copy_counts('not a UUID')
            self.assertEqual([], self.image_api.asked)


class FaultTest(ReaderTestCase):
    """Look-ups that fail, hang, or come too late."""

    def _raise(self, error: Exception) -> None:
        def fail() -> None:
            raise error
        self.image_api.fail = fail

    def _hang(self) -> threading.Event:
        """Let Glance hang until the event is set."""
        released = threading.Event()
        self.addCleanup(released.set)
        self.image_api.fail = lambda: self.assertTrue(released.wait(30))
        return released

    def test_image_is_gone(self) -> None:
        self._raise(nova_exception.ImageNotFound(image_id=IMAGE_ID))
        self._assert_copy_counts('could not be found')

    def test_image_is_not_shared_any_more(self) -> None:
        self._raise(nova_exception.ImageNotAuthorized(image_id=IMAGE_ID))
        self._assert_copy_counts('Not authorized')

    def test_glance_is_down(self) -> None:
        self._raise(nova_exception.GlanceConnectionFailed(
            server='http://glance', reason='refused\n' + 'x' * 1000))
        self._assert_copy_counts('GlanceConnectionFailed')

    def test_cinder_is_down(self) -> None:
        self.instance.image_ref = ''
        self.volume_api.get = self._broken  # type: ignore[method-assign]
        self._assert_copy_counts('CinderConnectionFailed')

    def _broken(self, context: object, volume_id: str) -> dict[str, object]:
        raise nova_exception.CinderConnectionFailed(reason='refused')

    def test_glance_hangs(self) -> None:
        self.options.glance_timeout = 1
        self._hang()
        started = time.monotonic()
        self._assert_copy_counts('no answer in time')
        self.assertLess(time.monotonic() - started, 2)

    def test_threads_are_bounded_while_glance_hangs(self) -> None:
        self.options.glance_timeout = 0
        released = self._hang()
        for _ in range(30):
            self._assert_copy_counts('')
        self.assertEqual(16, len(self._lookups()))
        self._assert_copy_counts('16 earlier look-ups')
        released.set()
        self._wait_for_lookups()
        self.options.glance_timeout = 5
        self.assertEqual(REQUIRE, self._read(PREFER))

    def test_no_thread_to_be_had(self) -> None:
        with mock.patch.object(
                threading.Thread, 'start', autospec=True,
                side_effect=RuntimeError("can't start new thread")):
            for _ in range(20):
                self._assert_copy_counts("can't start new thread")
        self.assertEqual(REQUIRE, self._read(PREFER))


class _Glance(server.BaseHTTPRequestHandler):
    """Just enough of Glance for one image, to be slow with."""

    image: dict[str, object] = {
        'id': IMAGE_ID, 'status': 'active', 'visibility': 'public',
        'name': 'guest', 'protected': False, 'tags': []}
    pause: float = 0

    def do_GET(self) -> None:
        """Show the image, byte by byte if there is a pause."""
        answer = json.dumps(
            self._schema() if 'schemas' in self.path
            else {**self.image, **REQUIRE}).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        for position in range(len(answer)):
            time.sleep(self.pause)
            self.wfile.write(answer[position:position + 1])

    def _schema(self) -> dict[str, object]:
        return {'name': 'image', 'properties': dict.fromkeys(self.image, {}),
                'additionalProperties': {'type': 'string'}}

    def log_message(self, *args: object) -> None:
        """Log nothing."""


class GlanceClientTest(ReaderTestCase):
    """Through Nova and python-glanceclient, to a Glance on loopback."""

    def setUp(self) -> None:
        super().setUp()
        _Glance.pause = 0
        self.glance = server.ThreadingHTTPServer(('127.0.0.1', 0), _Glance)
        self.glance.daemon_threads = True
        threading.Thread(target=self.glance.serve_forever, daemon=True,
                         args=(0.01,)).start()
        self.addCleanup(self.glance.server_close)
        self.addCleanup(self.glance.shutdown)
        configured = config_fixture.Config(conf.CONF)
        configured.setUp()
        self.addCleanup(configured.cleanUp)
        configured.conf([], default_config_files=[])
        configured.config(group='glance', num_retries=0, api_servers=[
            'http://127.0.0.1:%d' % self.glance.server_port])
        service_auth.reset_globals()
        self.addCleanup(service_auth.reset_globals)
        self.reader = properties.Reader(
            glance.API(), self.volume_api, lambda *_: None, self.options)

    def _read(self, copy: dict[str, str]) -> dict[str, object]:
        context = nova_context.RequestContext(
            'user', 'project', auth_token='token')
        return self.reader.read(context, self.instance, copy)

    def test_answers(self) -> None:
        self.assertEqual('yes', self._read(PREFER)['os_require_quiesce'])

    def test_answers_byte_by_byte(self) -> None:
        # Each byte ends a timeout of the client's own before it expires.
        _Glance.pause = 0.1
        self.options.glance_timeout = 1
        started = time.monotonic()
        self._assert_copy_counts('no answer in time')
        self.assertLess(time.monotonic() - started, 2)
        _Glance.pause = 0
        self._wait_for_lookups()

    def test_is_down(self) -> None:
        self.glance.shutdown()
        self.glance.server_close()
        with self.assertLogs('nova.image.glance', 'ERROR'):
            self._assert_copy_counts('GlanceConnectionFailed')


class StricterTest(unittest.TestCase):
    """The stricter of two."""

    def setUp(self) -> None:
        super().setUp()
        self.options = Options()

    def _merge(self, copy: dict[str, str],
               current: dict[str, str]) -> dict[str, object]:
        merged = properties.stricter(copy, current, self.options)
        self.assertEqual(
            max(self._rank(copy), self._rank(current)), self._rank(merged))
        return merged

    def _rank(self, values: abc.Mapping[str, object]) -> int:
        return [policy.Policy.SKIP, policy.Policy.PREFER,
                policy.Policy.REQUIRE].index(
                    policy.asked(values, self.options))

    def test_each_pair(self) -> None:
        wishes: list[dict[str, str]] = [
            {}, OPT_OUT, PREFER, REQUIRE, {**OPT_OUT, **REQUIRE},
            {'os_skip_quiesce': 'yes'}, {'os_require_quiesce': 'ture'}]
        for copy in wishes:
            for current in wishes:
                for self.options.allow_opt_out in (True, False):
                    with self.subTest(copy=copy, current=current):
                        self._merge(copy, current)

    def test_set_later(self) -> None:
        self.assertEqual({**PREFER, **REQUIRE},
                         self._merge(PREFER, {**PREFER, **REQUIRE}))

    def test_taken_away_later(self) -> None:
        self.assertEqual(REQUIRE, self._merge(REQUIRE, {}))
        self.assertEqual(REQUIRE, self._merge(
            REQUIRE, {'os_require_quiesce': 'no'}))

    def test_opted_out_later(self) -> None:
        self.assertEqual(PREFER, self._merge(PREFER, OPT_OUT))

    def test_opted_in_later(self) -> None:
        self.assertEqual(PREFER, self._merge(OPT_OUT, PREFER))

    def test_no_mixture_asks_for_what_neither_asks_for(self) -> None:
        self.assertEqual({}, self._merge({}, OPT_OUT))
        self.assertEqual(OPT_OUT, self._merge(OPT_OUT, {}))

    def test_raw_values_and_others_stay(self) -> None:
        self.assertEqual(
            {'os_require_quiesce': ' TRUE ', 'os_distro': 'debian'},
            self._merge({'os_distro': 'debian', **PREFER},
                        {'os_distro': 'cirros',
                         'os_require_quiesce': ' TRUE '}))

    def test_tighter_limit(self) -> None:
        for copy, current, tighter in (
                ('20', '10', '10'), ('10', '20', '10'), ('banana', '9', '9'),
                ('9', 'banana', '9'), ('banana', '', 'banana')):
            merged = self._merge({policy.LIMIT_PROPERTY: copy},
                                 {policy.LIMIT_PROPERTY: current})
            self.assertEqual(tighter, merged[policy.LIMIT_PROPERTY])

    def test_limit_of_one(self) -> None:
        limit = {policy.LIMIT_PROPERTY: '5'}
        self.assertEqual(limit, self._merge(limit, {}))
        self.assertEqual(limit, self._merge({}, limit))

    def test_windows_of_one(self) -> None:
        windows, linux = {'os_type': 'windows'}, {'os_type': 'linux'}
        self.assertEqual(windows, self._merge(windows, linux))
        self.assertEqual(windows, self._merge(linux, windows))
        self.assertEqual(windows, self._merge({}, windows))
        self.assertEqual(linux, self._merge(linux, {}))

    def test_more_filesystems_win(self) -> None:
        name = policy.MOUNTPOINTS_PROPERTY
        for copy, current, both in (
                (None, '/data', None), ('/data', None, None),
                ('/data', '/data', '/data'), ('/', '/data', '/,/data')):
            merged = self._merge(*(
                {**PREFER, name: value} if value else dict(PREFER)
                for value in (copy, current)))
            self.assertEqual(both, merged.get(name), (copy, current))

    def test_filesystems_of_both(self) -> None:
        name = policy.MOUNTPOINTS_PROPERTY
        many = ','.join('/%d' % number for number in range(10))
        for copy, current, both in (
                ('/data', '', None), ('', '/data', None),
                (many, many[3:] + ',/0', many),
                (many, many.replace('/', '/x'), None),
                ('/data', 'data', 'data'), ('data', '/data', 'data')):
            merged = self._merge({name: copy}, {name: current})
            self.assertEqual(both, merged.get(name), (copy, current))
