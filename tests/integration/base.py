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

"""What the tests on the lab's real services have in common."""

from collections import abc
import pathlib
import subprocess
import tempfile
import time
import typing
import unittest
import uuid

from quiescelab import backends
from quiescelab import guestctl
from quiescelab import lab as running
from quiescelab import tenant

SOON = 30
NO_CALLS = {'freeze': 0, 'thaw': 0}
ONE_EACH = {'freeze': 1, 'thaw': 1}
#: In the guest: a file that is a filesystem.
ANOTHER = '/root/another'
#: In the lab's directory of runtime files: the times that this run measured.
MEASURED = 'measured'

_measured: list[str] = []


class Snapshotted:
    """What came of one ``nova image-create``."""

    def __init__(self, done: subprocess.CompletedProcess[str],
                 image: tenant.Json | None, log: pathlib.Path,
                 offset: int) -> None:
        self.said = done.stdout + done.stderr
        self.failed = done.returncode != 0
        self.image = image
        self._log = log
        self._offset = offset

    @property
    def sent(self) -> dict[str, int]:
        """What the agent was sent since the request, until now.

        A volume-backed snapshot's thaw comes after the request returned, and
        before its record.
        """
        return tenant.agent_commands(self._log, self._offset)


class LabTestCase(unittest.TestCase):
    """A test that needs the lab, and fails where there is none.

    One server serves all tests of a class: booting one is what costs time.
    Each test finds its guest thawed, with a healthy agent and a quiet hook,
    and has to leave it thawed. One that does something to the lab's services,
    by way of its ``lab``, is over when the cloud is whole again.
    """

    image = 'quiesce-guest'
    from_volume = False
    #: Where the volume is, if there is one.
    volume_type = backends.DEFAULT
    #: Sections of nova.conf that nova-compute runs with meanwhile.
    options: typing.ClassVar[abc.Mapping[str, abc.Mapping[str, object]]] = {}

    lab: running.Lab
    #: Where the server is.
    host: running.Host
    user: tenant.Tenant
    server: tenant.Json
    guest: guestctl.Guest

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.lab = cls.find_lab()
        # After all else that is done as the class ends.
        cls.addClassCleanup(cls.lab.end_disturbance)
        cls.host = cls.lab.host
        cls.user = tenant.Tenant(cls.lab)
        if cls.options:
            cls.enterClassContext(cls.lab.compute_options(cls.options))
        cls.server = cls.user.boot('test-%s' % cls.__name__, cls.image,
                                   cls.from_volume, cls.volume_type)
        cls.addClassCleanup(cls.user.delete, cls.server)
        cls.prepare()

    @staticmethod
    def find_lab() -> running.Lab:
        """The lab; it is an error if there is none."""
        return running.Lab.from_env()

    @property
    def hosts(self) -> abc.Sequence[running.Host]:
        """All compute hosts that there are."""
        return (self.lab.host,)

    @classmethod
    def prepare(cls) -> None:
        """Wait until the guest is ready for tests."""
        cls.guest = cls.user.ready(cls.server)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.assert_thawed_and_writing)
        self.addCleanup(self.lab.end_disturbance)

    def assert_thawed_and_writing(self) -> None:
        """The guest is thawed: its agent says so, and it does write."""
        self.assertFalse(self.guest.frozen())
        self.assert_writing()

    def assert_writing(self) -> None:
        """The guest's writer gets lines onto its disk."""
        before = self.user.lines(self.server)
        deadline = time.monotonic() + SOON
        while self.user.lines(self.server) <= before:
            self.assertLess(time.monotonic(), deadline,
                            'the guest does not write')
            time.sleep(0.2)

    def measured(self, what: str, amount: float, limit: float | None = None,
                 unit: str = 's') -> None:
        """Note what was measured, for the reader of this run.

        :param what: a few words
        :param amount: how much it was
        :param limit: what it must not exceed, where that is promised
        """
        promised = '' if limit is None else '  (at most %g)' % limit
        _measured.append('%7.2f %-3s  %s%s\n' % (amount, unit, what, promised))
        (self.lab.paths.run / MEASURED).write_text(''.join(_measured))
        if limit is not None:
            self.assertLessEqual(amount, limit, what)

    def snapshot(self) -> Snapshotted:
        """Run ``nova image-create --poll``, and see what it leaves."""
        name = 'test-%s' % uuid.uuid4()
        log = self.host.paths.agent_log
        offset = log.stat().st_size
        done = self.user.image_create(self.server, name)
        found = self.user.images_named(name)
        if found:
            self.addCleanup(self.user.remove_image, found[0])
        return Snapshotted(done, found[0] if found else None, log, offset)

    def mount_boot(self) -> str:
        """Mount what cannot be frozen; where it is, until the test ends."""
        # The default character set is one of the distribution's kernel.
        return self._mount('-t vfat -o iocharset=iso8859-1 /dev/vda1',
                           '/tmp/boot')

    def mount_another(self) -> str:
        """Mount a second ext4; where it is, until the test ends."""
        self.addCleanup(self.guest.run, 'rm %s' % ANOTHER)
        self.guest.run('dd if=/dev/zero of=%s bs=1M count=8 2> /dev/null && '
                       'mke2fs -F %s' % (ANOTHER, ANOTHER))
        return self._mount('-t ext4 -o loop %s' % ANOTHER, '/tmp/another')

    def _mount(self, what: str, where: str) -> str:
        self.guest.run('mkdir -p %s && mount %s %s' % (where, what, where))
        self.addCleanup(self.guest.run, 'umount %s' % where)
        return where

    def record_of(self, taken: Snapshotted) -> dict[str, str]:
        """The record of a snapshot that succeeded."""
        self.assertFalse(taken.failed, taken.said)
        assert taken.image is not None, taken.said
        return self.user.record(taken.image['id'])

    def needs_recovery(self, taken: Snapshotted) -> bool:
        """Whether ext4 was in use, and not frozen, at the cut."""
        assert taken.image is not None
        with tempfile.TemporaryDirectory(dir=self.lab.paths.run) as scratch:
            return self.user.needs_recovery(
                taken.image['id'], pathlib.Path(scratch))

    def assert_refused(self, taken: Snapshotted, reason: str) -> None:
        """There is no image, and the tenant can find out why."""
        self.assertTrue(taken.failed, taken.said)
        self.assertIsNone(taken.image)
        self.assert_told(reason)

    def assert_told(self, reason: str) -> None:
        """The events of the latest request say why it failed.

        Nova ends an event after all else: a client that polls for the image
        may see the request as over before.
        """
        def told() -> bool:
            return reason in str([
                event['event'] for event in self.user.events(self.server)
                if event['result'] == 'Error'])

        tenant.wait(told, SOON, 'an event that says: %s' % reason)
