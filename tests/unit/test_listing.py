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

"""The lines of ``nova-quiesce list``, with nova-compute up or down."""

import os
import pathlib
import tempfile
import unittest
from unittest import mock

from nova_quiesce.cmd import listing
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import lease_directory
from tests.unit.freeze import test_duties
from tests.unit.freeze import test_lease_directory
from tests.unit.record import test_record_duty
from tests.unit import test_main


class ListTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.path = scratch / 'leases'
        self.config = scratch / 'nova.conf'
        self.config.write_text('[quiesce]\nlease_directory = %s\n'
                               % self.path)

    def _run(self) -> list[str]:
        code, out, err = test_main.run(
            'list', '--config-file', str(self.config))
        self.assertEqual((0, ''), (code, err))
        return out.splitlines()

    def test_nothing_ever_happened(self) -> None:
        self.assertEqual([], self._run())

    def test_what_is_open(self) -> None:
        directory = lease_directory.LeaseDirectory(str(self.path))
        directory.prepare()
        self.assertEqual([], self._run())
        directory.acquire(test_lease_directory.new_lease('req-9'))
        kept = duties.DutyDirectory(str(self.path / 'duties'))
        kept.prepare()
        kept.write(test_record_duty.new().stored)
        kept.write(
            test_record_duty.new(False).with_snapshots(
                ('s1',), test_record_duty.NOW).with_verdict(
                test_record_duty.CRASH).stored)
        (self.path / 'duties' / 'stray').touch()
        kept.write(test_duties.new_duty(more='than known'))
        lease, *owed, other, stray = self._run()
        self.assertIn('request req-9', lease)
        self.assertIn('s more at most', lease)
        self.assertIn("required; not cut yet, nova-api's list is missing",
                      owed[0])
        self.assertIn('preferred; crash, image not recorded yet', owed[1])
        self.assertIn(test_duties.UUID, owed[0])
        self.assertTrue(other.startswith('no duty: '))
        self.assertIn('stray', stray)

    def test_unsafe_directory(self) -> None:
        self.path.mkdir()
        (self.path / 'duties').write_text('none')
        code, _, err = test_main.run(
            'list', '--config-file', str(self.config))
        self.assertEqual(1, code)
        self.assertIn('cannot be used', err)

    def test_root_becomes_the_owner(self) -> None:
        self.path.mkdir()
        with mock.patch.multiple(os, geteuid=mock.Mock(return_value=0),
                                 setegid=mock.DEFAULT,
                                 seteuid=mock.DEFAULT) as called:
            listing.become_owner(str(self.path))
            called['seteuid'].assert_called_once_with(os.getuid())
            listing.become_owner('/proc/nope')
        self.assertEqual(1, called['seteuid'].call_count)
