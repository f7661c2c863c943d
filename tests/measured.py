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

"""What a guest agent was seen to answer, step by step.

A real guest, of either libvirt and agent, and the model of the older ones are
held against the same: see ``test_model`` among those that need the lab, and
among the simulation's.
"""

from collections import abc
import dataclasses
import typing

import libvirt

from nova_quiesce import fixture_replies

ALL = 'as many filesystems as it has'


class Domain(typing.Protocol):
    """What is asked of libvirt."""

    def fsFreeze(self) -> object:
        """Freeze the guest."""

    def fsThaw(self) -> object:
        """Thaw the guest."""

    def fsInfo(self) -> abc.Sized:
        """List the filesystems."""

    def agentSetResponseTimeout(self, timeout: int, flags: int = 0) -> int:
        """Limit each later agent call."""

    def ID(self) -> int:
        """Tell which start of the domain this is."""

    def backupGetXMLDesc(self) -> str:
        """Describe the backup job that is active."""

    def abortJob(self) -> int:
        """End the job that is active."""


class Hand(typing.Protocol):
    """One who does things to the guest."""

    def slow_freeze(self, seconds: float) -> None:
        """Have the agent take so long for the next freeze."""

    def kill_agent(self) -> None:
        """Kill the agent, and wait until another one answers."""

    def reset_guest(self) -> None:
        """Reset the guest, and wait until it has booted."""

    def wait(self, seconds: float) -> None:
        """Do nothing for so long."""

    def hooks(self) -> list[str]:
        """List the calls of the guest's hook since it booted."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A call that fails.

    :ivar code: libvirt's
    :ivar text: a part of what it says
    """

    code: int
    text: str


@dataclasses.dataclass(frozen=True)
class Step:
    """Something that is done, and what comes of it.

    :ivar call: the name of the domain's method, or of the hand's
    :ivar arguments: of that
    :ivar outcome: what it returns, or fails with; None where that is not said
    """

    call: str
    arguments: tuple[float, ...] = ()
    outcome: int | str | Failure | None = None


_FREEZE = Step('fsFreeze', outcome=ALL)
_THAW = Step('fsThaw', outcome=ALL)
_NOTHING_TO_THAW = Step('fsThaw', outcome=0)

#: Steps, and the calls of the hook that they cause.
Sequence = tuple[tuple[Step, ...], tuple[str, ...]]


def _limited(seconds: int) -> tuple[Step, ...]:
    return (Step('agentSetResponseTimeout', (seconds, 0), 0),)


def _failure(error: libvirt.libvirtError) -> Failure:
    return Failure(error.get_error_code(), str(error))


def sequences(words: fixture_replies.Replies) -> abc.Mapping[str, Sequence]:
    """List what was done to a guest, and what came of it.

    :param words: of its libvirt and its agent
    :returns: by what each shows: the steps, and the calls of the hook that
        they cause
    """
    is_frozen = Step('fsInfo', outcome=_failure(
        words.is_frozen('guest-get-fsinfo')))
    return {
        'what is frozen is thawed': (
            (_FREEZE, is_frozen, _THAW), ('freeze', 'thaw')),
        'a second freeze is refused': (
            (_FREEZE, Step('fsFreeze', outcome=_failure(
                words.is_frozen('guest-fsfreeze-freeze'))), _THAW),
            ('freeze', 'thaw')),
        'a second thaw runs the hook again': (
            (_FREEZE, _THAW, _NOTHING_TO_THAW), ('freeze', 'thaw', 'thaw')),
        'a freeze whose time is up can land later': (
            (Step('slow_freeze', (4,)), *_limited(1),
             Step('fsFreeze', outcome=_failure(words.no_answer(1))),
             Step('fsThaw', outcome=_failure(words.no_answer(1, False))),
             Step('wait', (4,)), *_limited(5), is_frozen,
             Step('fsThaw', outcome=ALL)), ('freeze', 'thaw')),
        'a freeze outlives its agent': (
            (_FREEZE, Step('kill_agent'), is_frozen, _THAW),
            ('freeze', 'thaw')),
        'a reset ends a freeze': (
            (_FREEZE, Step('reset_guest'), _NOTHING_TO_THAW), ('thaw',)),
        'no job can be described or ended where there is none': (
            (Step('backupGetXMLDesc', outcome=Failure(
                libvirt.VIR_ERR_NO_DOMAIN_BACKUP, 'no domain backup job')),
             Step('abortJob', outcome=Failure(
                 libvirt.VIR_ERR_OPERATION_INVALID, 'no job is active'))), ()),
    }


def problems(domain: Domain, hand: Hand,
             sequence: Sequence) -> abc.Iterator[str]:
    """Take the steps of a sequence, and yield what is not as it was seen.

    :param domain: the guest's, which is thawed
    :param hand: does what is done to the guest
    :param sequence: the sequence
    """
    steps, hooks = sequence
    before = len(hand.hooks())
    filesystems = len(domain.fsInfo())
    for number, step in enumerate(steps):
        actor = domain if hasattr(domain, step.call) else hand
        outcome: object
        try:
            outcome = getattr(actor, step.call)(*step.arguments)
        except libvirt.libvirtError as error:
            outcome = Failure(error.get_error_code(), str(error))
        if step.call == 'reset_guest':
            before = 0
        if not _is_as_expected(step.outcome, outcome, filesystems):
            yield 'step %d, %s: %r instead of %r' % (
                number, step.call, outcome, step.outcome)
    seen = hand.hooks()[before:]
    if tuple(seen) != hooks:
        yield 'hooks: %r instead of %r' % (seen, hooks)


def _is_as_expected(expected: object, outcome: object,
                    filesystems: int) -> bool:
    if expected is None:
        return not isinstance(outcome, Failure)
    if expected is ALL:
        return outcome == filesystems
    if isinstance(expected, Failure):
        return (isinstance(outcome, Failure)
                and outcome.code == expected.code
                and expected.text in outcome.text)
    return outcome == expected
