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

"""The judgement of a guest that is off: had it shut itself down?

Only what the guest itself brought to an end is whole on its disk. libvirt's
reason for a domain to be off does not tell: it is the same where QEMU is asked
to end by a signal, as a host does that is switched off, or a watch over its
memory. The event that comes before that does.
"""

from collections import abc
import contextlib
import functools
import time

import libvirt
from oslo_log import log as logging

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.shutdown import domain_events
from nova_quiesce.shutdown import notes
from nova_quiesce.shutdown import traces

LOG = logging.getLogger(__name__)

#: Seconds by which an event may come after the state that it tells of.
_PATIENCE = 3.0
#: Seconds between two looks for it.
_LOOK = 0.05

_AGAIN = 'start it, have it shut down by itself, and try again'
_NOT_OFF = ('the instance is not shut off any more, or not yet; try again '
            'when it is')
_SAVED = ('the compute host has suspended the instance to disk, and what its '
          'memory holds is not part of the snapshot; ask the operator')
_UNKNOWN = ('it is not known whether the instance shut itself down or was cut '
            'off; ' + _AGAIN)
_ENDED_BY_HOST = ('the compute host ended the instance before it had shut '
                  'itself down; ' + _AGAIN)
_CAUSES = {
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED:
        'the instance was powered off before it had shut itself down; ' +
        _AGAIN,
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
        'the instance crashed, or was killed; ' + _AGAIN,
}
#: libvirt's reasons where a guest shut itself down: at first, and after
#: libvirtd was restarted.
_POSSIBLY_CLEAN = (libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
                   libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN)
#: The events after which an earlier end of the guest does not count any more.
_RUNS_AGAIN = (libvirt.VIR_DOMAIN_EVENT_STARTED,
               libvirt.VIR_DOMAIN_EVENT_RESUMED,
               libvirt.VIR_DOMAIN_EVENT_UNDEFINED)

#: Finds the domain of an instance by its UUID.
Lookup = abc.Callable[[str], domains.Domain]


class Shutdowns:
    """Sees the guests of one hypervisor end, and judges those that are off.

    :ivar events: the events of their domains, to be received from libvirt
    :param notes: keeps what libvirtd forgets
    :param lookup: finds a domain; raises GuestGone where there is none
    :param trace: takes the trace of a domain's root disk
    """

    def __init__(self, notes: notes.Notes, lookup: Lookup,
                 trace: abc.Callable[[object], traces.Trace | None]) -> None:
        self._notes = notes
        self._lookup = lookup
        self._trace = trace
        self.events = domain_events.DomainEvents(self._handle)
        #: The instances whose guest is about to end, and whether it does so
        #: by itself.
        self._ending: dict[str, bool] = {}
        #: Those whose guest was seen to be ended by the host.
        self._ended_by_host: set[str] = set()
        #: Those whose guest shut itself down, and whose disk has no trace
        #: that could be noted: it counts as long as libvirtd remembers.
        self._clean_without_note: set[str] = set()

    def start(self) -> None:
        """Begin to make notes, and remove those that do not hold any more.

        Without notes, no guest that is off is taken for one that shut itself
        down.
        """
        try:
            self._notes.prepare()
            self._remove_old_notes()
        except notes.NoteError as error:
            LOG.error('Snapshots of instances that are shut off are labelled '
                      'crash, and fail where quiesce is required: %s', error)
        self.events.start()

    def stop(self) -> None:
        """Note what happened until now, and no more."""
        self.events.stop()

    def why_not_clean(self, instance_uuid: str) -> str | None:
        """Tell why a guest that is off may not have shut itself down.

        :param instance_uuid: the instance's
        :returns: the reason, for the instance's owner; None if the guest is
            sure to have shut itself down
        """
        try:
            return self._judge(instance_uuid, self._lookup(instance_uuid))
        except Exception as error:
            LOG.warning('How instance %(uuid)s came to be shut off cannot be '
                        'told: %(error)s',
                        {'uuid': instance_uuid, 'error': error})
            return _UNKNOWN

    @contextlib.contextmanager
    def kept(self, instance_uuid: str) -> abc.Iterator[None]:
        """Keep a guest's note valid while the ``with`` block writes its disk.

        :param instance_uuid: the instance's; its guest may also be running
        """
        is_clean = self.why_not_clean(instance_uuid) is None
        yield
        if is_clean:
            self.events.catch_up(functools.partial(
                self._renew, instance_uuid))

    def _judge(self, instance_uuid: str, domain: domains.Domain) -> str | None:
        state, cause = domain.state()
        if state != libvirt.VIR_DOMAIN_SHUTOFF:
            return _NOT_OFF
        if domain.hasManagedSaveImage(0):
            return _SAVED
        if cause not in _POSSIBLY_CLEAN:
            return _CAUSES.get(cause, _UNKNOWN)
        return self._judge_shutdown(
            instance_uuid, domain,
            cause == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)

    def _judge_shutdown(self, instance_uuid: str, domain: domains.Domain,
                        is_known: bool) -> str | None:
        deadline = time.monotonic() + (_PATIENCE if is_known else 0)
        while True:
            if not self.events.catch_up():
                # It may have run since.
                return _UNKNOWN
            if self._is_clean(instance_uuid, domain, is_known):
                return None
            if instance_uuid in self._ended_by_host:
                return _ENDED_BY_HOST
            if time.monotonic() >= deadline:
                return _UNKNOWN
            time.sleep(_LOOK)

    def _is_clean(self, instance_uuid: str, domain: domains.Domain,
                  is_known: bool) -> bool:
        noted = self._notes.read(instance_uuid)
        if noted is not None:
            return noted == self._trace(domain)
        return is_known and instance_uuid in self._clean_without_note

    def _remove_old_notes(self) -> None:
        for instance_uuid in self._notes.instances():
            try:
                is_over = bool(self._lookup(instance_uuid).isActive())
            except errors.GuestGone:
                is_over = True
            except errors.HypervisorUnreachable:
                # It is compared with the disk before it counts.
                is_over = False
            if is_over:
                self._notes.end(instance_uuid)

    def _handle(self, instance_uuid: str, event: int, detail: int) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN:
            self._handle_begin(instance_uuid, detail)
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._handle_end(instance_uuid, detail)
        elif event in _RUNS_AGAIN:
            self._forget(instance_uuid)

    def _handle_begin(self, instance_uuid: str, detail: int) -> None:
        if detail == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST:
            self._ending.setdefault(instance_uuid, True)
        elif detail == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST:
            self._ending[instance_uuid] = False

    def _handle_end(self, instance_uuid: str, detail: int) -> None:
        by_itself = self._ending.get(instance_uuid)
        self._forget(instance_uuid)
        if detail != libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
            return
        if by_itself:
            LOG.info('Instance %s has shut itself down', instance_uuid)
            self._note(instance_uuid)
        elif by_itself is not None:
            self._ended_by_host.add(instance_uuid)

    def _forget(self, instance_uuid: str) -> None:
        self._ending.pop(instance_uuid, None)
        self._ended_by_host.discard(instance_uuid)
        self._clean_without_note.discard(instance_uuid)
        self._notes.end(instance_uuid)

    def _note(self, instance_uuid: str) -> None:
        try:
            domain = self._lookup(instance_uuid)
        except errors.GuestGone:
            return
        trace = self._trace(domain)
        state, cause = domain.state()
        # Only now: if it had been started, the trace could be of that.
        if (state != libvirt.VIR_DOMAIN_SHUTOFF or
                cause not in _POSSIBLY_CLEAN):
            return
        if trace is None:
            self._clean_without_note.add(instance_uuid)
        else:
            self._notes.write(instance_uuid, trace)

    def _renew(self, instance_uuid: str) -> None:
        try:
            # Nobody has started it meanwhile: the note would be gone.
            if self._notes.read(instance_uuid) is not None:
                self._note(instance_uuid)
        except Exception as error:
            LOG.warning('That instance %(uuid)s has shut itself down is not '
                        'known any more: %(error)s',
                        {'uuid': instance_uuid, 'error': error})

