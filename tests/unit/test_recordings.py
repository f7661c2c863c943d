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

"""One record at a time of each instance, and nobody waits for it."""

import threading
import unittest
from unittest import mock

from nova_quiesce import recordings
from tests.unit import test_volume_record
from tests.unit import test_window


class RecordingsTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.recordings = recordings.Recordings()
        self.addCleanup(self.recordings.stop)
        self.given: list[threading.Event] = []
        self.seen = threading.Event()
        self.recorder = mock.Mock()
        self.recorder.record.side_effect = self._wait_for_end

    def _wait_for_end(self, proven: object, timeout: float,
                      superseded: threading.Event) -> None:
        self.given.append(superseded)
        self.seen.set()
        superseded.wait(test_window.SOON)

    def _start(self, instance_uuid: str = 'uuid') -> None:
        self.seen.clear()
        self.recordings.start(
            instance_uuid, self.recorder, test_volume_record.PROVEN, 1)
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
        with self.assertLogs('nova_quiesce.recordings', 'ERROR') as logged:
            self.recordings.start(
                'uuid', self.recorder, test_volume_record.PROVEN, 1)
            for thread in threading.enumerate():
                if thread.name == 'record-uuid':
                    thread.join(test_window.SOON)
        self.assertIn('was not recorded', logged.output[0])
