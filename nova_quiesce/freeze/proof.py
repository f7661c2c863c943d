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

"""The evidence of a freeze window, after it closed.

It is judged elsewhere what may be claimed because of it.
"""

import dataclasses
import datetime

from nova_quiesce.freeze import filesystems


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The facts that are known of a freeze window after it closed.

    :ivar frozen_at: when the agent confirmed the freeze (UTC)
    :ivar seconds: from sending the freeze to the thaw's answer
    :ivar frozen: filesystems that the agent counted at the freeze
    :ivar thawed: filesystems that it counted at the thaw; None where the
        thaw was not confirmed
    :ivar lapse: why the freeze ended before the cut was complete; None
        where it did not
    :ivar closed_at: when the thaw was sent, by ``time.monotonic()``
    :ivar mountpoints: of the filesystems that were to be frozen; empty for
        all
    :ivar listed: the filesystems that the agent listed before the freeze;
        None where it did not
    :ivar refusal: what the agent said to the thaw instead of a count; None
        where it did not
    """

    frozen_at: datetime.datetime
    seconds: float
    frozen: int
    thawed: int | None
    lapse: str | None = None
    closed_at: float = 0.0
    mountpoints: tuple[str, ...] = ()
    listed: filesystems.Listing = None
    refusal: str | None = None

    @property
    def tally(self) -> filesystems.Tally:
        """The count of the frozen, beside what was listed."""
        return filesystems.Tally(self.listed, self.mountpoints, self.frozen)
