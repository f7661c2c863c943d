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

"""Duties on the disk, and what else may lie among them."""

import dataclasses
import datetime
import json
import pathlib
import tempfile
import unittest

from nova_quiesce.freeze import duties
from nova_quiesce.freeze import files

UUID = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'


def new_duty(**content: object) -> duties.Duty:
    """A duty of today."""
    return duties.Duty(UUID, 'record', content)


class DutyDirectoryTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name) / 'duties'
        self.directory = duties.DutyDirectory(str(self.path))
        self.directory.prepare()

    def test_written_changed_and_ended(self) -> None:
        duty = new_duty(required=True, snapshots=None)
        self.directory.write(duty)
        self.assertEqual(([duty], []), self.directory.read_all())
        changed = duty.with_content(snapshots=['s1'])
        self.directory.write(changed)
        self.assertEqual(([changed], []), self.directory.read_all())
        self.directory.end(changed)
        self.assertEqual(([], []), self.directory.read_all())
        self.directory.end(changed)

    def test_the_oldest_first(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        for days in (1, 3, 2):
            self.directory.write(dataclasses.replace(
                new_duty(), created=(
                    now - datetime.timedelta(days)).isoformat()))
        self.assertEqual([3, 2, 1], [
            duty.age.days for duty in self.directory.read_all()[0]])

    def test_others_cannot_read_it(self) -> None:
        self.directory.write(new_duty())
        file, = self.path.iterdir()
        self.assertEqual(0o600, file.stat().st_mode & 0o777)
        self.assertEqual(0o700, self.path.stat().st_mode & 0o777)

    def test_what_is_no_duty_is_told_and_left_alone(self) -> None:
        duty = new_duty()
        fields = {'version': 1} | dataclasses.asdict(duty)
        wrong: dict[str, object] = {
            'torn': None, 'list': [], 'version': fields | {'version': 2},
            'more': fields | {'token': 'secret'},
            'kind': fields | {'kind': '../up'},
            'content': fields | {'content': 'text'},
            'created': fields | {'created': 'yesterday'},
            'naive': fields | {'created': '2026-01-01T00:00:00'},
            'name': fields,
        }
        for name, content in wrong.items():
            (self.path / f'{name}.duty').write_text(
                '{"id"' if content is None else json.dumps(content))
        (self.path / 'large').write_bytes(b' ' * (files.MAX_SIZE + 1))
        (self.path / 'link').symlink_to('/etc/passwd')
        self.directory.write(duty)
        found, problems = self.directory.read_all()
        self.assertEqual([duty], found)
        self.assertEqual(len(wrong) + 2, len(problems), problems)
        self.assertEqual(len(wrong) + 3, len(list(self.path.iterdir())))

    def test_too_large(self) -> None:
        with self.assertRaisesRegex(duties.DutyError, 'too large'):
            self.directory.write(new_duty(text='x' * files.MAX_SIZE))

    def test_unusable_directory(self) -> None:
        self.path.chmod(0o777)
        with self.assertRaisesRegex(duties.DutyError, 'not safe'):
            self.directory.prepare()
        with self.assertRaises(duties.DutyError):
            duties.DutyDirectory('/proc/nope').prepare()
        with self.assertRaises(duties.DutyError):
            duties.DutyDirectory('/proc/nope').write(new_duty())
