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

"""What holds for each file of a lease or a duty, and each message."""

import dataclasses
import json
import pathlib
import socket
import tempfile
import unittest

import hypothesis
from hypothesis import strategies

from nova_quiesce.freeze import duties
from nova_quiesce.freeze.guard import wire
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leases
from tests.unit import any_input

UUID = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'
_UUIDS = strategies.uuids().map(str)
_SHORT = strategies.text(
    strategies.characters(exclude_categories=('C', 'Z')), min_size=1,
    max_size=255)
_LEASES = strategies.builds(
    leases.Lease, instance_uuid=strategies.just(UUID),
    owners=strategies.lists(_SHORT, min_size=1, max_size=16).map(tuple),
    purpose=_SHORT, deadline=strategies.floats(0.001, 1e8), created=_SHORT,
    boot_id=_UUIDS, domain_id=strategies.integers(0, 2**31),
    is_saved=strategies.booleans(), id=_UUIDS)
_DUTIES = strategies.builds(
    duties.Duty, instance_uuid=_UUIDS,
    kind=strategies.from_regex('[a-z-]{1,40}', fullmatch=True),
    content=strategies.dictionaries(strategies.text(), strategies.text()),
    id=_UUIDS, created=strategies.datetimes(
        timezones=strategies.timezones()).map(lambda one: one.isoformat()))
_SETTINGS = strategies.builds(
    wire.GuardSettings, uri=_SHORT, leases=_SHORT.map('/'.__add__),
    ask_timeout=strategies.integers(1, 3600),
    thaw_timeout=strategies.integers(1, 3600),
    retry_interval=strategies.floats(0.001, 3600))
_LEASE = leases.Lease(UUID, ('req-1',), 'snapshot', 60.0, 'now', UUID, 1)
_DUTY = duties.Duty(UUID, 'a-kind', {})


def _changed(good: dict[str, object]) -> strategies.SearchStrategy[bytes]:
    """Files like a good one, some of whose fields are anything."""
    changes = strategies.dictionaries(
        strategies.sampled_from(sorted(good)), any_input.VALUES)
    return changes.map(lambda made: json.dumps(good | made).encode('ascii'))


class _DirectoryTestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory()))

    def _write(self, name: str, content: bytes) -> None:
        (self.path / name).write_bytes(content)


class LeaseTest(_DirectoryTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = lease_directory.LeaseDirectory(str(self.path))
        self.directory.prepare()

    @any_input.some(30)
    @hypothesis.given(_LEASES)
    def test_round_trip(self, lease: leases.Lease) -> None:
        self.directory.acquire(lease)
        try:
            self.assertEqual(lease, self.directory.read(UUID))
            self.assertEqual(([lease], []), self.directory.read_all())
        finally:
            self.assertTrue(self.directory.release(lease))

    @hypothesis.given(
        strategies.binary() | any_input.VALUES.map(
            lambda value: json.dumps(value).encode('ascii')) |
        _changed({'version': 2} | _LEASE.to_dict()) |
        _changed({'version': 1} | {
            name: value for name, value in _LEASE.to_dict().items()
            if name != 'id'}))
    def test_any_file(self, content: bytes) -> None:
        self._write(UUID + '.lease', content)
        found, problems = self.directory.read_all()
        self.assertEqual(1, len(found) + len(problems))
        for one in found:
            self.assertEqual(UUID, one.instance_uuid)
            # It can be told to the guard, and is short enough for that.
            self.assertLess(len(json.dumps(one.to_dict())), wire.MAX_LINE)
        for problem in problems:
            self.assertEqual(UUID, problem.instance_uuid)

    @hypothesis.given(any_input.VALUES)
    def test_any_fields(self, fields: object) -> None:
        with self.assertRaises(leases.InvalidLease):
            leases.Lease.from_dict(fields)


class DutyTest(_DirectoryTestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = duties.DutyDirectory(str(self.path))
        self.directory.prepare()

    @any_input.some(30)
    @hypothesis.given(_DUTIES)
    def test_round_trip(self, duty: duties.Duty) -> None:
        self.directory.write(duty)
        self.assertEqual(([duty], []), self.directory.read_all())
        self.directory.end(duty)

    @hypothesis.given(
        strategies.binary() | any_input.VALUES.map(
            lambda value: json.dumps(value).encode('ascii')) |
        _changed({'version': duties.VERSION} | dataclasses.asdict(_DUTY)))
    def test_any_file(self, content: bytes) -> None:
        self._write(_DUTY.id + '.duty', content)
        found, problems = self.directory.read_all()
        self.assertEqual(1, len(found) + len(problems))
        for one in found:
            # Whoever is at it asks for that.
            self.assertIsNotNone(one.age)


class WireTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.theirs.settimeout(10)

    @hypothesis.given(_SETTINGS)
    def test_settings(self, settings: wire.GuardSettings) -> None:
        wire.MessageSocket(self.ours).send(dataclasses.asdict(settings))
        received = wire.MessageSocket(self.theirs).receive()
        self.assertEqual(settings, wire.GuardSettings.from_dict(received))

    @hypothesis.given(any_input.VALUES | strategies.dictionaries(
        strategies.sampled_from([field.name for field in dataclasses.fields(
            wire.GuardSettings)]), any_input.VALUES | strategies.just(2)))
    def test_any_settings(self, fields: object) -> None:
        try:
            wire.GuardSettings.from_dict(fields)
        except wire.WireError:
            return
        assert isinstance(fields, dict)
        self.assertEqual(wire.VERSION, fields['version'])

    @hypothesis.given(strategies.binary())
    def test_any_line(self, line: bytes) -> None:
        self.ours.sendall(line.replace(b'\n', b'') + b'\n')
        try:
            received = wire.MessageSocket(self.theirs).receive()
        except wire.WireError:
            return
        self.assertIsInstance(received, dict)
