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

"""The files of the leases, and what else may lie among them."""

import dataclasses
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

from nova_quiesce.freeze import files
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines

UUID = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'
OTHER = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a2'


def new_lease(owner: str = 'req-1', uuid: str = UUID) -> leases.Lease:
    """A lease of a minute."""
    return leases.Lease.new(machines.REAL, uuid, owner, 'snapshot', 60, 7)


class DirectoryTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.path = self.scratch / 'leases'
        self.directory = lease_directory.LeaseDirectory(str(self.path))


class PrepareTest(DirectoryTestCase):

    def _mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def test_new(self) -> None:
        self.directory.prepare()
        self.assertEqual(0o700, self._mode())

    def test_again(self) -> None:
        self.directory.prepare()
        self.directory.acquire(new_lease())
        self.directory.prepare()
        self.assertIsNotNone(self.directory.read(UUID))

    def test_readable_by_others_is_closed(self) -> None:
        self.path.mkdir()
        self.path.chmod(0o755)
        self.directory.prepare()
        self.assertEqual(0o700, self._mode())

    def test_writable_by_others(self) -> None:
        self.path.mkdir()
        for mode in (0o770, 0o707, 0o1777):
            self.path.chmod(mode)
            with self.assertRaisesRegex(leases.LeaseError,
                                        'others can write to it'):
                self.directory.prepare()

    def test_symlink(self) -> None:
        (self.scratch / 'elsewhere').mkdir(0o700)
        self.path.symlink_to(self.scratch / 'elsewhere')
        with self.assertRaisesRegex(leases.LeaseError, 'symbolic link'):
            self.directory.prepare()
        with self.assertRaises(leases.LeaseError):
            self.directory.acquire(new_lease())

    def test_file(self) -> None:
        self.path.touch()
        with self.assertRaisesRegex(leases.LeaseError, 'no directory'):
            self.directory.prepare()

    def test_of_another_user(self) -> None:
        self.path.mkdir(0o700)
        with mock.patch('os.geteuid', autospec=True,
                        return_value=os.geteuid() + 1):
            with self.assertRaisesRegex(leases.LeaseError, 'belongs to user'):
                self.directory.prepare()

    def test_no_parent(self) -> None:
        directory = lease_directory.LeaseDirectory(str(self.path / 'deeper'))
        with self.assertRaisesRegex(leases.LeaseError, 'cannot be made'):
            directory.prepare()


class PreparedTestCase(DirectoryTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory.prepare()

    def _file(self, uuid: str = UUID) -> pathlib.Path:
        return self.path / (uuid + '.lease')


class HoldTest(PreparedTestCase):

    def test_acquired_and_released(self) -> None:
        lease = new_lease()
        self.directory.acquire(lease)
        self.assertEqual(lease, self.directory.read(UUID))
        self.assertEqual([self._file()], list(self.path.iterdir()))
        self.assertEqual(0o600, stat.S_IMODE(self._file().stat().st_mode))
        self.assertTrue(self.directory.release(lease))
        self.assertIsNone(self.directory.read(UUID))

    def test_released_twice(self) -> None:
        lease = new_lease()
        self.directory.acquire(lease)
        self.assertTrue(self.directory.release(lease))
        self.assertFalse(self.directory.release(lease))

    def test_lease_that_can_be_read_is_not_discarded(self) -> None:
        self.directory.acquire(new_lease())
        self.assertFalse(self.directory.discard(UUID))
        self.assertIsNotNone(self.directory.read(UUID))

    def test_whose_the_instance_is(self) -> None:
        """That no lease is there, or none that can be read, proves nothing."""
        former, present = new_lease(), new_lease()
        self.assertFalse(self.directory.is_another(former))
        self.directory.acquire(present)
        self.assertTrue(self.directory.is_another(former))
        self.assertFalse(self.directory.is_another(
            dataclasses.replace(present, owners=('req-1', 'req-2'))))
        self._file().write_text('torn')
        self.assertFalse(self.directory.is_another(former))

    def test_lease_of_the_version_before(self) -> None:
        fields = new_lease().to_dict()
        del fields['id']
        self._file().write_text(json.dumps({'version': 1} | fields))
        old = self.directory.read(UUID)
        assert old is not None
        self.assertEqual(('req-1',), old.owners)
        self.assertFalse(self.directory.release(new_lease()))
        self.assertTrue(self.directory.release(old))

    def test_lease_of_a_version_to_come(self) -> None:
        fields = new_lease().to_dict()
        self._file().write_text(json.dumps({'version': 3} | fields))
        with self.assertRaisesRegex(leases.InvalidLease, 'not known'):
            self.directory.read(UUID)
        with self.assertRaises(leases.LeaseHeld):
            self.directory.acquire(new_lease())

    def test_held(self) -> None:
        first = new_lease()
        self.directory.acquire(first)
        with self.assertRaisesRegex(leases.LeaseHeld, 'req-1') as raised:
            self.directory.acquire(new_lease('req-2'))
        self.assertEqual(('req-1',), raised.exception.owners)
        self.assertEqual(first, self.directory.read(UUID))
        self.directory.acquire(new_lease('req-2', OTHER))

    def test_held_by_what_cannot_be_read(self) -> None:
        self._file().write_text('torn')
        with self.assertRaisesRegex(leases.LeaseHeld, 'unknown') as raised:
            self.directory.acquire(new_lease())
        self.assertEqual((), raised.exception.owners)
        self.assertTrue(self.directory.discard(UUID))

    def test_release_of_a_former_lease_spares_the_present(self) -> None:
        former, present = new_lease(), new_lease()
        self.directory.acquire(present)
        self.assertFalse(self.directory.release(former))
        self.assertEqual(present, self.directory.read(UUID))
        updated = dataclasses.replace(present, owners=('req-1', 'req-2'))
        self.assertTrue(self.directory.release(updated))

    def test_what_a_killed_writer_left_is_no_obstacle(self) -> None:
        (self.path / '.new').write_text('half a le')
        self.assertEqual(([], []), self.directory.read_all())
        self.directory.acquire(new_lease())
        self.assertEqual([self._file()], list(self.path.iterdir()))

    def test_no_name_leads_outside(self) -> None:
        for uuid in ('../outside', '', '.', UUID + '/..'):
            with self.assertRaises(leases.InvalidLease):
                self.directory.discard(uuid)
            with self.assertRaises(leases.InvalidLease):
                self.directory.read(uuid)

    def test_full_disk(self) -> None:
        with mock.patch('os.fsync', autospec=True,
                        side_effect=OSError(28, 'No space')):
            with self.assertRaisesRegex(leases.LeaseError, 'No space'):
                self.directory.acquire(new_lease())

    def test_link_that_fails_and_was_made(self) -> None:
        link = os.link

        def fail(*arguments: object, **kwargs: object) -> None:
            link(*arguments, **kwargs)  # type: ignore[arg-type]
            raise OSError(5, 'Input/output error')

        with mock.patch('os.link', fail):
            with self.assertRaisesRegex(leases.LeaseError, 'Input/output'):
                self.directory.acquire(new_lease())
        self.directory.acquire(new_lease())

    def test_synced_before_it_is_held(self) -> None:
        with mock.patch('os.fsync', autospec=True,
                        side_effect=os.fsync) as fsync:
            lease = new_lease()
            self.directory.acquire(lease)
            self.assertEqual(2, fsync.call_count)
            self.directory.release(lease)
            self.assertEqual(3, fsync.call_count)


class ContentionTest(PreparedTestCase):

    def test_one_of_many_threads(self) -> None:
        results: list[str] = []

        def acquire(owner: str) -> None:
            try:
                self.directory.acquire(new_lease(owner))
                results.append('got it')
            except leases.LeaseHeld:
                results.append('held')

        threads = [threading.Thread(target=acquire, args=('req-%d' % n,))
                   for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(['got it'] + 7 * ['held'], sorted(results))

    def test_held_across_processes(self) -> None:
        program = (
            'import sys\n'
            'from nova_quiesce.freeze import lease_directory, leases\n'
            'from nova_quiesce.freeze import machines\n'
            'lease_directory.LeaseDirectory(sys.argv[1]).acquire('
            'leases.Lease.new(machines.REAL, sys.argv[2], "req-far", '
            '"snapshot", 60, 7))\n')
        subprocess.run([sys.executable, '-c', program, self.path, UUID],
                       check=True)
        with self.assertRaisesRegex(leases.LeaseHeld, 'req-far'):
            self.directory.acquire(new_lease())


class ReadAllTest(PreparedTestCase):

    def _problem(self) -> lease_directory.Problem:
        found, [problem] = self.directory.read_all()
        self.assertEqual([], found)
        return problem

    def test_all(self) -> None:
        both = [new_lease(), new_lease(uuid=OTHER)]
        for lease in both:
            self.directory.acquire(lease)
        self.assertEqual((both, []), self.directory.read_all())

    def test_torn(self) -> None:
        self.directory.acquire(new_lease())
        content = self._file().read_bytes()
        for size in (0, 1, len(content) // 2):
            self._file().write_bytes(content[:size])
            problem = self._problem()
            self.assertEqual('torn, or no JSON', problem.reason)
            self.assertEqual(UUID, problem.instance_uuid)

    def test_one_problem_hides_no_lease(self) -> None:
        self._file().write_text('torn')
        lease = new_lease(uuid=OTHER)
        self.directory.acquire(lease)
        found, problems = self.directory.read_all()
        self.assertEqual([lease], found)
        self.assertEqual(1, len(problems))

    def test_bottomless(self) -> None:
        self._file().write_text('[' * 60000)
        self.assertEqual('torn, or no JSON', self._problem().reason)

    def test_oversized(self) -> None:
        self._file().write_bytes(b' ' * (files.MAX_SIZE + 1))
        self.assertEqual('larger than 65536 bytes', self._problem().reason)

    def test_unknown_version(self) -> None:
        self.directory.acquire(new_lease())
        text = self._file().read_text()
        self._file().write_text(text.replace('"version": 2', '"version": 3'))
        self.assertIn('version', self._problem().reason)

    def test_of_another_instance(self) -> None:
        self.directory.acquire(new_lease())
        self._file().rename(self._file(OTHER))
        self.assertEqual('holds the lease of another instance',
                         self._problem().reason)

    def test_wrong_name(self) -> None:
        (self.path / 'READ\nME').touch()
        problem = self._problem()
        self.assertEqual(('READ\\nME', 'not named like a lease', None),
                         problem)

    def test_symlink_is_not_followed(self) -> None:
        outside = self.scratch / 'outside'
        self.directory.acquire(new_lease())
        self._file().rename(outside)
        self._file().symlink_to(outside)
        self.assertIn('cannot be opened', self._problem().reason)
        self.assertTrue(self.directory.discard(UUID))
        self.assertTrue(outside.exists())

    def test_fifo_does_not_block(self) -> None:
        os.mkfifo(self._file())
        self.assertEqual('not a regular file', self._problem().reason)

    def test_directory(self) -> None:
        self._file().mkdir()
        self.assertEqual('not a regular file', self._problem().reason)

    def test_of_another_user(self) -> None:
        self.directory.acquire(new_lease())
        with mock.patch('os.geteuid', autospec=True,
                        return_value=os.geteuid() + 1):
            self.assertIn('belongs to user', self._problem().reason)

    def test_no_directory(self) -> None:
        self.path.rmdir()
        with self.assertRaisesRegex(leases.LeaseError, 'cannot be used'):
            self.directory.read_all()
