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
"""Image-backed snapshots on a hypervisor that has backup jobs."""

import os
import pathlib
from unittest import mock
from xml.etree import ElementTree

import fixtures
import libvirt

from nova_quiesce.copy import convert
from nova_quiesce.copy import errors as copy_errors
from nova_quiesce import fixture
from tests.functional import base
from tests.functional import hypervisor

UNDER_WAY = "another program's backup job is under way"
#: As libvirt describes it.
JOB = ("<domainbackup mode='pull'>"
       "<server transport='unix' socket='%(path)s/nbd'/><disks>"
       "<disk name='%(disk)s' backup='yes' type='file'>"
       "<scratch file='%(path)s/scratch'/></disk></disks></domainbackup>")


class BackupJobTestCase(base.QuiesceTestBase):

    has_backup_jobs = True

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.flags(snapshots_directory=self.directory, group='libvirt')
        self.flags(direct_upload=False, group='quiesce')
        self.convert = self.useFixture(fixtures.MockPatch(
            'nova_quiesce.copy.convert.convert',
            side_effect=self._convert)).mock
        self.frozen_at_copy: list[bool] = []
        self.frozen_at_begin: list[bool] = []
        self._watch_begin()
        self.addCleanup(self._assert_no_job)

    def _watch_begin(self) -> None:
        begin = self.guest.backupBegin

        def backup_begin(*args: object) -> object:
            self.frozen_at_begin.append(self.guest.frozen)
            return begin(*args)  # type: ignore[arg-type]

        self.guest.backupBegin = backup_begin  # type: ignore

    def _assert_no_job(self) -> None:
        self.assertIsNone(self.guest.backup)
        self.assertEqual([], os.listdir(self.directory))

    def _convert(self, source: str, target: str, *args: object) -> None:
        self.frozen_at_copy.append(self.guest.frozen)
        assert self.guest.backup is not None
        pathlib.Path(target).write_bytes(b'bits')


class LocalDiskTest(BackupJobTestCase):

    def test_required_and_healthy(self) -> None:
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual('2', record['quiesce_filesystems'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual([True], self.frozen_at_begin)
        self.assertEqual([False], self.frozen_at_copy)
        # No mirror, so the domain was never undefined.
        self.assertEqual([], self.frozen_at_cut)

    def test_two_in_a_row(self) -> None:
        server = self.boot(base.QUIESCED)
        for name in ('one', 'two'):
            record = self.properties_of(self.create_image(server, name))
            self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([True, True], self.frozen_at_begin)

    def test_what_is_copied(self) -> None:
        self.flags(snapshot_compression=True, group='libvirt')
        server = self.boot(base.QUIESCED)
        begun: list[str] = []

        def copy(source: str, target: str, *args: object) -> None:
            begun.append(str(self.guest.backup))
            self._convert(source, target)

        self.convert.side_effect = copy
        self.create_image(server)
        source, target, image_format, is_compressed, _direct, _watch = (
            self.convert.call_args.args)
        job = ElementTree.fromstring(begun[0])
        socket = job.find('server').get('socket')  # type: ignore[union-attr]
        self.assertEqual(convert.export_url(str(socket), 'vda'), source)
        self.assertTrue(target.startswith(self.directory))
        self.assertEqual(('qcow2', True), (image_format, is_compressed))
        self.chown.assert_any_call(socket, uid=os.getuid())

    def test_required_and_failing_hook(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.errors['fsFreeze'] = [fixture.hook_failure('freeze')]
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('status 1', self.fault_of(server))
        # Nothing was begun, because it could not have been used.
        self.assertEqual([], self.frozen_at_begin)
        self.assertEqual([], self.frozen_at_copy)

    def test_preferred_and_failing_hook(self) -> None:
        server = self.boot(base.PREFERRED)
        self.guest.errors['fsFreeze'] = [fixture.hook_failure('freeze')]
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('status 1', record['quiesce_reason'])
        self.assertEqual([False], self.frozen_at_begin)

    def test_freeze_that_did_not_last(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.thaw_answer = 1
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('only 1 were still frozen', self.fault_of(server))
        self.assertEqual([], self.frozen_at_copy)

    def test_refused_job_becomes_a_mirror(self) -> None:
        self.guest.backup_error = fixture.libvirt_error(
            libvirt.VIR_ERR_OPERATION_UNSUPPORTED, 'not supported')
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([False, True], self.frozen_at_cut)
        self.assertIn('refused a backup job', self.stdlog.logger.output)

    def test_copy_that_fails(self) -> None:
        server = self.boot(base.QUIESCED)
        self.convert.side_effect = copy_errors.CopyError('no space is left')
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('not copied', self.fault_of(server))
        self.assertNotIn('no space', self.fault_of(server))
        self.assertIn('no space is left', self.stdlog.logger.output)
        self.assertFalse(self.guest.frozen)

    def test_guest_stuck_by_a_failed_write_goes_on(self) -> None:
        server = self.boot(base.QUIESCED)

        def get_stuck(*args: object) -> None:
            self.guest.stuck = True
            raise copy_errors.CopyError('the guest was paused')

        self.convert.side_effect = get_stuck
        with mock.patch('nova.tests.fixtures.libvirt.Domain.resume',
                        lambda domain: self.guest.resume()):
            image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertFalse(self.guest.stuck)

    def test_image_deleted_meanwhile(self) -> None:
        server = self.boot(base.QUIESCED)
        images = set(self.glance.images)

        def delete(source: str, target: str, *args: object) -> None:
            new, = set(self.glance.images) - images
            self.glance.delete(None, new)
            watch = args[-1]
            self.assertTrue(callable(watch))
            watch._ask()  # type: ignore[attr-defined]
            watch(50)  # type: ignore[operator]

        self.convert.side_effect = delete
        with mock.patch('nova_quiesce.copy.monitor.ASK_INTERVAL', 0.01):
            image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertEqual('ACTIVE', self.api.get_server(
            server['id'])['status'])

    def test_paused_and_required(self) -> None:
        server = self._pause(base.QUIESCED)
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertIn('resume it first', self.fault_of(server))
        self._assert_paused(server)

    def test_paused_and_preferred(self) -> None:
        server = self._pause(base.PREFERRED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('crash', record['quiesce_consistency'])
        self.assertIn('resume it first', record['quiesce_reason'])
        self._assert_paused(server)

    def _pause(self, properties: dict[str, str]) -> dict[str, str]:
        server = self.boot(properties)
        self.api.post_server_action(server['id'], {'pause': None})
        self._wait_for_state_change(server, 'PAUSED')
        self.guest.running = False
        return server

    def _assert_paused(self, server: dict[str, str]) -> None:
        self.assertEqual('PAUSED', self.api.get_server(
            server['id'])['status'])
        self.assertEqual([], self.guest.calls)

    def test_backup_api(self) -> None:
        server = self.boot(base.QUIESCED)
        answer = self.api.post_server_action(server['id'], {'createBackup': {
            'name': 'daily', 'backup_type': 'daily', 'rotation': 99}})
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None})
        record = self.properties_of(answer['image_id'])
        self.assertEqual('filesystem', record['quiesce_consistency'])

    def test_shelve(self) -> None:
        # Nova stops the instance first.
        server = self.boot(base.QUIESCED)
        self.api.post_server_action(server['id'], {'shelve': None})
        self._wait_for_state_change(server, 'SHELVED_OFFLOADED')
        made, = [image for image in self.glance.images.values()
                 if image['name'].endswith('-shelved')]
        self.assertEqual(
            'offline', made['properties']['quiesce_consistency'])
        self.assertEqual([], self.frozen_at_begin)

    def test_job_that_could_not_be_ended_is_ended_later(self) -> None:
        server = self.boot(base.QUIESCED)
        self.guest.abort_error = fixture.libvirt_error(
            libvirt.VIR_ERR_OPERATION_TIMEOUT,
            'cannot acquire state change lock')
        first = self.properties_of(self.create_image(server, 'one'))
        self.assertIsNotNone(self.guest.backup)
        self.assertIn('state change lock', self.stdlog.logger.output)
        self.guest.abort_error = None
        second = self.properties_of(self.create_image(server, 'two'))
        for record in (first, second):
            self.assertEqual('filesystem', record['quiesce_consistency'])
        # Neither has become a mirror.
        self.assertEqual([True, True], self.frozen_at_begin)

    def _leave_job(self, name: str) -> str:
        """Leave a job and its files behind, as if of an earlier process."""
        path = pathlib.Path(self.directory, name)
        path.mkdir()
        (path / 'scratch').touch()
        self.guest.backup = JOB % {'path': path, 'disk': 'vda'}
        return self.guest.backup

    def test_jobs_left_behind_are_ended(self) -> None:
        self.boot(base.QUIESCED)
        self._leave_job('quiesce-compute1-abcd_123')
        self.driver.init_host('compute1')
        self.assertIsNone(self.guest.backup)
        self.assertEqual([], os.listdir(self.directory))

    def test_job_left_behind_that_does_not_end(self) -> None:
        """Its files stay, and no guest is frozen to wait for it."""
        server = self.boot(base.QUIESCED)
        job = self._leave_job('quiesce-compute1-abcd_123')
        left = pathlib.Path(self.directory, 'quiesce-compute1-efgh_456')
        left.mkdir()
        self.guest.abort_error = fixture.libvirt_error(
            libvirt.VIR_ERR_OPERATION_TIMEOUT,
            'cannot acquire state change lock')
        self.driver.init_host('compute1')
        self.assertEqual(['quiesce-compute1-abcd_123'],
                         os.listdir(self.directory))
        self.assert_failed(server, self.create_image(server),
                           'left behind does not end')
        self.assertEqual(job, self.guest.backup)
        self.assertNotIn('fsFreeze', self.guest.calls)
        self.guest.abort_error = None
        self.create_image(server, 'again')

    def test_files_stay_where_libvirt_does_not_tell(self) -> None:
        self.boot(base.QUIESCED)
        self._leave_job('quiesce-compute1-abcd_123')
        told = self.guest.backupGetXMLDesc

        def fail(flags: int = 0) -> str:
            raise fixture.libvirt_error(
                libvirt.VIR_ERR_SYSTEM_ERROR, 'client socket is closed')

        self.guest.backupGetXMLDesc = fail  # type: ignore[method-assign]
        self.driver.init_host('compute1')
        self.guest.backupGetXMLDesc = told  # type: ignore[method-assign]
        self.assertIn('socket is closed', self.stdlog.logger.output)
        self.assertEqual(['quiesce-compute1-abcd_123'],
                         os.listdir(self.directory))
        self.driver.init_host('compute1')

    def _remove_theirs(self, name: str) -> None:
        self.guest.backup = None
        for path in pathlib.Path(self.directory, name).iterdir():
            path.unlink()
        pathlib.Path(self.directory, name).rmdir()

    def test_jobs_of_others_are_left_alone(self) -> None:
        self.boot(base.QUIESCED)
        theirs = "<domainbackup mode='push'/>"
        self.guest.backup = theirs
        self.driver.init_host('compute1')
        self.assertEqual(theirs, self.guest.backup)
        self.guest.backup = None

    def test_host_whose_name_begins_anothers(self) -> None:
        """Both make snapshots in the same directory."""
        server = self.boot(base.QUIESCED)
        name = 'quiesce-compute1-gpu-abcd_123'
        theirs = self._leave_job(name)
        self.driver.init_host('compute1')
        self.driver.cleanup_host('compute1')
        self.assertEqual(theirs, self.guest.backup)
        self.assertEqual(['scratch'], os.listdir(
            os.path.join(self.directory, name)))
        # Such a job of this domain could only be somebody else's.
        self.assert_failed(server, self.create_image(server), UNDER_WAY)
        self.assertEqual(theirs, self.guest.backup)
        self._remove_theirs(name)


class ForeignJobTest(BackupJobTestCase):
    """libvirt is doing something else with the instance, for others."""

    def setUp(self) -> None:
        super().setUp()
        self.cold = self.useFixture(fixtures.MockPatch(
            'nova.virt.libvirt.driver.LibvirtDriver.suspend')).mock

    def _begin(self, disk: str = 'vda') -> str:
        self.guest.backup = JOB % {'path': '/var/backups', 'disk': disk}
        return self.guest.backup

    def _assert_untouched(self, job: str | None) -> None:
        self.assertEqual(job, self.guest.backup)
        self.assertNotIn('fsFreeze', self.guest.calls)
        self.assertEqual([], self.frozen_at_begin)
        self.assertEqual([], self.frozen_at_cut)
        self.cold.assert_not_called()
        self.assertEqual([], os.listdir(self.directory))
        self.assertEqual(1, self.persistent_domains())
        self.assert_released()

    def _assert_refused(self, properties: dict[str, str],
                        reason: str = UNDER_WAY) -> None:
        job = self.guest.backup
        server = self.boot(properties)
        self.assert_failed(server, self.create_image(server), reason)
        self._assert_untouched(job)
        # It goes on as soon as that is done.
        self.guest.backup, self.guest.operation = None, None
        self.guest.block_jobs.clear()
        self.properties_of(self.create_image(server, 'later'))

    def test_backup_and_required(self) -> None:
        self._begin()
        self._assert_refused(base.QUIESCED)

    def test_backup_and_preferred(self) -> None:
        self._begin()
        self._assert_refused(base.PREFERRED)

    def test_backup_and_not_asked_for(self) -> None:
        self._begin()
        self._assert_refused({})

    def test_copy_of_the_disk(self) -> None:
        self.guest.block_jobs['vda'] = (
            libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY)
        self._assert_refused(base.PREFERRED, 'another copy job is under way')

    def test_memory_dump(self) -> None:
        self.guest.operation = libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP
        self._assert_refused(base.QUIESCED, 'memory dump is under way')

    def test_hypervisor_without_backup_jobs(self) -> None:
        """A mirror begins with ending what job the disk has."""
        self.guest.has_backup_jobs = False
        self.guest.block_jobs['vda'] = (
            libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL)
        server = self.boot(base.QUIESCED)
        self.assert_failed(server, self.create_image(server),
                           'another pull job is under way')
        self._assert_untouched(None)

    def test_job_of_another_disk(self) -> None:
        self.guest.block_jobs['vdb'] = (
            libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY)
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([True], self.frozen_at_begin)
        self.assertIn('vdb', self.guest.block_jobs)

    def test_backup_of_another_disk(self) -> None:
        """There can be no second one, but a mirror; and one freeze."""
        job = self._begin('vdb')
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual([], self.frozen_at_begin)
        self.assertEqual([False, True], self.frozen_at_cut)
        self.assertEqual(job, self.guest.backup)
        self.guest.backup = None

    def test_mirror_that_nova_left_behind(self) -> None:
        """Nova ends it, and makes another one."""
        self.guest.block_jobs['vda'] = (
            libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY)
        self.disk_xml = hypervisor.DISK.replace(
            '</disk>', "<mirror type='file' file='%s/tmpabcd_123/%s.delta' "
            "job='copy'/></disk>" % (self.directory, 'ab' * 16))
        self.on_abort = self.guest.block_jobs.clear
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self.assertEqual([], self.frozen_at_begin)
        self.assertEqual([False, True], self.frozen_at_cut)

    def test_backup_that_begins_between_the_look_and_the_cut(self) -> None:
        server = self.boot(base.PREFERRED)
        jobs: list[str] = []
        self.guest.after['fsFreeze'] = lambda: jobs.append(self._begin())
        self.assert_failed(server, self.create_image(server),
                           'another job is under way')
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual(jobs, [self.guest.backup])
        # There was no mirror.
        self.assertEqual([], self.frozen_at_cut)
        self.guest.backup = None

    def test_copy_that_begins_between_the_look_and_the_cut(self) -> None:
        server = self.boot(base.PREFERRED)
        self.guest.after['fsFreeze'] = lambda: self.guest.block_jobs.update(
            vda=libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY)
        self.assert_failed(server, self.create_image(server),
                           'another copy job is under way')
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)
        self.assertEqual([], self.frozen_at_cut)
        self.assertIn('vda', self.guest.block_jobs)

    def test_cold_path_is_forced(self) -> None:
        self.flags(disable_libvirt_livesnapshot=True, group='workarounds')
        job = self._begin('vdb')
        server = self.boot(base.QUIESCED)
        self.assert_failed(server, self.create_image(server), UNDER_WAY)
        self._assert_untouched(job)
        self.guest.backup = None
