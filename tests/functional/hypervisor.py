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

"""Nova's fake of libvirt, with the agents and the transience it lacks."""

from collections import abc
import typing

import fixtures
import libvirt
from nova.tests.fixtures import libvirt as fakelibvirt

from nova_quiesce import fixture

CHANNEL = ("<channel type='unix'>"
           "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>")
#: The root disk, as libvirt describes it.
DISK = ("<disk type='file' device='disk'><source file='/disk'/>"
        "<target dev='vda'/></disk>")
#: What libvirt tells of a domain that ended, by its reason.
_DETAILS = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN:
        libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED:
        libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
        libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED,
    None: libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED,
}
_PATH = 'nova.tests.fixtures.libvirt.%s.%s'
_CALLS = ('fsInfo', 'getTime', 'interfaceAddresses', 'fsFreeze', 'fsThaw',
          'isActive', 'agentSetResponseTimeout',
          'backupBegin', 'backupGetXMLDesc', 'abortJob', 'blockInfo',
          'blockJobInfo',
          'state', 'connect')
_OVER = (libvirt.VIR_DOMAIN_JOB_COMPLETED, libvirt.VIR_DOMAIN_JOB_FAILED)


class GuestsFixture(fixtures.Fixture):
    """A fake guest behind each domain.

    :param find: the guest behind a domain, by the instance's UUID
    :param disk: tells the description of the root disk
    :ivar hear: called with the UUID of a domain, what libvirt tells of it,
        and the detail: Nova's fixtures have nobody listen
    """

    def __init__(self, find: abc.Callable[[str], fixture.FakeDomain],
                 disk: abc.Callable[[], str]) -> None:
        super().__init__()
        self._find = find
        self._disk = disk
        self.hear: abc.Callable[[str, int, int], None] = lambda *event: None

    def _setUp(self) -> None:
        for name in _CALLS:
            self._pass_on(name)
        # Each agent has a connection of its own.
        self._replace('Connection', 'isAlive', lambda connection: 1)
        self._replace('Connection', 'close', lambda connection: 0)
        self._tell_channel()
        self._tell_jobs()
        self._keep_running_domains()
        self._tell_ends()

    @staticmethod
    def end(domain: typing.Any, guest: fixture.FakeDomain, reason: int,
            begun_by: int | None = None) -> None:
        """Have a domain end.

        :param guest: the one behind it
        :param reason: libvirt's for its being off
        :param begun_by: what libvirt tells before that, if it does: who had
            it end
        """
        guest.shutoff = reason
        connection = domain._connection
        if begun_by is not None:
            connection._emit_lifecycle(
                domain, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, begun_by)
        domain._state = fakelibvirt.VIR_DOMAIN_SHUTOFF
        connection._mark_not_running(domain)

    def _replace(self, where: str, name: str,
                 new: abc.Callable[..., object]) -> None:
        self.useFixture(fixtures.MonkeyPatch(_PATH % (where, name), new))

    def _pass_on(self, name: str) -> None:
        self._replace('Domain', name, lambda domain, *args, **kwargs: getattr(
            self._find(domain.UUIDString()), name)(*args, **kwargs))

    def _tell_channel(self) -> None:
        # Nova's fake forgets the channels that a domain was defined with.
        xml_desc = fakelibvirt.Domain.XMLDesc

        def tell(domain: typing.Any, flags: int) -> str:
            guest = self._find(domain.UUIDString())
            channels = CHANNEL if guest.configured else ''
            described: str = xml_desc(domain, flags)
            return described.replace(
                '</devices>', channels + self._disk() + '</devices>')

        self._replace('Domain', 'XMLDesc', tell)

    def _tell_jobs(self) -> None:
        # Nova's fake is busy until it is told that a migration is over.
        job_stats = fakelibvirt.Domain.jobStats

        def tell(domain: typing.Any, flags: int = 0) -> object:
            migrated = job_stats(domain, flags)
            if migrated['type'] in _OVER:
                return migrated
            return self._find(domain.UUIDString()).jobStats(flags)

        self._replace('Domain', 'jobStats', tell)

    def _keep_running_domains(self) -> None:
        # Nova's fake drops a running domain that is undefined. libvirt keeps
        # it as a transient one, until it is defined again.
        undefine = fakelibvirt.Domain.undefine
        define = fakelibvirt.Connection.defineXML

        def undefine_running(domain: typing.Any) -> None:
            if domain._state == fakelibvirt.VIR_DOMAIN_SHUTOFF:
                undefine(domain)
            domain._transient = True

        def define_running(connection: typing.Any, xml: str) -> object:
            running = dict(connection._vms)
            defined: typing.Any = define(connection, xml)
            domain = running.get(defined.name(), defined)
            if domain._state == fakelibvirt.VIR_DOMAIN_SHUTOFF:
                return defined
            connection._vms[defined.name()] = domain
            domain._transient = False
            return domain

        def keep_saved(domain: typing.Any, flags: int) -> None:
            save(domain, flags)
            # Nova's fake drops a transient one.
            domain._connection._vms[domain.name()] = domain

        save = fakelibvirt.Domain.managedSave
        self._replace('Domain', 'managedSave', keep_saved)
        self._replace('Domain', 'hasManagedSaveImage', lambda domain, flags=0:
                      int(self._find(domain.UUIDString()).saved))
        self._replace('Domain', 'undefine', undefine_running)
        self._replace('Domain', 'isPersistent',
                      lambda domain: int(not domain._transient))
        self._replace('Connection', 'defineXML', define_running)

    def _tell_ends(self) -> None:
        # Nova's fake tells that each ended by itself, and not of its begin.
        self._replace('Domain', 'shutdown',
                      lambda domain: self._shut_down(domain))
        destroy = fakelibvirt.Domain.destroy
        emit = fakelibvirt.Connection._emit_lifecycle

        def end_at_once(domain: typing.Any) -> None:
            if domain._state != fakelibvirt.VIR_DOMAIN_SHUTOFF:
                self._find(domain.UUIDString()).shutoff = (
                    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED)
            destroy(domain)

        def tell(connection: object, domain: typing.Any, event: int,
                 detail: int) -> None:
            # It is told again of one that has no definition yet.
            if hasattr(domain, '_def'):
                emit(connection, domain, event,
                     self._tell(domain.UUIDString(), event, detail))

        self._replace('Domain', 'destroy', end_at_once)
        self._replace('Connection', '_emit_lifecycle', tell)

    def _shut_down(self, domain: typing.Any) -> None:
        guest = self._find(domain.UUIDString())
        if not guest.ignoring:
            self.end(domain, guest, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
                     libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST)

    def _tell(self, uuid: str, event: int, detail: int) -> int:
        guest = self._find(uuid)
        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            guest.shutoff = None
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            detail = _DETAILS[guest.shutoff]
        self.hear(uuid, event, detail)
        return detail
