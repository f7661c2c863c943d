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

"""The consistency levels, and the record that a snapshot carries.

It is pure: the evidence of a freeze window goes in, the record of what may be
claimed comes out.
"""

import dataclasses
import datetime
import enum

from nova_quiesce.freeze import proof
from nova_quiesce.freeze import texts

#: The longest reason, in characters: Cinder stores no more of it.
MAX_REASON = 255
#: The prefix of each image property of the record.
PREFIX = 'quiesce_'


class Level(enum.Enum):
    """The consistency of a snapshot's filesystems for their guest."""

    #: Cut wholly inside a verified freeze.
    FILESYSTEM = 'filesystem'
    #: The guest had shut itself down: there was nothing to freeze.
    OFFLINE = 'offline'
    #: Neither: as after a power failure.
    CRASH = 'crash'


@dataclasses.dataclass(frozen=True)
class Record:
    """The record of one snapshot: the level that is claimed, and why.

    :ivar level: the consistency level
    :ivar reason: why the level is what it is
    :ivar frozen_at: when the freeze was confirmed; None where there was none
    :ivar window_ms: how long the freeze window was, in milliseconds
    :ivar filesystems: how many were frozen
    :ivar remark: what else a reader has to know; it continues the sentence of
        the reason
    """

    level: Level
    reason: str
    frozen_at: datetime.datetime | None = None
    window_ms: int = 0
    filesystems: int = 0
    remark: str = ''

    def properties(self) -> dict[str, str]:
        """Write the record as image properties.

        Every key is present at every level, so that a value inherited from
        a parent image is overwritten and never stands beside a new one.

        :returns: Glance property names and their values; the time as
            ISO 8601 in UTC, the window in milliseconds
        """
        frozen_at = (self.frozen_at.isoformat(timespec='milliseconds')
                     if self.frozen_at else '')
        return {
            PREFIX + 'consistency': self.level.value,
            PREFIX + 'reason': texts.shorten(
                self.reason, MAX_REASON - len(self.remark)) + self.remark,
            PREFIX + 'frozen_at': frozen_at,
            PREFIX + 'window_ms': str(self.window_ms),
            PREFIX + 'filesystems': str(self.filesystems),
        }


def judge(evidence: proof.Evidence) -> Record:
    """Judge by a freeze window's evidence the cut that was made inside it.

    QEMU's agent counts the filesystems at the freeze and again at the thaw;
    a smaller second number means that something was thawed in between
    (``guest-fsfreeze-thaw`` in QEMU's QAPI schema).

    :param evidence: the window, after it closed
    :returns: level ``filesystem`` only if at least one filesystem was
        frozen, and each that was listed and can be, all of them still were
        at the thaw, and the freeze did not lapse; else ``crash`` with the
        reason
    """
    doubt = _doubt(evidence)
    return Record(
        level=Level.CRASH if doubt else Level.FILESYSTEM,
        reason=doubt or evidence.tally.stayed_frozen(),
        frozen_at=evidence.frozen_at,
        window_ms=round(evidence.seconds * 1000),
        filesystems=evidence.frozen)


def crash(reason: str) -> Record:
    """Make the record of a snapshot that no freeze protected.

    :param reason: why not, in words for the tenant
    """
    return Record(Level.CRASH, reason)


def offline() -> Record:
    """Make the record of a snapshot of a guest that had shut itself down."""
    return Record(Level.OFFLINE, 'the guest had shut itself down')


def _doubt(evidence: proof.Evidence) -> str | None:
    if evidence.lapse is not None:
        return evidence.lapse or 'the freeze ended before the cut was complete'
    if evidence.frozen < 1:
        return 'the guest agent froze no filesystem'
    shortfall = evidence.tally.shortfall()
    if shortfall:
        return shortfall
    if evidence.thawed is None:
        return evidence.refusal or 'the thaw was not confirmed'
    if evidence.thawed < evidence.frozen:
        return ('%d filesystems were frozen and only %d were still frozen '
                'at the thaw' % (evidence.frozen, evidence.thawed))
    return None


#: The image properties that a record consists of.
PROPERTIES = tuple(crash('').properties())
