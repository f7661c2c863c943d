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

"""The upload of an image-backed snapshot: its record, and its gate."""

import datetime
import unittest
from unittest import mock

from nova_quiesce import consistency
from nova_quiesce import fixture
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent
from nova_quiesce.freeze import proof
from nova_quiesce import policy
from nova_quiesce.record import glance
from nova_quiesce.record import image_api
from nova_quiesce import snapshots
from tests.unit.freeze import test_windows

CONTEXT = mock.Mock()
NOW = datetime.datetime.now(datetime.UTC)
PROVEN = consistency.judge(proof.Evidence(NOW, 0.05, 2, 2))


def new_snapshot(wanted: policy.Policy) -> snapshots.Snapshot:
    """Make a snapshot of which nothing is known yet."""
    domain = fixture.FakeDomain()
    return snapshots.Snapshot(
        policy.Decision(wanted, policy.Limits(1, 1)),
        guest_agent.Agent(lambda: domain, guest_agent.Timeouts(1, 1, 1)),
        lambda is_saved: test_windows.new_window(domain))


class UploadedSnapshot:
    """A snapshot that an image is made of."""

    def __init__(self, wanted: policy.Policy) -> None:
        self.snapshot = new_snapshot(wanted)
        self.upload: mock.Mock | None = None
        self.has_ended = False

    def end_upload(self) -> None:
        """Note that the upload was released."""
        self.has_ended = True


class RecordingImageAPITest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.nova = mock.Mock()
        self.surely = self.enterContext(mock.patch.object(
            glance, 'record_surely', autospec=True))
        self.forget = self.enterContext(mock.patch.object(
            glance, 'forget_record', autospec=True))
        self.found: dict[str, UploadedSnapshot] = {}
        self.api = image_api.RecordingImageAPI(self.nova, self.found.get)

    def test_record_travels_with_the_upload(self) -> None:
        self.found['id'] = UploadedSnapshot(policy.Policy.PREFER)
        self.api.update(CONTEXT, 'id', {'properties': {'a': 'b'}}, 'data',
                        purge_props=False)
        (_, _, info), keywords = self.nova.update.call_args_list[0]
        self.assertEqual('b', info['properties']['a'])
        self.assertEqual('crash', info['properties']['quiesce_consistency'])
        self.assertEqual({'data': 'data', 'purge_props': False}, keywords)

    def test_record_is_read_back(self) -> None:
        self.found['id'] = UploadedSnapshot(policy.Policy.PREFER)
        record = self.found['id'].snapshot.record.properties()
        self.api.update(CONTEXT, 'id', {}, 'data')
        self.surely.assert_called_once_with(CONTEXT, 'id', record)

    def test_record_that_does_not_stay_is_told(self) -> None:
        self.found['id'] = UploadedSnapshot(policy.Policy.PREFER)
        self.surely.return_value = False
        with self.assertLogs(
                'nova_quiesce.record.image_api', 'ERROR') as logged:
            self.api.update(CONTEXT, 'id', {}, 'data')
        self.assertIn('does not stay', logged.output[0])

    def test_failure_to_read_back_does_not_fail_the_snapshot(self) -> None:
        self.found['id'] = UploadedSnapshot(policy.Policy.PREFER)
        self.surely.side_effect = RuntimeError('Glance is busy')
        with self.assertLogs(
                'nova_quiesce.record.image_api', 'ERROR') as logged:
            self.api.update(CONTEXT, 'id', {}, 'data')
        self.assertIn('Glance is busy', logged.output[0])

    def test_what_stands_for_the_image_is_not_uploaded(self) -> None:
        in_progress = self.found['id'] = UploadedSnapshot(policy.Policy.PREFER)
        upload = in_progress.upload = mock.Mock()
        self.nova.update.return_value = {'size': 5}
        self.api.update(CONTEXT, 'id', {}, 'an empty file')
        self.assertIs(upload, self.nova.update.call_args_list[0][1]['data'])
        upload.check.assert_called_once_with(5)
        self.assertTrue(in_progress.has_ended)

    def test_upload_that_fails_has_ended(self) -> None:
        in_progress = self.found['id'] = UploadedSnapshot(policy.Policy.PREFER)
        self.nova.update.side_effect = ValueError
        with self.assertRaises(ValueError):
            self.api.update(CONTEXT, 'id', {})
        self.assertTrue(in_progress.has_ended)

    def test_unproven_is_not_uploaded_where_required(self) -> None:
        self.found['id'] = UploadedSnapshot(policy.Policy.REQUIRE)
        with self.assertRaises(errors.QuiesceError):
            self.api.update(CONTEXT, 'id', {})
        self.nova.update.assert_not_called()

    def test_recording_switched_off(self) -> None:
        api = image_api.RecordingImageAPI(
            self.nova, self.found.get, is_recording=False)
        self.found['id'] = UploadedSnapshot(policy.Policy.PREFER)
        api.update(CONTEXT, 'id', {'name': 'x'})
        self.nova.update.assert_called_once_with(
            CONTEXT, 'id', {'name': 'x', 'properties': {}}, data=None)
        self.forget.assert_called_once_with(CONTEXT, 'id')
        self.found['id'] = UploadedSnapshot(policy.Policy.REQUIRE)
        with self.assertRaises(errors.QuiesceError):
            api.update(CONTEXT, 'id', {})

    def test_other_images_are_left_alone(self) -> None:
        self.api.update(CONTEXT, 'other', {'name': 'x'})
        self.nova.update.assert_called_once_with(
            CONTEXT, 'other', {'name': 'x'}, data=None)

    def test_all_else_is_novas(self) -> None:
        self.assertIs(self.nova.get, self.api.get)
