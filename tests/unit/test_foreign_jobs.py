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

"""Which job of libvirt's is in the way of which cut."""

from collections import abc
import unittest
from unittest import mock

import libvirt

from nova_quiesce.cuts import backup_job
from nova_quiesce import exception
from nova_quiesce import fixture
from nova_quiesce import foreign_jobs

DISK = ("<disk><source file='/%s'/><target dev='%s'/>%s<serial>%s</serial>"
        '</disk>')
COPY = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
PULL = libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL
BACKUP = ("<domainbackup mode='pull'><disks><disk name='%s' backup='yes'/>"
          "<disk name='%s' backup='no'/></disks></domainbackup>")
OF_ROOT = BACKUP % ('vda', 'vdb')
OF_VOLUME = BACKUP % ('vdb', 'vda')
NOVAS = '/snapshots/tmpabcd_123/%s.delta' % ('0123456789abcdef' * 2)


class Domain(fixture.FakeDomain):
    """A domain with a root disk, a volume and an empty drive."""

    #: Where the root disk is copied to.
    mirror = ''

    def XMLDesc(self, flags: int = 0) -> str:
        mirror = ("<mirror type='file' file='%s' job='copy'/>" % self.mirror
                  if self.mirror else '')
        return ("<domain><devices><disk device='cdrom'><target dev='hda'/>"
                '</disk>%s%s</devices></domain>' % (
                    DISK % ('root', 'vda', mirror, ''),
                    DISK % ('volume', 'vdb', '', 'volume-id')))


class ForeignTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.domain = Domain()
        self.jobs = foreign_jobs.Jobs(self.domain, '/snapshots/')
        self.checks: dict[str, abc.Callable[[], None]] = {
            'backup': lambda: self.jobs.check_backup('/root'),
            'mirror': lambda: self.jobs.check_mirror('/root'),
            'suspend': self.jobs.check_suspend,
            'snapshot': lambda: self.jobs.check_snapshot('volume-id'),
        }

    def _in_the_way(self) -> dict[str, str]:
        """What cannot be done now, and why."""
        told = {}
        for name, check in self.checks.items():
            try:
                check()
            except exception.JobUnderWay as error:
                told[name] = str(error).partition(' is under way ')[0]
            except backup_job.Refused:
                told[name] = 'refused'
        return told

    def test_no_job(self) -> None:
        self.assertEqual({}, self._in_the_way())
        self.assertFalse(self.jobs.has_foreign('/root'))

    def test_backup_of_the_disk(self) -> None:
        self.domain.backup = OF_ROOT
        self.assertEqual(dict.fromkeys(
            self.checks, "another program's backup job"), self._in_the_way())
        self.assertTrue(self.jobs.has_foreign('/root'))

    def test_backup_of_another_disk(self) -> None:
        self.domain.backup = OF_VOLUME
        told = "another program's backup job"
        self.assertEqual({'backup': 'refused', 'suspend': told,
                          'snapshot': told}, self._in_the_way())
        self.assertFalse(self.jobs.has_foreign('/root'))

    def test_job_of_the_disk(self) -> None:
        for kind in (COPY, PULL):
            self.domain.block_jobs = {'vda': kind}
            self.assertEqual({'backup', 'mirror', 'suspend'},
                             set(self._in_the_way()))
            self.assertTrue(self.jobs.has_foreign('/root'))

    def test_job_of_another_disk(self) -> None:
        self.domain.block_jobs = {'vdb': PULL}
        self.assertEqual({'suspend': 'another pull job',
                          'snapshot': 'another pull job'}, self._in_the_way())

    def test_job_of_a_kind_that_is_not_known(self) -> None:
        self.domain.block_jobs = {'vda': 99}
        self.assertEqual('another job', self._in_the_way()['backup'])

    def test_memory_dump(self) -> None:
        self.domain.operation = libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP
        self.assertEqual(dict.fromkeys(
            self.checks, "another program's memory dump"), self._in_the_way())
        self.assertFalse(self.jobs.has_foreign('/root'))

    def test_operation_that_is_not_known(self) -> None:
        self.domain.operation = libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN
        self.assertEqual(dict.fromkeys(self.checks, 'another job'),
                         self._in_the_way())

    def test_mirror_that_nova_left_behind(self) -> None:
        self.domain.block_jobs = {'vda': COPY}
        self.domain.mirror = NOVAS
        self.assertEqual({
            'backup': 'refused',
            'suspend': 'a mirror that an earlier snapshot left behind'},
            self._in_the_way())
        self.assertFalse(self.jobs.has_foreign('/root'))

    def test_mirrors_of_others(self) -> None:
        self.domain.block_jobs = {'vda': COPY}
        for path in ('/other' + NOVAS, NOVAS + '.qcow2', '/snapshots/mine',
                     NOVAS.replace('tmp', 'other'), '/snapshots',
                     NOVAS.replace('/snapshots/', '/snapshots/more/')):
            self.domain.mirror = path
            self.assertTrue(self.jobs.has_foreign('/root'), path)
            self.assertIn('mirror', self._in_the_way())

    def test_disk_that_is_not_there(self) -> None:
        with self.assertRaises(backup_job.Refused):
            self.jobs.check_backup('/other')

    def _fail(self, code: int) -> None:
        def fail(*_arguments: object) -> dict[str, object]:
            raise fixture.libvirt_error(code, 'planned')

        for name in ('jobStats', 'blockJobInfo'):
            self.enterContext(mock.patch.object(self.domain, name, fail))

    def test_what_never_has_jobs(self) -> None:
        for code in (libvirt.VIR_ERR_OPERATION_INVALID,
                     libvirt.VIR_ERR_NO_SUPPORT):
            self._fail(code)
            self.assertEqual({}, self._in_the_way())

    def test_where_it_cannot_be_told(self) -> None:
        self._fail(libvirt.VIR_ERR_SYSTEM_ERROR)
        for check in self.checks.values():
            self.assertRaises(libvirt.libvirtError, check)
