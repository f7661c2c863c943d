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

"""Fulfilling a duty: what is written and put away, and when it ends."""

import dataclasses
import datetime
import types
import unittest
from unittest import mock

from nova import exception as nova_exception

from nova_quiesce.record import action_events
from nova_quiesce.record import glance
from nova_quiesce.record import record_duty
from nova_quiesce.record import recorder
from nova_quiesce.record import volume_snapshots
from tests.unit.record import test_glance
from tests.unit.record import test_record_duty

CONTEXT = mock.Mock(project_id='project')


def aged(duty: record_duty.RecordDuty,
         age: datetime.timedelta) -> record_duty.RecordDuty:
    """The same duty, some time later."""
    content = dict(duty.stored.content)
    if content['listed_at']:
        content['listed_at'] = (datetime.datetime.fromisoformat(
            content['listed_at']) - age).isoformat()
    return record_duty.RecordDuty(dataclasses.replace(duty.stored, created=(
        duty.began - age).isoformat(), content=content))


class RecorderTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.calls = mock.Mock()
        for module, name in (
                (glance, 'find'), (glance, 'show'), (glance, 'put_away'),
                (glance, 'record_surely'), (glance, 'forget_record'),
                (action_events, 'tell_once'), (action_events, 'has_failed'),
                (volume_snapshots, 'record'), (volume_snapshots, 'state')):
            self.calls.attach_mock(self.enterContext(
                mock.patch.object(module, name, autospec=True)), name)
        self.image = test_glance.image('s1', 's2')
        self.calls.find.return_value = self.image
        self.calls.show.return_value = self.image
        self.calls.record_surely.return_value = True
        self.calls.put_away.side_effect = self._put_away
        self.calls.has_failed.return_value = False
        self.calls.state.return_value = 'available'
        self.options = types.SimpleNamespace(record=True)
        self.recorder = recorder.Recorder(
            'host', self.options, mock.Mock())
        self.duty = test_record_duty.new().with_snapshots(
            ('s1', 's2'), test_record_duty.NOW).with_verdict(
                test_record_duty.HELD)
        self.saved: list[record_duty.RecordDuty] = []

    def _put_away(self, *_: object) -> str:
        self.image['status'] = 'deactivated'
        return 'deactivated'

    def _attempt(self, duty: record_duty.RecordDuty | None = None,
                 context: mock.Mock | None = CONTEXT) -> str | None:
        known = duty or self.duty

        def save(change: recorder.Change) -> record_duty.RecordDuty:
            nonlocal known
            known = change(known)
            self.saved.append(known)
            return known

        return self.recorder.attempt(context, known, save)

    def _assert_untouched(self) -> None:
        self.calls.record_surely.assert_not_called()
        self.calls.put_away.assert_not_called()
        self.calls.record.assert_not_called()

    def test_proven(self) -> None:
        self.assertIn('filesystem', str(self._attempt()))
        self.calls.record_surely.assert_called_once_with(
            CONTEXT, 'image', test_record_duty.HELD.properties)
        self.assertEqual(['s1', 's2'], [
            call.args[1] for call in self.calls.record.call_args_list])
        self.calls.put_away.assert_not_called()
        self.calls.tell_once.assert_not_called()

    def _set_states(self, **states: str) -> None:
        self.calls.state.side_effect = (
            lambda api, context, snapshot_id: states[snapshot_id])

    def test_label_waits_for_cinders_word(self) -> None:
        """One that was cut on this host may be complete later, or fail."""
        self._set_states(s1='available', s2='creating')
        self.assertIsNone(self._attempt())
        self._assert_untouched()

    def test_volume_snapshot_that_cinder_never_completes(self) -> None:
        self._set_states(s1='available', s2='creating')
        self.assertIn('never completed', str(self._attempt(
            aged(self.duty, recorder.LATEST_SNAPSHOT))))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')

    def test_volume_snapshot_that_fails_after_its_cut(self) -> None:
        self._set_states(s1='error', s2='available')
        self.assertIn('failed to make volume snapshot s1',
                      str(self._attempt()))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')

    def test_volume_snapshot_that_its_owner_deleted(self) -> None:
        self._set_states(s1='gone', s2='available')
        self.assertIn('filesystem', str(self._attempt()))

    def test_required_and_lapsed(self) -> None:
        self.assertIn('crash', str(self._attempt(
            self.duty.with_verdict(test_record_duty.CRASH))))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')
        self.assertEqual('image image is deactivated: a lapse',
                         str(self.calls.tell_once.call_args[0][-1]))

    def test_required_and_not_all_seen_complete(self) -> None:
        self._attempt(self.duty.with_snapshots(
            ('s1', 's3'), test_record_duty.NOW))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')

    def test_preferred_and_lapsed(self) -> None:
        duty = test_record_duty.new(is_required=False).with_snapshots(
            ('s1',), test_record_duty.NOW).with_verdict(test_record_duty.CRASH)
        self.assertIn('crash', str(self._attempt(duty)))
        self.calls.put_away.assert_not_called()
        self.calls.tell_once.assert_not_called()

    def test_put_away_whatever_cannot_be_recorded(self) -> None:
        self.calls.record_surely.side_effect = RuntimeError('quota')
        with self.assertLogs('nova_quiesce.record', 'WARNING'):
            self.assertIsNone(self._attempt(
                self.duty.with_verdict(test_record_duty.CRASH)))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')

    def test_put_away_once(self) -> None:
        self.calls.record.side_effect = RuntimeError('Cinder is down')
        with self.assertLogs('nova_quiesce.record', 'WARNING'):
            self.assertIsNone(self._attempt(
                self.duty.with_verdict(test_record_duty.CRASH)))
        # Its owner wants it back.
        self.image['status'] = 'active'
        self.calls.record.side_effect = None
        self.assertIn('crash', str(self._attempt(self.saved[-1])))
        self.calls.put_away.assert_called_once_with(CONTEXT, 'image')
        self.calls.find.assert_called_once()
        self.calls.show.assert_called_once_with(CONTEXT, 'image')

    def test_deactivated_by_somebody_else(self) -> None:
        self.image['status'] = 'deactivated'
        self._attempt(self.duty.with_verdict(test_record_duty.CRASH))
        self.calls.put_away.assert_not_called()
        self.calls.tell_once.assert_called_once()

    def test_nothing_before_the_image_is_active(self) -> None:
        for status in ('queued', 'saving', 'importing'):
            self.image['status'] = status
            self.assertIsNone(self._attempt())
        self._assert_untouched()

    def test_nothing_before_the_verdict(self) -> None:
        self.assertIsNone(self._attempt(
            test_record_duty.new().with_snapshots(
                ('s1',), test_record_duty.NOW)))
        self._assert_untouched()

    def test_upload_that_does_not_end(self) -> None:
        self.image['status'] = 'queued'
        late = aged(self.duty, 2 * recorder.LATEST_RECORD)
        self.assertIn('never completed', str(self._attempt(late)))
        self._assert_untouched()

    def test_record_that_does_not_stay_is_no_end(self) -> None:
        self.calls.record_surely.return_value = False
        self.assertIsNone(self._attempt())

    def test_each_volume_snapshot_by_itself(self) -> None:
        self.calls.record.side_effect = [RuntimeError('Cinder is busy'), None]
        with self.assertLogs('nova_quiesce.record', 'WARNING'):
            self.assertIsNone(self._attempt())
        self.assertEqual(2, self.calls.record.call_count)

    def test_what_is_never_taken_ends_at_last(self) -> None:
        self.calls.record_surely.return_value = False
        late = aged(self.duty, 2 * recorder.LATEST_RECORD)
        self.assertIn('no record', str(self._attempt(late)))

    def test_no_authority(self) -> None:
        self.assertIsNone(self._attempt(context=None))
        self.calls.find.assert_not_called()
        self._assert_untouched()

    def test_no_list(self) -> None:
        duty = test_record_duty.new().with_verdict(test_record_duty.CRASH)
        self.assertIsNone(self._attempt(duty))
        self.assertIsNone(self._attempt(
            aged(duty, datetime.timedelta(hours=1))))
        with self.assertLogs('nova_quiesce.record.recorder', 'ERROR'):
            self.assertIn('never told', str(self._attempt(
                aged(duty, 2 * recorder.LATEST_LIST))))
        self.calls.find.assert_not_called()
        self._assert_untouched()

    def test_empty_list(self) -> None:
        self.assertIn('no image', str(self._attempt(
            test_record_duty.new().with_snapshots(
                (), test_record_duty.NOW))))
        self._assert_untouched()

    def test_nova_api_has_failed(self) -> None:
        self.calls.has_failed.return_value = True
        self.calls.find.return_value = None
        self.assertIn('no image', str(self._attempt()))
        self.assertIn('no image', str(self._attempt(context=None)))
        self.assertIn('no image', str(self._attempt(test_record_duty.new())))

    def test_no_image(self) -> None:
        self.calls.find.return_value = None
        self.assertIsNone(self._attempt())
        late = aged(self.duty, 2 * recorder.LATEST_IMAGE)
        # Nobody could look.
        self.assertIsNone(self._attempt(late, None))
        with self.assertLogs('nova_quiesce.record.recorder', 'ERROR'):
            self.assertIn('no image', str(self._attempt(late)))

    def test_list_that_comes_late(self) -> None:
        self.calls.find.return_value = None
        late = aged(test_record_duty.new(), 2 * recorder.LATEST_IMAGE)
        self.assertIsNone(self._attempt(late.with_snapshots(
            ('s1',), test_record_duty.NOW)))

    def test_image_that_is_deleted_meanwhile(self) -> None:
        gone = nova_exception.ImageNotFound(image_id='image')
        self.calls.record_surely.side_effect = gone
        self.assertIn('deleted', str(self._attempt()))
        self.calls.show.side_effect = gone
        self.assertIn('deleted', str(self._attempt(
            self.duty.with_image('image'))))

    def test_failure_is_raised(self) -> None:
        self.calls.find.side_effect = RuntimeError
        with self.assertRaises(RuntimeError):
            self._attempt()

    def test_without_records(self) -> None:
        self.options.record = False
        self._attempt(self.duty.with_verdict(test_record_duty.CRASH))
        self.calls.record_surely.assert_not_called()
        self.calls.record.assert_not_called()
        self.calls.forget_record.assert_called_once()
        self.calls.put_away.assert_called_once()
