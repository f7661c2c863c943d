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

"""What is done of what a request owes, and when it has ended."""

import dataclasses
import datetime
import types
import unittest
from unittest import mock

from nova import exception as nova_exception

from nova_quiesce.record import events
from nova_quiesce.record import glance
from nova_quiesce.record import owed as owing
from nova_quiesce.record import volume_backed
from nova_quiesce.record import volume_snapshots
from tests.unit.record import test_glance
from tests.unit.record import test_owed

CONTEXT = mock.Mock(project_id='project')


def aged(owed: owing.Owed, age: datetime.timedelta) -> owing.Owed:
    """The same, some time later."""
    return owing.Owed(dataclasses.replace(owed.duty, created=(
        owed.began - age).isoformat()))


class RecorderTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.calls = mock.Mock()
        self.images = mock.Mock()
        self.images.find.return_value = test_glance.image('s1', 's2')
        self.images.record_surely.return_value = True
        for module, name in (
                (glance, 'put_away'), (glance, 'forget_record'),
                (events, 'tell_once'),
                (events, 'has_failed'),
                (volume_snapshots, 'record')):
            self.calls.attach_mock(self.enterContext(
                mock.patch.object(module, name, autospec=True)), name)
        self.calls.put_away.return_value = 'deactivated'
        self.calls.has_failed.return_value = False
        self.options = types.SimpleNamespace(record=True)
        self.recorder = volume_backed.Recorder(
            self.images, 'host', self.options)
        self.owed = test_owed.new().listed(('s1', 's2')).judged(
            test_owed.HELD)

    def _attempt(self, owed: owing.Owed | None = None,
                 context: mock.Mock | None = CONTEXT) -> str | None:
        return self.recorder.attempt(context, owed or self.owed)

    def _assert_untouched(self) -> None:
        self.images.record_surely.assert_not_called()
        self.calls.put_away.assert_not_called()
        self.calls.record.assert_not_called()

    def test_proven(self) -> None:
        self.assertIn('filesystem', str(self._attempt()))
        self.images.record_surely.assert_called_once_with(
            CONTEXT, 'image', test_owed.HELD.properties)
        self.assertEqual(['s1', 's2'], [
            call.args[1] for call in self.calls.record.call_args_list])
        self.calls.put_away.assert_not_called()
        self.calls.tell_once.assert_not_called()

    def test_required_and_lapsed(self) -> None:
        self.assertIn('crash', str(self._attempt(
            self.owed.judged(test_owed.CRASH))))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')
        self.assertEqual('image image is deactivated: a lapse',
                         str(self.calls.tell_once.call_args[0][-1]))

    def test_required_and_not_all_seen_complete(self) -> None:
        self.images.find.return_value = test_glance.image('s1', 's3')
        self._attempt(self.owed.listed(('s1', 's3')))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')

    def test_preferred_and_lapsed(self) -> None:
        owed = test_owed.new(is_required=False).listed(('s1',)).judged(
            test_owed.CRASH)
        self.assertIn('crash', str(self._attempt(owed)))
        self.calls.put_away.assert_not_called()
        self.calls.tell_once.assert_not_called()

    def test_deactivated_already_and_told_once(self) -> None:
        self.images.find.return_value['status'] = 'deactivated'
        self._attempt(self.owed.judged(test_owed.CRASH))
        self.calls.put_away.assert_not_called()
        self.calls.tell_once.assert_called_once()

    def test_nothing_before_the_image_is_active(self) -> None:
        for status in ('queued', 'saving', 'importing'):
            self.images.find.return_value['status'] = status
            self.assertIsNone(self._attempt())
        self._assert_untouched()

    def test_nothing_before_the_verdict(self) -> None:
        self.assertIsNone(self._attempt(test_owed.new().listed(('s1',))))
        self._assert_untouched()

    def test_record_that_does_not_stay_is_no_end(self) -> None:
        self.images.record_surely.return_value = False
        self.assertIsNone(self._attempt(self.owed.judged(test_owed.CRASH)))
        self.calls.put_away.assert_not_called()

    def test_no_authority(self) -> None:
        self.assertIsNone(self._attempt(context=None))
        self.images.find.assert_not_called()
        self._assert_untouched()

    def test_no_list(self) -> None:
        owed = test_owed.new().judged(test_owed.CRASH)
        self.assertIsNone(self._attempt(owed))
        self.assertIsNone(self._attempt(
            aged(owed, datetime.timedelta(hours=1))))
        with self.assertLogs('nova_quiesce.record.volume_backed', 'ERROR'):
            self.assertIn('never told', str(self._attempt(
                aged(owed, 2 * volume_backed.LATEST_LIST))))
        self.images.find.assert_not_called()
        self._assert_untouched()

    def test_empty_list(self) -> None:
        self.assertIn('no image', str(self._attempt(
            test_owed.new().listed(()))))
        self._assert_untouched()

    def test_nova_api_has_failed(self) -> None:
        self.calls.has_failed.return_value = True
        self.images.find.return_value = None
        self.assertIn('no image', str(self._attempt()))
        self.assertIn('no image', str(self._attempt(context=None)))
        self.assertIn('no image', str(self._attempt(test_owed.new())))

    def test_no_image(self) -> None:
        self.images.find.return_value = None
        self.assertIsNone(self._attempt())
        late = aged(self.owed, 2 * volume_backed.LATEST_IMAGE)
        # Nobody could look.
        self.assertIsNone(self._attempt(late, None))
        self.assertIn('no image', str(self._attempt(late)))

    def test_image_that_is_deleted_meanwhile(self) -> None:
        self.images.record_surely.side_effect = nova_exception.ImageNotFound(
            image_id='image')
        self.assertIn('deleted', str(self._attempt()))

    def test_failure_is_raised(self) -> None:
        self.images.record_surely.side_effect = RuntimeError
        with self.assertRaises(RuntimeError):
            self._attempt()

    def test_without_records(self) -> None:
        self.options.record = False
        self._attempt(self.owed.judged(test_owed.CRASH))
        self.images.record_surely.assert_not_called()
        self.calls.record.assert_not_called()
        self.calls.forget_record.assert_called_once()
        self.calls.put_away.assert_called_once()
