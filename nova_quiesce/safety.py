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

"""What keeps a guest from being stranded, for a whole nova-compute.

It owns the directory of leases, the guard, and the windows that span two
calls, and follows up at the start what the last nova-compute left behind.
"""

import logging
import os

from oslo_config import cfg

from nova_quiesce import agent as guest_agent
from nova_quiesce.cuts import cinder
from nova_quiesce.freeze import duty
from nova_quiesce.guard import handle
from nova_quiesce.guard import wire
from nova_quiesce import hold
from nova_quiesce import lease as leases
from nova_quiesce import lease_directory
from nova_quiesce import policy
from nova_quiesce import recovery
from nova_quiesce import seams
from nova_quiesce import window

LOG = logging.getLogger(__name__)


class Safety:
    """The leases, the guard and the open windows of this service.

    :param options: the ``[quiesce]`` section
    :param uri: of the hypervisor, for the guard
    """

    def __init__(self, options: cfg.ConfigOpts.GroupAttr, uri: str) -> None:
        self._options = options
        self._directory = lease_directory.LeaseDirectory(
            options.lease_directory)
        settings = wire.Settings(
            uri=uri, leases=self._directory.path,
            thaw_timeout=options.thaw_timeout,
            retry_interval=options.thaw_retry_interval)
        self._guard = (
            None if options.guard == policy.GUARD_OFF
            else handle.Guard(settings, options.guard_socket))
        self.held = cinder.HeldWindows()
        #: What requests owe, whatever becomes of this process.
        self.duties = duty.DutyDirectory(os.path.join(
            self._directory.path, lease_directory.DUTIES))

    def start(self, lookup: recovery.Lookup) -> None:
        """Thaw what was left frozen, and have the guard at hand.

        :param lookup: finds an instance's domain
        :raises LeaseError: the directory of leases cannot be used
        """
        os.makedirs(os.path.dirname(self._directory.path), exist_ok=True)
        self._directory.prepare()
        recovery.Recovery(
            self._directory, lookup, self.timeouts(),
            self._options.thaw_retry_interval).run(self._options.thaw_timeout)
        self._start_guard()

    def stop(self) -> None:
        """Thaw all guests, because this service stops."""
        self.held.close_all('nova-compute was stopped during the snapshot')
        if self._guard is not None:
            self._guard.stop()

    def is_guarded(self) -> bool:
        """Whether a guard would thaw what this service freezes."""
        return self._guard is not None and self._guard.is_usable()

    def timeouts(self, freeze: int | None = None) -> guest_agent.Timeouts:
        """How long an agent may take.

        :param freeze: seconds for a freeze, where an image sets less than
            the operator does
        """
        return guest_agent.Timeouts(
            ask=self._options.agent_timeout,
            freeze=freeze or self._options.freeze_timeout,
            thaw=self._options.thaw_timeout)

    def new_window(
            self, agent: guest_agent.Agent, instance: seams.Instance,
            limits: policy.Limits, owner: str, purpose: str,
            is_saved: bool = False) -> window.Window:
        """A freeze window of a guest.

        :param agent: the guest's agent
        :param instance: whose guest
        :param limits: how long it may be held
        :param owner: id of the request that asks for it
        :param purpose: what for, in a few words
        :param is_saved: whether the guest is suspended to disk meanwhile
        """
        def new_lease() -> leases.Lease:
            longest = limits.freeze_timeout + limits.max_freeze_time
            return leases.Lease.new(
                instance.uuid, owner, purpose, longest + hold.GRACE,
                agent.domain_id(), is_saved)

        return window.Window(
            agent,
            hold.Hold(self._directory, self._guard,
                      self._options.guard == policy.GUARD_REQUIRED, new_lease),
            instance.name, self._options.thaw_timeout,
            self._options.thaw_retry_interval,
            None if is_saved else limits.max_freeze_time)

    def _start_guard(self) -> None:
        if self._guard is None:
            LOG.warning('[quiesce] guard is off: a guest that is frozen '
                        'while nova-compute dies stays frozen until '
                        'nova-compute is started again')
            return
        try:
            self._guard.start()
        except handle.GuardUnavailable as error:
            LOG.error('%s. [quiesce] guard = %s decides what that means for '
                      'snapshots; it is tried again at each', error,
                      self._options.guard)
