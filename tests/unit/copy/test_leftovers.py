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

"""Which backup jobs are this host's own."""

from collections import abc
import os
import tempfile
import types
import unittest
from unittest import mock

import libvirt

from nova_quiesce.copy import leftovers
from nova_quiesce.copy import workplace
from nova_quiesce import exception
from nova_quiesce import fixture
from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import leased_jobs

PLACES = workplace.Places('/place', 'host')
OURS = workplace.Workplace('/place/quiesce-host-abcd_123')


def job_in(path: str, scratch: str = 'scratch', socket: str = 'nbd') -> str:
    """A backup job, as libvirt describes it."""
    return ("<domainbackup mode='pull'><server transport='unix' "
            "socket='%s/%s'/><disks><disk name='vda' backup='yes' type='file'>"
            "<scratch file='%s/%s'/></disk><disk name='vdb' backup='no'/>"
            '</disks></domainbackup>' % (path, socket, path, scratch))


class FindTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()

    def test_ours(self) -> None:
        self.domain.backup = job_in(OURS.path)
        found = leftovers.find(self.domain, PLACES)
        assert found is not None
        self.assertEqual(OURS.path, found.path)

    def test_jobs_of_others(self) -> None:
        for job in ("<domainbackup mode='push'/>",
                    "<domainbackup mode='pull'><server transport='tcp'/>"
                    '</domainbackup>',
                    job_in('/other/quiesce-host-abcd_123'),
                    job_in('/place/quiesce-host-gpu-abcd_123'),
                    job_in('/place/quiesce-host2-abcd_123'),
                    job_in('/place/quiesce-host-abcd_123/more'),
                    job_in('/place/quiesce-host-abcd_1234'),
                    job_in(OURS.path, scratch='../scratch'),
                    job_in(OURS.path, socket='socket'),
                    job_in(OURS.path).replace('scratch', 'target')):
            self.domain.backup = job
            self.assertIsNone(leftovers.find(self.domain, PLACES), job)

    def test_no_job(self) -> None:
        self.assertIsNone(leftovers.find(self.domain, PLACES))

    def test_where_it_cannot_be_told(self) -> None:
        with mock.patch.object(
                self.domain, 'backupGetXMLDesc', autospec=True,
                side_effect=fixture.libvirt_error(
                    libvirt.VIR_ERR_SYSTEM_ERROR, 'socket is closed')), \
                self.assertRaises(libvirt.libvirtError):
            leftovers.find(self.domain, PLACES)


class GoOnTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.host = types.SimpleNamespace(get_connection=mock.Mock(
            side_effect=RuntimeError))
        self.leases = mock.create_autospec(
            leased_jobs.LeasedJobs, instance=True)
        self.scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.object(
            workplace, 'of_this_host', autospec=True,
            return_value=workplace.Places(self.scratch, 'host')))
        self.path = os.path.join(self.scratch, 'quiesce-host-abcd_123')
        os.mkdir(self.path)
        self.leases.left.return_value = [types.SimpleNamespace(
            content={'socket': os.path.join(self.path, 'nbd')})]

    def _go_on(self) -> abc.Callable[[], None]:
        leftovers.go_on(self.host, self.leases)
        remove: abc.Callable[[], None] = self.leases.adopt.call_args.args[1]
        return remove

    def test_hypervisor_that_is_away_at_the_start(self) -> None:
        remove = self._go_on()
        self.host.get_connection.side_effect = lambda: self.domain
        remove()
        self.assertEqual([], os.listdir(self.scratch))

    def test_hypervisor_that_is_away_again(self) -> None:
        remove = self._go_on()
        with self.assertLogs('nova_quiesce.copy.leftovers', 'ERROR'):
            remove()
        self.assertTrue(os.path.exists(self.path))


class MakeWayTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.object(
            workplace, 'of_this_host', autospec=True,
            return_value=workplace.Places(scratch, 'host')))
        self.domain.backup = job_in(os.path.join(
            scratch, 'quiesce-host-abcd_123'))
        self.tries = self.enterContext(mock.patch.object(
            jobs, 'end', autospec=True, return_value=False))

    def test_job_that_ends_late(self) -> None:
        def end(*_arguments: object) -> bool:
            if self.tries.call_count == 3:
                self.domain.backup = None
            return False

        self.tries.side_effect = end
        leftovers.make_way(self.domain)
        self.assertEqual(3, self.tries.call_count)

    def test_job_that_does_not_end(self) -> None:
        with self.assertRaises(exception.JobLeftBehind):
            leftovers.make_way(self.domain)
        self.assertIsNotNone(self.domain.backup)


class EndTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = fixture.FakeDomain()
        self.host = types.SimpleNamespace(list_guests=mock.Mock(
            return_value=[types.SimpleNamespace(_domain=self.domain)]))
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.object(
            workplace, 'of_this_host', autospec=True,
            return_value=workplace.Places(scratch, 'host')))
        self.ours, self.begins = (
            os.path.join(scratch, 'quiesce-host-%s' % one)
            for one in ('abcd_123', 'abcd_124'))
        for path in (self.ours, self.begins):
            os.mkdir(path)

    def test_what_is_under_way_keeps_its_files(self) -> None:
        """It may have been prepared, and begin its job yet."""
        self.domain.backup = job_in(self.ours)
        with self.assertLogs('nova_quiesce.copy.leftovers', 'WARNING'):
            leftovers.end(self.host)
        self.assertIsNone(self.domain.backup)
        self.assertFalse(os.path.exists(self.ours))
        self.assertTrue(os.path.exists(self.begins))

    def test_hypervisor_that_is_away(self) -> None:
        self.host.list_guests.side_effect = RuntimeError
        with self.assertLogs('nova_quiesce.copy.leftovers', 'ERROR'):
            leftovers.end(self.host)
        self.assertTrue(os.path.exists(self.ours))
