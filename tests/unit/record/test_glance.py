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

"""Finding a request's image, and putting it away."""

import datetime
import unittest
from unittest import mock

import glanceclient.exc
from nova.image import glance as nova_glance

from nova_quiesce.record import glance

SINCE = datetime.datetime(2026, 5, 6, 12, tzinfo=datetime.UTC)


def image(*snapshot_ids: str, **more: object) -> glance.Image:
    """An image that stands for volume snapshots."""
    return {'id': 'image', 'status': 'active', 'properties': {
        'block_device_mapping': [
            {'snapshot_id': snapshot_id} for snapshot_id in snapshot_ids]},
            **more}


class FindTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.api = mock.Mock()
        self.context = mock.Mock(project_id='project')

    def _find(self, *images: glance.Image) -> glance.Image | None:
        self.api.get_all.return_value = list(images)
        return glance.Images(self.api).find(
            self.context, SINCE, ('s1', 's2'))

    def test_exactly_its_snapshots(self) -> None:
        mapping = ('[{"snapshot_id": "s2"}, {"snapshot_id": "s1"},'
                   ' {"source_type": "blank"}]')
        for good in (image('s1', 's2'), image('s2', 's1'), {
                'properties': {'block_device_mapping': mapping}}):
            self.assertIs(good, self._find(image('s3'), good))

    def test_nothing_that_is_like_it(self) -> None:
        likely: list[glance.Image] = [
            image('s1'), image('s1', 's2', 's3'), image('s1', 's3'), image(),
            image('s1', 's1', 's2'), {}, {'properties': None}]
        mappings: tuple[object, ...] = (
            None, 5, '{not json', '[' * 100000, [5, None, {}],
            {'snapshot_id': 's1'})
        likely += [{'properties': {'block_device_mapping': mapping}}
                   for mapping in mappings]
        self.assertIsNone(self._find(*likely))

    def test_only_the_projects_and_no_older_ones(self) -> None:
        self._find()
        self.assertEqual(
            {'owner': 'project', 'created_at': 'gte:2026-05-06T11:55:00Z'},
            self.api.get_all.call_args[1]['filters'])
        self.assertNotIn('limit', self.api.get_all.call_args[1])


class PutAwayTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.call = self.enterContext(mock.patch.object(
            nova_glance, 'GlanceClientWrapper',
            autospec=True)).return_value.call

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
