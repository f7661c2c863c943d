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

"""Snapshots of a server of the lab, and what has to be so afterwards."""

from collections import abc
import contextlib
import pathlib
import tempfile
import typing
import uuid

import libvirt

from quiescelab import api
from quiescelab import errors
from quiescelab import logs
from quiescelab import remains
from quiescelab import volumes
from quiescelab import waiting

from tests.integration import base

NO_CALLS = {'freeze': 0, 'thaw': 0}
ONE_EACH = {'freeze': 1, 'thaw': 1}
#: Of an image that Nova has not made yet.
UNFINISHED = ('queued', 'saving')
POLL_SECONDS = 0.2

# It would print what the tests expect.
libvirt.registerErrorHandler(lambda context, error: None, None)


class Snapshotted:
    """The outcome of one request for a snapshot.

    :ivar refusal: what was answered in place of an image; None where there
        was to be one
    :ivar image: as Glance shows it, once Nova is done; None where there is
        none
    :ivar calls: what the agent was sent since the request
    """

    def __init__(self, refusal: str | None, image: api.Json | None,
                 calls: logs.AgentCalls) -> None:
        self.refusal = refusal
        self.image = image
        self.calls = calls

    @property
    def failed(self) -> bool:
        """Whether it led to no image that can be used."""
        return (self.refusal is not None or self.image is None
                or self.image['status'] != 'active')

    @property
    def sent(self) -> dict[str, int]:
        """The number of freezes and of thaws that were sent, until now.

        A volume-backed snapshot's thaw comes after the request returned, and
        before its record.
        """
        return self.calls.sent


class SnapshotTestCase(base.LabTestCase):
    """A test that has snapshots made, and judges them."""

    def setUp(self) -> None:
        super().setUp()
        self._owed_before = set(self._all_duties())

    def agent_calls(self) -> logs.AgentCalls:
        """Return what the guest's host sends to agents from now on."""
        return logs.AgentCalls(self.host.paths.agent_log)

    def snapshot(self) -> Snapshotted:
        """Have a snapshot made, to its end; the image goes with the test."""
        return self._snapshot(self._request)

    def snapshot_by_command(self) -> Snapshotted:
        """Run ``nova image-create --poll``, as a person would."""
        return self._snapshot(self._command)

    def _snapshot(self, make: abc.Callable[[str], str | None]) -> Snapshotted:
        name = 'test-%s' % uuid.uuid4()
        calls = self.agent_calls()
        refusal = make(name)
        found = self.user.images_named(name)
        if found:
            self.addCleanup(self.user.remove_image, found[0])
        return Snapshotted(refusal, found[0] if found else None, calls)

    def _request(self, name: str) -> str | None:
        try:
            self.create_image(name)
        except errors.LabError as error:
            return str(error)
        waiting.wait(lambda: self._is_done(name), volumes.SNAPSHOT_SECONDS,
                     'the end of the snapshot', POLL_SECONDS)
        return None

    def _is_done(self, name: str) -> bool:
        images = self.user.images_named(name)
        return not (images and images[0]['status'] in UNFINISHED) and (
            self.task_state() is None)

    def task_state(self) -> str | None:
        """Return what Nova is doing with the server."""
        state: str | None = self.user.show(self.server)[
            'OS-EXT-STS:task_state']
        return state

    def _command(self, name: str) -> str | None:
        done = self.user.image_create(self.server, name)
        return done.stdout + done.stderr if done.returncode else None

    def new_name(self) -> str:
        """Return a name for an image, which goes when the test ends."""
        name = 'test-%s' % uuid.uuid4()
        self.addCleanup(self._remove, name)
        return name

    def _remove(self, name: str) -> None:
        for image in self.user.images_named(name):
            self.user.delete_image(image['id'])
        self.user.remove_volume_snapshots()

    def create_image(self, name: str) -> str:
        """Ask for a snapshot.

        :returns: the id of its image
        """
        return self.user.begin_snapshot(self.server, name)

    def image_of(self, taken: Snapshotted) -> api.Json:
        """Return the image of a snapshot that succeeded."""
        assert taken.image is not None, taken.refusal
        self.assertFalse(taken.failed, taken.image)
        return taken.image

    def record_of(self, taken: Snapshotted) -> dict[str, str]:
        """Return the record of a snapshot that succeeded."""
        return self.user.record(self.image_of(taken)['id'])

    def needs_recovery(self, image_id: str) -> bool:
        """Tell whether ext4 was in use, and not frozen, at the cut."""
        with tempfile.TemporaryDirectory(dir=self.lab.paths.run) as scratch:
            return self.user.needs_recovery(image_id, pathlib.Path(scratch))

    # --- The assertions -----------------------------------------------------

    def assert_healthy(self, taken: Snapshotted) -> dict[str, str]:
        """A snapshot succeeded, is consistent, and left nothing.

        :returns: its record
        """
        return self.assert_healthy_image(
            self.image_of(taken)['id'], taken.calls)

    def assert_healthy_image(self, image_id: str,
                             calls: logs.AgentCalls | None) -> dict[str, str]:
        """An image is consistent, and its snapshot left nothing.

        It is recorded as consistent, and ext4's own flag on the disk says so
        as well; the guest was frozen once and thawed once, with its hooks,
        and writes again; and there is no lease, duty, job or file.

        :param calls: what the agent was sent since the request; None where
            other requests or a fault had more sent meanwhile
        :returns: the image's record
        """
        record = self.user.record(image_id)
        self.assertEqual('filesystem', record['consistency'], record)
        self.assertIn('stayed frozen', record['reason'])
        self.assertEqual('1', record['filesystems'])
        self.assertGreater(int(record['window_ms']), 0)
        self.assertFalse(self.needs_recovery(image_id))
        if calls is not None:
            self._assert_frozen_once(calls)
        self.assert_thawed_and_writing()
        self.wait_until_lease_ends()
        self.wait_until_nothing_is_owed()
        self.assert_nothing_left()
        return record

    def _assert_frozen_once(self, calls: logs.AgentCalls) -> None:
        self.assertEqual(ONE_EACH, calls.sent)
        self.assertEqual([('freeze', 0), ('thaw', 0)], [
            (call.action, call.status)
            for call in self.guest.hook_log()[-2:]])

    def assert_crash(self, taken: Snapshotted, reason: str) -> None:
        """A snapshot was cut without a freeze, and says why."""
        record = self.record_of(taken)
        self.assertEqual('crash', record['consistency'], record)
        self.assertIn(reason, record['reason'])
        self.assertTrue(self.needs_recovery(self.image_of(taken)['id']))

    def assert_refused(self, taken: Snapshotted, reason: str) -> None:
        """There is no image, and the tenant can find out why."""
        self.assertIsNone(taken.image)
        self.assert_told(reason)

    def assert_conflict(self, name: str, reason: str) -> None:
        """A snapshot is refused at once, with the reason, and no image."""
        with self.assertRaises(errors.LabError) as caught:
            self.create_image(name)
        self.assert_is_conflict(caught.exception, reason)
        self.assertEqual([], self.user.images_named(name))

    def assert_is_conflict(self, error: BaseException | None,
                           reason: str) -> None:
        """The tenant was told 409, and why."""
        self.assertIn(': 409 ', str(error))
        self.assertIn(reason, str(error))

    def assert_told(self, reason: str) -> None:
        """The events of the latest request say why it failed.

        Nova ends an event after all else: a client that polls for the image
        may see the request as over before.
        """
        def told() -> bool:
            return reason in str([
                event['event'] for event in self.user.events(self.server)
                if event['result'] == 'Error'])

        waiting.wait(told, base.SOON, 'an event that says: %s' % reason)

    # --- What a snapshot may leave ------------------------------------------

    def leases(self) -> list[str]:
        """Return the instances that may be frozen, by their leases."""
        return [one for host in self.hosts for one in remains.leases(host)]

    def wait_until_lease_ends(self) -> None:
        """Wait until nobody holds the guest frozen, or thinks so."""
        waiting.wait(lambda: self.server['id'] not in self.leases(),
                     base.SOON, 'the lease to end', base.LOOK)

    def duties(self) -> list[str]:
        """Return what requests of this test still owe, by their files.

        An image that another test deleted before it was found is looked for
        some minutes more.
        """
        return [name for name in self._all_duties()
                if name not in self._owed_before]

    def _all_duties(self) -> list[str]:
        return [one for host in self.hosts for one in remains.duties(host)]

    def wait_until_nothing_is_owed(self) -> None:
        """Wait until all requests of this test have their end."""
        waiting.wait(lambda: not self.duties(), 2 * base.SOON,
                     'the duties to end')

    @property
    def snapshots(self) -> pathlib.Path:
        """The directory in which snapshots are made."""
        return remains.snapshots(self.host)

    def left_over(self) -> list[pathlib.Path]:
        """Return the directories of backup jobs."""
        return remains.scratch(self.host)

    @contextlib.contextmanager
    def domain(self) -> abc.Iterator[typing.Any]:
        """Have the server's domain for the length of the block."""
        connection = libvirt.open(self.host.paths.libvirt_uri)
        try:
            yield connection.lookupByUUIDString(self.server['id'])
        finally:
            connection.close()

    def has_job(self) -> bool:
        """Tell whether libvirt knows of a backup job of the domain."""
        return self.guest.has_backup_job()

    def assert_nothing_left(self) -> None:
        """Nothing is there of a backup job, and the domain is as before."""
        self.assertFalse(self.has_job())
        self.assertEqual([], self.left_over())
        with self.domain() as domain:
            self.assertTrue(domain.isPersistent())
            self.assertEqual(libvirt.VIR_DOMAIN_RUNNING, domain.state()[0])
