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

"""The notes: their files, and those that are torn or not ours."""

import json
import os
import pathlib
import tempfile
import unittest

from nova_quiesce.shutdown import notes
from nova_quiesce.shutdown import traces

UUID = '11111111-2222-4333-8444-555555555555'
OTHER = '21111111-2222-4333-8444-555555555555'
TRACE: traces.Trace = {'path': '/disk', 'written': 1}


class NotesTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name) / 'shutdowns'
        self.notes = notes.Notes(str(self.path))
        self.notes.prepare()
        self.file = self.path / ('%s.shutdown' % UUID)

    def test_written_and_ended(self) -> None:
        self.assertIsNone(self.notes.read(UUID))
        self.notes.write(UUID, TRACE)
        self.assertEqual(TRACE, self.notes.read(UUID))
        self.assertEqual([UUID], self.notes.instances())
        self.notes.write(UUID, {'written': 2})
        self.assertEqual({'written': 2}, self.notes.read(UUID))
        self.notes.end(UUID)
        self.assertIsNone(self.notes.read(UUID))
        self.assertEqual([], os.listdir(self.path))
        self.notes.end(UUID)

    def test_for_its_own_user_alone(self) -> None:
        self.notes.write(UUID, TRACE)
        self.assertEqual(0o700, self.path.stat().st_mode & 0o777)
        self.assertEqual(0o600, self.file.stat().st_mode & 0o777)

    def test_torn_and_garbled(self) -> None:
        good: dict[str, object] = {
            'version': 1, 'instance': UUID, 'trace': TRACE}
        self.file.write_text(json.dumps(good))
        self.assertEqual(TRACE, self.notes.read(UUID))
        for bad in (b'', b'{"version": 1, "inst', b'\xff\x00', b'[' * 99999,
                    b'[]', b'null', b'1'):
            self.file.write_bytes(bad)
            self.assertIsNone(self.notes.read(UUID), bad[:20])
        wrongs: list[dict[str, object]] = [
            {'version': 2}, {'instance': OTHER}, {'trace': {}}, {'trace': 1},
            {'trace': None}]
        for wrong in wrongs:
            self.file.write_text(json.dumps(good | wrong))
            self.assertIsNone(self.notes.read(UUID), wrong)

    def test_not_a_note(self) -> None:
        self.notes.write(OTHER, TRACE)
        self.file.symlink_to('%s.shutdown' % OTHER)
        self.assertIsNone(self.notes.read(UUID))
        self.file.unlink()
        os.mkfifo(self.file)
        self.assertIsNone(self.notes.read(UUID))
        self.file.unlink()
        self.file.mkdir()
        self.assertIsNone(self.notes.read(UUID))

    def test_what_is_not_ours_is_left_alone(self) -> None:
        for name in ('README', 'x.shutdown', '.new'):
            (self.path / name).touch()
        self.notes.write(UUID, TRACE)
        self.assertEqual([UUID], self.notes.instances())
        self.notes.end(UUID)
        self.assertEqual({'README', 'x.shutdown'}, set(os.listdir(self.path)))

    def test_directory_that_is_not_safe(self) -> None:
        self.path.chmod(0o722)
        self.assertRaises(notes.NoteError, self.notes.prepare)

    def test_directory_that_is_gone(self) -> None:
        self.path.rmdir()
        for call in (lambda: self.notes.write(UUID, TRACE),
                     lambda: self.notes.read(UUID),
                     lambda: self.notes.end(UUID), self.notes.instances):
            with self.assertRaisesRegex(notes.NoteError,
                                        'cannot be used'):
                call()
