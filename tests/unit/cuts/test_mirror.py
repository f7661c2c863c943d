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

"""Which of the aborts of Nova's live snapshot is the cut."""

from collections import abc
import unittest
from unittest import mock

from nova_quiesce.cuts import mirror
from nova_quiesce import exception


class MirroredGuestTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.device = mock.Mock(spec=['rebase', 'abort_job',
                                      'is_job_complete'])
        guest = mock.Mock(spec=['get_block_device', 'get_xml_desc'])
        guest.get_block_device.return_value = self.device
        self.guest = guest
        self.cuts = 0
        self.has_foreign = mock.Mock(spec=[], return_value=False)
        self.wrapped = mirror.MirroredGuest(
            guest, self._cut, self.has_foreign)

    def _cut(self, make: abc.Callable[[], None]) -> None:
        self.cuts += 1
        make()

    def test_abort_of_a_running_mirror_is_the_cut(self) -> None:
        device = self.wrapped.get_block_device('vda')
        device.rebase('path', copy=True)
        device.abort_job(async_=True)
        self.assertEqual(1, self.cuts)
        self.device.rebase.assert_called_once_with('path', copy=True)
        self.device.abort_job.assert_called_once_with(async_=True)

    def test_abort_before_the_mirror_is_not(self) -> None:
        self.wrapped.get_block_device('vda').abort_job()
        self.assertEqual(0, self.cuts)
        self.device.abort_job.assert_called_once_with()

    def test_abort_of_a_mirror_that_did_not_start_is_not(self) -> None:
        self.device.rebase.side_effect = RuntimeError
        device = self.wrapped.get_block_device('vda')
        with self.assertRaises(RuntimeError):
            device.rebase('path')
        device.abort_job()
        self.assertEqual(0, self.cuts)

    def test_job_of_somebody_else_is_not_aborted(self) -> None:
        self.has_foreign.return_value = True
        device = self.wrapped.get_block_device('vda')
        with self.assertRaises(exception.JobUnderWay):
            device.abort_job()
        device.rebase('path')
        with self.assertRaises(exception.JobUnderWay):
            device.abort_job()
        self.has_foreign.assert_called_with('vda')
        self.device.abort_job.assert_not_called()
        self.assertEqual(0, self.cuts)

    def test_only_the_first_abort_is(self) -> None:
        device = self.wrapped.get_block_device('vda')
        device.rebase('path')
        device.abort_job()
        device.abort_job()
        self.assertEqual(1, self.cuts)
        self.assertEqual(2, self.device.abort_job.call_count)

    def test_all_else_is_the_guest(self) -> None:
        self.assertIs(self.guest.get_xml_desc, self.wrapped.get_xml_desc)
        device = self.wrapped.get_block_device('vda')
        self.assertIs(self.device.is_job_complete,
                      device.is_job_complete)
