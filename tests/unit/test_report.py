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

"""Where the record goes: onto the right image, and no other."""

import datetime
import json
import threading
import unittest
from unittest import mock

from nova_quiesce import agent
from nova_quiesce import consistency
from nova_quiesce import exception
from nova_quiesce import fixture
from nova_quiesce import policy
from nova_quiesce import report
from nova_quiesce import snapshot
from tests.unit import test_window

NOW = datetime.datetime.now(datetime.UTC)
PROVEN = consistency.judge(consistency.Evidence(NOW, 0.05, 2, 2))


def new_snapshot(wanted: policy.Policy) -> snapshot.Snapshot:
    """A snapshot that nothing is known of yet."""
    domain = fixture.FakeDomain()
    return snapshot.Snapshot(
        policy.Decision(wanted, policy.Limits(1, 1)),
        agent.Agent(lambda: domain, agent.Timeouts(1, 1, 1)),
        lambda is_saved: test_window.new_window(domain))


class RecordingImageAPITest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.nova = mock.Mock()
        self.snapshots: dict[str, snapshot.Snapshot] = {}
        self.api = report.RecordingImageAPI(self.nova, self.snapshots.get)

    def test_record_travels_with_the_upload(self) -> None:
        self.snapshots['id'] = new_snapshot(policy.Policy.PREFER)
        self.api.update('ctx', 'id', {'properties': {'a': 'b'}}, 'data',
                        purge_props=False)
        (_, _, info, data), keywords = self.nova.update.call_args
        self.assertEqual('b', info['properties']['a'])
        self.assertEqual('crash', info['properties']['quiesce_consistency'])
        self.assertEqual(('data', {'purge_props': False}), (data, keywords))

    def test_unproven_is_not_uploaded_where_required(self) -> None:
        self.snapshots['id'] = new_snapshot(policy.Policy.REQUIRE)
        with self.assertRaises(exception.QuiesceError):
            self.api.update('ctx', 'id', {})
        self.nova.update.assert_not_called()

    def test_recording_switched_off(self) -> None:
        api = report.RecordingImageAPI(
            self.nova, self.snapshots.get, is_recording=False)
        self.snapshots['id'] = new_snapshot(policy.Policy.PREFER)
        api.update('ctx', 'id', {'name': 'x'})
        self.nova.update.assert_called_once_with('ctx', 'id', {'name': 'x'})
        self.snapshots['id'] = new_snapshot(policy.Policy.REQUIRE)
        with self.assertRaises(exception.QuiesceError):
            api.update('ctx', 'id', {})

    def test_other_images_are_left_alone(self) -> None:
        self.api.update('ctx', 'other', {'name': 'x'})
        self.nova.update.assert_called_once_with('ctx', 'other',
                                                 {'name': 'x'})

    def test_all_else_is_novas(self) -> None:
        self.assertIs(self.nova.get, self.api.get)


class VolumeRecorderTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.images = mock.Mock()
        self.volumes = mock.Mock()
        self.snapshots = {'s1': self._volume_snapshot('v1')}
        self.volumes.get_snapshot.side_effect = (
            lambda context, snapshot_id: self.snapshots[snapshot_id])
        self.superseded = threading.Event()
        self.recorder = report.VolumeRecorder(
            self.images, self.volumes, mock.Mock(project_id='project'),
            {'v1', 'v2'}, NOW)

    def _volume_snapshot(self, volume_id: str, age: float = 0,
                         status: str = 'available') -> dict[str, object]:
        created = NOW - datetime.timedelta(seconds=age)
        return {'volume_id': volume_id, 'status': status,
                'created_at': created.replace(tzinfo=None).isoformat()}

    def _image(self, *snapshot_ids: str, age: float = 0,
               mapping: object = None) -> dict[str, object]:
        if mapping is None:
            mapping = json.dumps([
                {'snapshot_id': snapshot_id, 'source_type': 'snapshot'}
                for snapshot_id in snapshot_ids])
        return {'id': 'image', 'created_at':
                NOW - datetime.timedelta(seconds=age),
                'properties': {'block_device_mapping': mapping}}

    def _record(self, *images: dict[str, object],
                record: consistency.Record = PROVEN) -> str | None:
        self.images.get_all.return_value = list(images)
        written = self.recorder.record(record, 0.05, self.superseded)
        if written is None:
            self.images.update.assert_not_called()
            return None
        self.images.update.assert_called_once_with(
            mock.ANY, 'image', {'properties': written.properties()},
            purge_props=False)
        return written.level.value

    def test_found_by_its_volume_snapshots(self) -> None:
        self.assertEqual('filesystem', self._record(self._image('s1')))

    def test_mapping_need_not_be_text(self) -> None:
        self.assertEqual('filesystem', self._record(
            self._image(mapping=[{'snapshot_id': 's1'}, {}])))

    def test_snapshot_that_was_not_cut_yet(self) -> None:
        self.snapshots['s1'] = self._volume_snapshot('v1', status='creating')
        self.assertEqual('crash', self._record(self._image('s1')))

    def test_images_that_are_not_ours(self) -> None:
        self.snapshots['other'] = self._volume_snapshot('elsewhere')
        self.snapshots['old'] = self._volume_snapshot('v1', age=60)
        for image in (self._image(), self._image('s1', age=60),
                      self._image('old'), self._image('s1', 'other'),
                      self._image(mapping='{not json'),
                      self._image(mapping={'snapshot_id': 's1'}),
                      {'id': 'bare', 'created_at': NOW}):
            self.assertIsNone(self._record(image), image)

    def test_superseded(self) -> None:
        self.superseded.set()
        self.assertIsNone(self._record(self._image('s1')))


class RecordingsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.recordings = report.Recordings()
        self.addCleanup(self.recordings.stop)
        self.given: list[threading.Event] = []
        self.seen = threading.Event()
        self.recorder = mock.Mock()
        self.recorder.record.side_effect = self._wait_for_end

    def _wait_for_end(self, record: object, timeout: float,
                      superseded: threading.Event) -> None:
        self.given.append(superseded)
        self.seen.set()
        superseded.wait(test_window.SOON)

    def _start(self, instance_uuid: str = 'uuid') -> None:
        self.seen.clear()
        self.recordings.start(instance_uuid, self.recorder, PROVEN, 1)
        self.assertTrue(self.seen.wait(test_window.SOON))

    def test_next_request_supersedes(self) -> None:
        self._start()
        self.recordings.supersede('uuid')
        self.assertTrue(self.given[0].is_set())

    def test_other_instances_do_not(self) -> None:
        self._start()
        self._start('other')
        self.assertFalse(self.given[0].is_set())

    def test_stop(self) -> None:
        self._start()
        self.recordings.stop()
        self.assertTrue(self.given[0].is_set())

    def test_failure_is_logged(self) -> None:
        self.recorder.record.side_effect = RuntimeError('Glance is down')
        with self.assertLogs('nova_quiesce.report', 'ERROR') as logged:
            self.recordings.start('uuid', self.recorder, PROVEN, 1)
            for thread in threading.enumerate():
                if thread.name == 'record-uuid':
                    thread.join(test_window.SOON)
        self.assertIn('was not recorded', logged.output[0])
