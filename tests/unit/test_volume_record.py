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

from nova_quiesce import consistency
from nova_quiesce import volume_record

NOW = datetime.datetime.now(datetime.UTC)
HELD = consistency.judge(consistency.Evidence(NOW, 0.05, 2, 2))
PROVEN = volume_record.Proven(HELD, frozenset({'s1', 's2'}))
LAPSED = volume_record.Proven(consistency.crash('a lapse'))


class RecorderTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.images = mock.Mock()
        self.volumes = mock.Mock()
        self.volume_of = {'s1': 'v1', 's2': 'v2'}
        self.volumes.get_snapshot.side_effect = (
            lambda context, snapshot_id: {
                'volume_id': self.volume_of[snapshot_id]})
        self.label = mock.Mock()
        self.told: list[Exception] = []
        self.superseded = threading.Event()
        self.glance = self.enterContext(
            mock.patch.object(volume_record, 'glance'))

    def _recorder(self, is_required: bool = False,
                  is_labelling: bool = True) -> volume_record.Recorder:
        request = volume_record.Request(
            mock.Mock(project_id='project'), frozenset({'v1', 'v2'}),
            frozenset({'earlier'}), NOW, is_required)
        return volume_record.Recorder(
            self.images, self.volumes, self.label if is_labelling else None,
            self.told.append, request)

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
                proven: volume_record.Proven = PROVEN) -> str | None:
        self.images.get_all.return_value = list(images)
        written = self._recorder().record(proven, 0.05, self.superseded)
        self.assertEqual([], self.glance.mock_calls)
        if written is None:
            self.images.update.assert_not_called()
            self.label.assert_not_called()
            return None
        self._assert_labelled(written)
        return written.level.value

    def _assert_labelled(self, written: consistency.Record) -> None:
        self.images.update.assert_called_once_with(
            mock.ANY, 'image', {'properties': written.properties()},
            purge_props=False)
        self.label.assert_any_call(mock.ANY, 's1', written.properties())

    def test_found_by_its_volume_snapshots(self) -> None:
        self.assertEqual('filesystem', self._record(self._image('s1', 's2')))
        self.assertEqual(['s1', 's2'], [
            call.args[1] for call in self.label.call_args_list])

    def test_mapping_need_not_be_text(self) -> None:
        self.assertEqual('filesystem', self._record(
            self._image(mapping=[{'snapshot_id': 's1'}, {}])))

    def test_snapshot_that_was_not_seen_complete(self) -> None:
        self.assertEqual('crash', self._record(
            self._image('s1', 's2'),
            proven=volume_record.Proven(HELD, frozenset({'s1'}))))

    def test_snapshot_that_cannot_be_labelled(self) -> None:
        self.label.side_effect = RuntimeError('Cinder is down')
        with self.assertLogs('nova_quiesce.volume_record', 'WARNING'):
            self.assertEqual('filesystem', self._record(self._image('s1')))

    def test_images_that_are_not_ours(self) -> None:
        self.volume_of.update(other='elsewhere', earlier='v1')
        for image in (self._image(), self._image('s1', age=60),
                      self._image('earlier'), self._image('s1', 'other'),
                      self._image('s1', 'earlier'),
                      self._image(mapping='{not json'),
                      self._image(mapping={'snapshot_id': 's1'}),
                      {'id': 'bare', 'created_at': NOW}):
            self.assertIsNone(self._record(image), image)

    def test_superseded(self) -> None:
        self.superseded.set()
        self.assertIsNone(self._record(self._image('s1')))

    def _require(self, proven: volume_record.Proven,
                 is_labelling: bool = True) -> consistency.Record:
        self.images.get_all.return_value = [self._image('s1')]
        written = self._recorder(True, is_labelling).record(
            proven, 5, self.superseded)
        assert written is not None
        return written

    def test_required_and_proven(self) -> None:
        self._assert_labelled(self._require(PROVEN))
        self.assertEqual([], self.glance.mock_calls)

    def _assert_put_away(self) -> None:
        self.glance.deactivate.assert_called_with(mock.ANY, 'image')
        self.glance.hide.assert_not_called()
        self._assert_nothing_deleted()

    def _assert_nothing_deleted(self) -> None:
        for api in (self.images, self.volumes):
            api.delete.assert_not_called()
            api.delete_snapshot.assert_not_called()

    def test_required_and_lapsed(self) -> None:
        self._assert_labelled(self._require(LAPSED))
        self._assert_put_away()

    def test_required_and_lapsed_without_labels(self) -> None:
        self._require(LAPSED, is_labelling=False)
        self.assertEqual(['a lapse'], [str(error) for error in self.told])
        self.images.update.assert_not_called()
        self._assert_put_away()

    def test_required_and_lapsed_and_deactivation_is_forbidden(self) -> None:
        self.glance.deactivate.side_effect = RuntimeError('Forbidden')
        self.images.get_all.return_value = [self._image('s1')]
        with mock.patch.object(volume_record, '_LOOK_INTERVAL', 0.01), (
                self.assertLogs('nova_quiesce.volume_record', 'WARNING')):
            self._recorder(True).record(LAPSED, 0.05, self.superseded)
        self.glance.hide.assert_called_once_with(mock.ANY, 'image')
        self._assert_nothing_deleted()

    def test_required_and_lapsed_and_glance_fails_at_first(self) -> None:
        broken = RuntimeError('Glance is busy')
        self.images.get_all.side_effect = [broken, [self._image('s1')]]
        self.images.update.side_effect = broken
        self.glance.deactivate.side_effect = [broken, None]
        with mock.patch.object(volume_record, '_LOOK_INTERVAL', 0.01), (
                self.assertLogs('nova_quiesce.volume_record', 'WARNING')):
            with self.assertRaisesRegex(RuntimeError, 'busy'):
                self._recorder(True).record(LAPSED, 5, self.superseded)
        self.assertEqual(2, self.glance.deactivate.call_count)
        self._assert_put_away()
        self.assertEqual(['a lapse'], [str(error) for error in self.told])
