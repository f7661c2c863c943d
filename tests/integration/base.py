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

"""The base of all tests on the lab's real services and guests."""

from collections import abc
import contextlib
import time
import typing
import unittest

from quiescelab import api
from quiescelab import backends
from quiescelab import guestctl
from quiescelab import lab as running
from quiescelab import servers
from quiescelab import tenant
from quiescelab import waiting

from tests.integration import shared

#: Seconds in which what others do at once is done.
SOON = 30
#: Seconds between two looks at what is timed.
LOOK = 0.02
#: In the guest: a file that is a filesystem.
ANOTHER = '/root/another'
#: In the lab's directory of runtime files: the times that this run measured.
MEASURED = 'measured'

_measured: list[str] = []


class LabTestCase(unittest.TestCase):
    """A test that needs the lab, and fails where there is none.

    One server serves all tests of a class, and of all classes that share one
    of its kind: booting one is what costs time. Each test finds its guest
    thawed, with a healthy agent and a quiet hook, and has to leave it thawed.
    One that does something to the lab's services, by way of its ``lab``, is
    over when the cloud is whole again.
    """

    image = 'quiesce-guest'
    #: Of the image, where it is one of the class's own.
    properties: typing.ClassVar[abc.Mapping[str, str]] = {}
    from_volume = False
    #: Where the volume is, if there is one.
    volume_type = backends.DEFAULT
    #: Whether other classes may use the server before and afterwards. One
    #: shares none if it leaves it otherwise than it was, or if what else it
    #: changes has to be so as the server boots.
    shares_server = False
    #: Sections of nova.conf that nova-compute runs with meanwhile.
    options: typing.ClassVar[abc.Mapping[str, abc.Mapping[str, object]]] = {}

    lab: running.Lab
    #: Where the server is.
    host: running.Host
    user: tenant.Tenant
    server: api.Json
    guest: guestctl.Guest

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.lab = running.Lab.from_env()
        cls.host = cls.lab.host
        cls.user = tenant.Tenant(cls.lab)
        # After all else that is done to the lab as the class ends.
        cls.addClassCleanup(cls.lab.end_disturbance)
        if cls.options:
            cls.enterClassContext(cls.lab.compute_options(cls.options))
        cls.get_server()
        cls.prepare()

    @property
    def hosts(self) -> abc.Sequence[running.Host]:
        """All compute hosts that there are."""
        return (self.lab.host,)

    @classmethod
    def get_server(cls) -> None:
        """Have a server, of other classes' or of the class's own."""
        kind = shared.Kind(cls.image, bool(cls.properties), cls.from_volume,
                           cls.volume_type, cls.images_type())
        server = None
        if cls.shares_server:
            server = shared.SERVERS.lend(cls.user, kind)
        cls.server = server or cls._boot()
        if cls.shares_server:
            cls.addClassCleanup(shared.SERVERS.take_back, cls.user, kind,
                                cls.server)
        else:
            cls.addClassCleanup(kind.remove, cls.user, cls.server)

    @classmethod
    def images_type(cls) -> str:
        """Return Nova's option of that name, as the server boots."""
        return str(cls.options.get('libvirt', {}).get('images_type', 'qcow2'))

    @classmethod
    def _boot(cls) -> api.Json:
        if cls.properties:
            cls.upload()
        return cls.user.boot('test-%s' % cls.__name__, cls.image,
                             cls.from_volume, cls.volume_type)

    @classmethod
    def upload(cls) -> None:
        """Make the image, where it is one of the class's own."""
        cls.user.upload(cls.image, **cls.properties)

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

    def wait_for_status(self, status: str,
                        poll: float = waiting.POLL_SECONDS) -> None:
        """Wait until Nova says that the server has a status.

        :param poll: seconds between two looks
        """
        waiting.wait(lambda: self.status() == status, servers.BOOT_SECONDS,
                     'status %s' % status, poll)

    def status(self) -> str:
        """Return the server's, as its owner sees it."""
        return str(self.user.show(self.server)['status'])

    @contextlib.contextmanager
    def dead_agent(self) -> abc.Iterator[None]:
        """Keep the guest's agent dead for the length of the block."""
        self.guest.hold_agent(120)
        try:
            yield
        finally:
            self.guest.release_agent()

    def set_hook(self, **knobs: float) -> None:
        """Have the guest's freeze hook misbehave until the test ends."""
        self.guest.set_hook(**knobs)  # type: ignore[arg-type]
        self.addCleanup(self._quiet_hook)

    def _quiet_hook(self) -> None:
        # The guest may be on another host by now.
        self.guest.set_hook()

    def mount_boot(self) -> str:
        """Mount what cannot be frozen, until the test ends.

        :returns: where it is
        """
        # The default character set is one of the distribution's kernel.
        return self._mount('-t vfat -o iocharset=iso8859-1 /dev/vda1',
                           '/tmp/boot')

    def mount_another(self) -> str:
        """Mount a second ext4, until the test ends.

        :returns: where it is
        """
        self.addCleanup(self.guest.run, 'rm %s' % ANOTHER)
        self.guest.run('dd if=/dev/zero of=%s bs=1M count=8 2> /dev/null && '
                       'mke2fs -F %s' % (ANOTHER, ANOTHER))
        return self._mount('-t ext4 -o loop %s' % ANOTHER, '/tmp/another')

    def _mount(self, what: str, where: str) -> str:
        self.guest.run('mkdir -p %s && mount %s %s' % (where, what, where))
        self.addCleanup(self.guest.run, 'umount %s' % where)
        return where
