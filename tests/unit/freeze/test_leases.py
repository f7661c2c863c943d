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

"""A lease: what counts as one, and when it is stale."""

import dataclasses
import json
import time
import typing
import unittest

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import machines

UUID = '0e5a17e4-2d32-4f1b-8a55-33f2a9a0e7a1'
BOOT = '9f1c3a52-7f0e-4f0d-9b53-0c1de3b0a111'
OTHER_BOOT = '9f1c3a52-7f0e-4f0d-9b53-0c1de3b0a222'


def a_lease(**changes: typing.Any) -> leases.Lease:
    """A valid lease, but for the changes."""
    fields: dict[str, typing.Any] = {
        'instance_uuid': UUID, 'owners': ('req-1',), 'purpose': 'snapshot',
        'deadline': 1234.5, 'created': '2026-01-01T00:00:00.000000+00:00',
        'boot_id': BOOT, 'domain_id': 7,
        'id': '7a0b6a43-0c9d-4f55-8f3a-8b1d9f0b6c11'}
    return leases.Lease(**fields | changes)


class LeaseTest(unittest.TestCase):

    def test_new_lease_counts_from_now(self) -> None:
        before = time.monotonic()
        new = leases.Lease.new(machines.REAL, UUID, 'req-1', 'snapshot', 60, 7)
        self.assertLessEqual(before + 60, new.deadline)
        self.assertLessEqual(new.deadline, time.monotonic() + 60)
        self.assertEqual(machines.REAL.boot_id(), new.boot_id)
        self.assertEqual(('req-1',), new.owners)

    def test_survives_json(self) -> None:
        text = json.dumps(a_lease().to_dict())
        self.assertEqual(a_lease(), leases.Lease.from_dict(json.loads(text)))

    def test_number_of_owners(self) -> None:
        for count in (0, 17):
            with self.assertRaisesRegex(leases.InvalidLease, 'owners'):
                a_lease(owners=tuple(str(number) for number in range(count)))
        self.assertTrue(a_lease(owners=('req-1', 'req-2')).is_same(a_lease()))

    def test_the_next_lease_is_another(self) -> None:
        first = leases.Lease.new(
            machines.REAL, UUID, 'req-1', 'snapshot', 60, 7)
        second = leases.Lease.new(
            machines.REAL, UUID, 'req-1', 'snapshot', 60, 7)
        self.assertFalse(first.is_same(second))
        updated = dataclasses.replace(first, deadline=first.deadline + 1)
        self.assertTrue(first.is_same(updated))


class ValidationTest(unittest.TestCase):

    def _refuse(self, **changes: typing.Any) -> None:
        [name] = changes
        with self.subTest(changes), self.assertRaisesRegex(
                leases.InvalidLease, name):
            a_lease(**changes)

    def test_instance_uuid(self) -> None:
        for value in ('', '../../etc/passwd', UUID.upper(), UUID + '\n',
                      '{%s}' % UUID, 7, None):
            self._refuse(instance_uuid=value)

    def test_owners(self) -> None:
        for value in ((), ('',), 'req-1', ['req-1'], (7,), ('a\nb',),
                      ('x' * 256,)):
            self._refuse(owners=value)

    def test_deadline(self) -> None:
        for value in (float('nan'), float('inf'), -1, 0, 10 ** 400, True,
                      '5', None):
            self._refuse(deadline=value)

    def test_domain_id(self) -> None:
        for value in (-1, 1.0, True, '7', None):
            self._refuse(domain_id=value)

    def test_texts(self) -> None:
        for value in ('', 'x' * 256, 'a\x1b[31m', 7, None):
            self._refuse(purpose=value)
            self._refuse(created=value)
            self._refuse(boot_id=value)

    def test_fields(self) -> None:
        fields = a_lease().to_dict()
        less = {key: fields[key] for key in list(fields)[1:]}
        others: tuple[object, ...] = (
            None, [], 'lease', {}, less, fields | {'more': 1})
        for wrong in others:
            with self.subTest(wrong), self.assertRaises(leases.InvalidLease):
                leases.Lease.from_dict(wrong)


class StaleTest(unittest.TestCase):

    def _why(self, boot_id: str, presence: domains.Presence,
             **changes: typing.Any) -> str | None:
        return leases.stale_reason(a_lease(**changes), boot_id, presence)

    def test_the_guest_may_be_frozen(self) -> None:
        self.assertIsNone(self._why(BOOT, domains.Presence(7)))

    def test_host_restarted(self) -> None:
        self.assertEqual('the host was restarted since',
                         self._why(OTHER_BOOT,
                                   domains.Presence(7, is_new=True)))

    def test_guest_restarted(self) -> None:
        self.assertEqual('the guest was restarted since',
                         self._why(BOOT, domains.Presence(8, is_new=True)))

    def test_guest_gone(self) -> None:
        self.assertEqual('the guest does not run on this host any more',
                         self._why(BOOT, domains.Presence(None)))

    def test_guest_suspended_to_disk(self) -> None:
        """It comes back frozen, also after a reboot of the host."""
        for boot_id in (BOOT, OTHER_BOOT):
            self.assertIsNone(self._why(
                boot_id, domains.Presence(None, is_saved=True)))
            self.assertIsNone(self._why(
                boot_id, domains.Presence(8)))

    def test_guest_suspended_and_started_anew_since(self) -> None:
        self.assertEqual(
            'the guest was restarted since', self._why(
                BOOT, domains.Presence(8, is_new=True), is_saved=True))


class FirstVersionTest(unittest.TestCase):

    def _fields(self, **changes: typing.Any) -> dict[str, typing.Any]:
        fields = a_lease(**changes).to_dict()
        return {name: fields[name] for name in fields
                if name != 'id'}

    def test_it_has_an_id_that_is_always_the_same(self) -> None:
        first = leases.Lease.from_first_version(self._fields())
        again = leases.Lease.from_first_version(self._fields())
        later = leases.Lease.from_first_version(
            self._fields(created='2026-01-01T00:00:00.000001+00:00'))
        self.assertEqual(a_lease(id=first.id), first)
        self.assertTrue(first.is_same(again))
        self.assertFalse(first.is_same(later))

    def test_what_is_no_lease(self) -> None:
        with self.assertRaises(leases.InvalidLease):
            leases.Lease.from_first_version({'instance_uuid': UUID})
        with self.assertRaises(leases.InvalidLease):
            leases.Lease.from_first_version(
                self._fields() | {'created': '\ud800'})
