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

"""How guests came to be shut off: by themselves, or not.

Only what the guest itself brought to an end is whole on its disk. libvirt's
reason for a domain to be off does not tell: it is the same where QEMU is asked
to end by a signal, as a host does that is switched off, or a watch over its
memory. The event that comes before that does.
"""

from collections import abc
import contextlib
import functools
import time
import typing

import libvirt
from oslo_log import log as logging

from nova_quiesce.freeze import domains
from nova_quiesce.freeze import errors
from nova_quiesce.shutdown import events
from nova_quiesce.shutdown import notes
from nova_quiesce.shutdown import traces

LOG = logging.getLogger(__name__)

#: How long events may come after the state that they tell of, in seconds.
_PATIENCE = 3.0
_LOOK = 0.05

_AGAIN = 'start it, have it shut down by itself, and try again'
_NOT_OFF = ('the instance is not shut off any more, or not yet; try again '
            'when it is')
_SAVED = ('the compute host has suspended the instance to disk, and what its '
          'memory holds is not part of the snapshot; ask the operator')
_UNKNOWN = ('it is not known whether the instance shut itself down or was cut '
            'off; ' + _AGAIN)
_ENDED = ('the compute host ended the instance before it had shut itself '
          'down; ' + _AGAIN)
_CAUSES = {
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED:
        'the instance was powered off before it had shut itself down; ' +
        _AGAIN,
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
        'the instance crashed, or was killed; ' + _AGAIN,
}
#: What libvirt says of a guest that shut itself down, at the time and later.
_POSSIBLY_CLEAN = (libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
                   libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN)
#: What follows them, was not off since.
_RUNS_AGAIN = (libvirt.VIR_DOMAIN_EVENT_STARTED,
               libvirt.VIR_DOMAIN_EVENT_RESUMED,
               libvirt.VIR_DOMAIN_EVENT_UNDEFINED)


class Domain(domains.Domain, typing.Protocol):
    """What is called of a libvirt ``virDomain`` here."""

    def state(self, flags: int = 0) -> list[int]:
        """What it does, and why."""


#: Finds the domain of an instance by its UUID.
Lookup = abc.Callable[[str], Domain]


class Shutdowns:
    """How the guests of one hypervisor came to be shut off.

    :ivar events: of the domains, to be heard from libvirt
    :param notes: keeps what libvirtd forgets
    :param lookup: finds a domain; raises GuestGone where there is none
    :param trace: of the writes to a domain's root disk
    """

    def __init__(self, notes: notes.Notes, lookup: Lookup,
                 trace: abc.Callable[[object], traces.Trace | None]) -> None:
        self._notes = notes
        self._lookup = lookup
        self._trace = trace
        self.events = events.Events(self._take)
        #: Whether those that are about to end do so by themselves.
        self._ending: dict[str, bool] = {}
        #: Those that were seen to end, and did not shut themselves down.
        self._cut_off: set[str] = set()
        #: Those that did, and whose disks show no trace of writes.
        self._traceless: set[str] = set()

    def start(self) -> None:
        """Begin to note what is heard, and end what does not hold any more.

        Without notes, no guest that is off is taken for one that shut itself
        down.
        """
        try:
            self._notes.prepare()
            self._end_old()
        except notes.NoteError as error:
            LOG.error('Snapshots of instances that are shut off are labelled '
                      'crash, and fail where quiesce is required: %s', error)
        self.events.start()

    def stop(self) -> None:
        """Note what was heard until now, and no more."""
        self.events.stop()

    def why_not_clean(self, instance_uuid: str) -> str | None:
        """Why a guest that is off may not have shut itself down.

        :param instance_uuid: whose
        :returns: a sentence for its owner; None if it is sure to have
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
        """Keep what is noted, although the block changes the disk itself.

        :param instance_uuid: whose; its guest may also be running
        """
        is_clean = self.why_not_clean(instance_uuid) is None
        yield
        if is_clean:
            self.events.work_off(functools.partial(
                self._renew, instance_uuid))

    def _judge(self, instance_uuid: str, domain: Domain) -> str | None:
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

    def _judge_shutdown(self, instance_uuid: str, domain: Domain,
                        is_known: bool) -> str | None:
        deadline = time.monotonic() + (_PATIENCE if is_known else 0)
        while True:
            if not self.events.work_off():
                # It may have run since.
                return _UNKNOWN
            if self._is_noted(instance_uuid, domain, is_known):
                return None
            if instance_uuid in self._cut_off:
                return _ENDED
            if time.monotonic() >= deadline:
                return _UNKNOWN
            time.sleep(_LOOK)

    def _is_noted(self, instance_uuid: str, domain: Domain,
                  is_known: bool) -> bool:
        noted = self._notes.read(instance_uuid)
        if noted is not None:
            return noted == self._trace(domain)
        return is_known and instance_uuid in self._traceless

    def _end_old(self) -> None:
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

    def _take(self, instance_uuid: str, event: int, detail: int) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN:
            self._take_begin(instance_uuid, detail)
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._take_end(instance_uuid, detail)
        elif event in _RUNS_AGAIN:
            self._forget(instance_uuid)

    def _take_begin(self, instance_uuid: str, detail: int) -> None:
        if detail == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST:
            self._ending.setdefault(instance_uuid, True)
        elif detail == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST:
            self._ending[instance_uuid] = False

    def _take_end(self, instance_uuid: str, detail: int) -> None:
        by_itself = self._ending.get(instance_uuid)
        self._forget(instance_uuid)
        if detail != libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
            return
        if by_itself:
            LOG.info('Instance %s has shut itself down', instance_uuid)
            self._note(instance_uuid)
        elif by_itself is not None:
            self._cut_off.add(instance_uuid)

    def _forget(self, instance_uuid: str) -> None:
        self._ending.pop(instance_uuid, None)
        self._cut_off.discard(instance_uuid)
        self._traceless.discard(instance_uuid)
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
            self._traceless.add(instance_uuid)
        else:
            self._notes.write(instance_uuid, trace)

    def _renew(self, instance_uuid: str) -> None:
        try:
            # Nobody has started it meanwhile, or it would have ended.
            if self._notes.read(instance_uuid) is not None:
                self._note(instance_uuid)
        except Exception as error:
            LOG.warning('That instance %(uuid)s has shut itself down is not '
                        'known any more: %(error)s',
                        {'uuid': instance_uuid, 'error': error})

