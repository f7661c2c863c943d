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

"""A request's image: found among others, recorded on, put away."""

import datetime
import json
import typing
import unittest
from unittest import mock

import glanceclient.exc
from nova.image import glance as nova_glance

from nova_quiesce.record import glance

SINCE = datetime.datetime(2026, 5, 6, 12, tzinfo=datetime.UTC)


def image(*snapshot_ids: str, **more: object) -> dict[str, typing.Any]:
    """Make an image that stands for volume snapshots."""
    return {'id': 'image', 'status': 'active', 'block_device_mapping':
            json.dumps([{'snapshot_id': snapshot_id}
                        for snapshot_id in snapshot_ids]), **more}


class ClientTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.call = self.enterContext(mock.patch.object(
            nova_glance, 'GlanceClientWrapper',
            autospec=True)).return_value.call
        self.context = mock.Mock(project_id='project')


class FindTest(ClientTestCase):

    def _find(self, *images: glance.Image,
              hidden: tuple[glance.Image, ...] = ()) -> glance.Image | None:
        self.call.side_effect = [iter(images), iter(hidden)]
        return glance.find(self.context, SINCE, ('s1', 's2'))

    def test_exactly_its_snapshots(self) -> None:
        mapping = ('[{"snapshot_id": "s2"}, {"snapshot_id": "s1"},'
                   ' {"source_type": "blank"}]')
        for good in (image('s1', 's2'), image('s2', 's1'),
                     {'block_device_mapping': mapping}):
            self.assertIs(good, self._find(image('s3'), good))

    def test_nothing_that_is_like_it(self) -> None:
        likely: list[glance.Image] = [
            image('s1'), image('s1', 's2', 's3'), image('s1', 's3'), image(),
            image('s1', 's1', 's2'), {}]
        mappings: tuple[object, ...] = (
            None, 5, '{not json', '[' * 100000, [5, None, {}],
            {'snapshot_id': 's1'})
        likely += [{'block_device_mapping': mapping, 'mappings': '{'}
                   for mapping in mappings]
        self.assertIsNone(self._find(*likely))

    def test_the_oldest_of_copies(self) -> None:
        first = image('s1', 's2')
        self.assertIs(first, self._find(first, image('s1', 's2')))
        self.assertEqual('asc', self._asked()['sort_dir'])

    def test_hidden(self) -> None:
        hidden = image('s1', 's2')
        self.assertIs(hidden, self._find(image('s3'), hidden=(hidden,)))
        self.assertTrue(self._asked()['filters']['os_hidden'])

    def _asked(self) -> dict[str, typing.Any]:
        asked: dict[str, typing.Any] = self.call.call_args[1]['kwargs']
        return asked

    def test_only_the_projects_and_no_older_ones(self) -> None:
        self._find(image('s1', 's2'))
        self.assertEqual(
            {'owner': 'project', 'created_at': 'gte:2026-05-05T12:00:00Z'},
            self._asked()['filters'])
        self.assertNotIn('limit', self._asked())


class RecordTest(ClientTestCase):

    def _record(self, *answers: object) -> bool:
        self.call.side_effect = answers
        return glance.record_surely(self.context, 'id', {'a': 'b'})

    def test_written_and_read_back(self) -> None:
        self.assertTrue(self._record({}, None, {'a': 'b', 'c': 'd'}))
        self.call.assert_any_call(
            self.context, 2, 'update', args=('id',), kwargs={'a': 'b'})

    def test_lost(self) -> None:
        self.assertFalse(self._record({}, None, {'a': 'other'}))

    def test_there_already(self) -> None:
        self.assertTrue(self._record({'a': 'b'}))
        self.assertEqual(1, self.call.call_count)

    def test_forgotten(self) -> None:
        self.call.side_effect = [
            {'quiesce_reason': "its parent's", 'quiesce_group': "a tenant's"},
            None]
        glance.forget_record(self.context, 'id')
        self.call.assert_called_with(
            self.context, 2, 'update', args=('id',),
            kwargs={'remove_props': ['quiesce_reason']})


class PutAwayTest(ClientTestCase):

    def test_deactivated(self) -> None:
        self.assertEqual('deactivated', glance.put_away(mock.Mock(), 'id'))
        self.call.assert_called_once_with(
            mock.ANY, 2, 'deactivate', args=('id',), kwargs={})

    def test_hidden_where_that_is_forbidden(self) -> None:
        self.call.side_effect = [glanceclient.exc.HTTPForbidden, None]
        with self.assertLogs('nova_quiesce.record.glance', 'WARNING'):
            self.assertEqual('hidden', glance.put_away(mock.Mock(), 'id'))
        self.call.assert_called_with(
            mock.ANY, 2, 'update', args=('id',), kwargs={'os_hidden': True})

    def test_any_other_failure_is_raised(self) -> None:
        self.call.side_effect = glanceclient.exc.HTTPServiceUnavailable
        with self.assertRaises(glanceclient.exc.HTTPServiceUnavailable):
            glance.put_away(mock.Mock(), 'id')
        self.assertEqual(1, self.call.call_count)
