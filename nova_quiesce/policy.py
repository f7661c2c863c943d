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

"""The policy: what an image asks for, and what this host grants.

It is pure: image properties, the operator's options and the instance's state
go in, a decision comes out. The user's guide has the same rules as a table,
and there is a test for each of its rows.
"""

from collections import abc
import dataclasses
import enum
import re
import typing

from oslo_utils import strutils

from nova_quiesce.freeze import errors

AGENT_PROPERTY = 'hw_qemu_guest_agent'
REQUIRE_PROPERTY = 'os_require_quiesce'
#: What begins with ``quiesce_`` is a snapshot's record, and is not inherited.
SKIP_PROPERTY = 'os_skip_quiesce'
LIMIT_PROPERTY = 'os_quiesce_max_freeze_time'
MOUNTPOINTS_PROPERTY = 'os_quiesce_mountpoints'
OS_PROPERTY = 'os_type'
#: What the specification of Nova's feature calls :data:`REQUIRE_PROPERTY`, and
#: so do documents and products that follow it. Nova never read it.
SPECIFIED_PROPERTY = 'hw_require_fsfreeze'

#: The properties that :func:`asked` reads.
WISH_PROPERTIES = (REQUIRE_PROPERTY, AGENT_PROPERTY, SKIP_PROPERTY)

#: Values of ``[quiesce] mode``.
MODE_ASKED = 'asked'
MODE_REQUIRED = 'required'
MODE_OFF = 'off'

#: Values of ``[quiesce] guard``.
GUARD_REQUIRED = 'required'
GUARD_PREFERRED = 'preferred'
GUARD_OFF = 'off'

# Longer is no number of seconds that anybody means.
_SECONDS = re.compile('[0-9]{1,9}')
#: How many mount points an image may name.
_MAX_MOUNTPOINTS = 16


class Policy(enum.Enum):
    """The treatment of a guest that cannot be quiesced."""

    #: The snapshot fails.
    REQUIRE = 'require'
    #: The snapshot is taken all the same, and labelled for what it is.
    PREFER = 'prefer'
    #: Nothing is tried.
    SKIP = 'skip'


class Power(enum.Enum):
    """The power state of an instance."""

    RUNNING = 'running'
    PAUSED = 'paused'
    SUSPENDED = 'suspended'
    SHUT_OFF = 'shut off'
    #: Anything else: the agent will tell.
    UNKNOWN = 'unknown'


class Wishes(typing.Protocol):
    """The option that changes which properties count."""

    @property
    def allow_opt_out(self) -> bool:
        """True if :data:`SKIP_PROPERTY` counts."""


class Options(Wishes, typing.Protocol):
    """The ``[quiesce]`` options that a decision depends on."""

    @property
    def mode(self) -> str:
        """The images whose wishes this host follows: one of ``MODE_*``."""

    @property
    def allow_mountpoints(self) -> bool:
        """True if :data:`MOUNTPOINTS_PROPERTY` counts."""

    @property
    def guard(self) -> str:
        """The need of a thaw guard for a freeze: one of ``GUARD_*``."""

    @property
    def freeze_timeout(self) -> int:
        """Seconds that a freeze may take."""

    @property
    def max_freeze_time(self) -> int:
        """Seconds that a guest may stay frozen."""

    @property
    def max_freeze_time_windows(self) -> int:
        """Seconds that a guest with Windows may stay frozen."""


#: The reason why an instance in such a state is not frozen.
_STANDING_STILL = {
    Power.PAUSED: str(errors.GuestNotRunning()),
    Power.SUSPENDED: 'the instance is suspended, and what its memory holds '
                     'is not part of the snapshot; resume it first',
    Power.SHUT_OFF: 'the instance is shut off: there is nothing to freeze',
}


_NO_MOUNTPOINTS = (
    'os_quiesce_mountpoints is no list of absolute paths with commas between '
    'them, of %d at most; remove it from the image' % _MAX_MOUNTPOINTS)


@dataclasses.dataclass(frozen=True)
class State:
    """The state of an instance and its host as a snapshot begins.

    :ivar power: the instance's power state
    :ivar agent_channel: whether its domain has a guest agent channel; None
        where that is not known
    :ivar guarded: whether the thaw guard is at work
    """

    power: Power = Power.RUNNING
    agent_channel: bool | None = None
    guarded: bool = True


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a freeze, in seconds.

    :ivar freeze_timeout: from sending the freeze to its answer
    :ivar max_freeze_time: from that answer to the thaw
    """

    freeze_timeout: int
    max_freeze_time: int


@dataclasses.dataclass(frozen=True)
class Decision:
    """The decision of the policy on one snapshot.

    :ivar policy: how to treat a guest that cannot be quiesced. It is never
        less than what is required, whatever stands in the way.
    :ivar limits: the limits of its freeze
    :ivar reason: why no freeze is to be tried; None where one is
    :ivar remarks: a sentence for each property that is not followed to the
        letter, for the log
    :ivar mountpoints: of the filesystems to freeze; empty for all
    """

    policy: Policy
    limits: Limits
    reason: str | None = None
    remarks: tuple[str, ...] = ()
    mountpoints: tuple[str, ...] = ()


def decide(properties: abc.Mapping[str, object], options: Options,
           state: State) -> Decision:
    """Decide how an instance is snapshotted.

    :param properties: the image properties that count, with values as
        Glance has them
    :param options: the operator's
    :param state: of the instance and its host, now
    """
    wish = asked(properties, options)
    chosen = (mountpoints(properties) if options.allow_mountpoints else ())
    if wish is Policy.SKIP:
        reason: str | None = _why_not_asked(properties, options)
    elif chosen is None:
        reason = _NO_MOUNTPOINTS
    else:
        reason = _obstacle(wish, options, state)
    granted = wish if reason is None or wish is Policy.REQUIRE else Policy.SKIP
    return Decision(
        policy=granted, limits=_limits(properties, options),
        reason=reason,
        remarks=tuple(_remarks(properties, options)),
        mountpoints=chosen or ())


def asked(properties: abc.Mapping[str, object], options: Wishes) -> Policy:
    """Tell the policy that an image asks for, whatever stands in the way.

    Nova reads an unknown boolean as false. A misspelt ``os_require_quiesce``
    would then silently give up the guarantee that its owner asked for, so
    any value that does not clearly say no means ``require`` here. For the
    same cause it wins over an opt-out beside it. A misspelt
    ``hw_qemu_guest_agent`` has no such reading: Nova gave the instance no
    agent channel then.

    :param properties: the image properties
    :param options: the operator's
    """
    if _required(properties):
        return Policy.REQUIRE
    if options.allow_opt_out and _opted_out(properties):
        return Policy.SKIP
    if _says(properties, AGENT_PROPERTY):
        return Policy.PREFER
    return Policy.SKIP


def image_limit(properties: abc.Mapping[str, object]) -> int | None:
    """Read how long an image lets its guests be frozen, in seconds.

    :param properties: the image properties
    :returns: the limit; None where there is none that can be read
    """
    text = str(properties.get(LIMIT_PROPERTY, '')).strip()
    seconds = int(text) if _SECONDS.fullmatch(text) else 0
    return seconds or None


def mountpoints(
        properties: abc.Mapping[str, object]) -> tuple[str, ...] | None:
    """Read which filesystems an image limits the freeze to.

    :param properties: the image properties
    :returns: their mount points; empty where there is no such limit, None
        where the property cannot be read
    """
    text = str(properties.get(MOUNTPOINTS_PROPERTY, '')).strip()
    found = tuple(part.strip() for part in text.split(',')) if text else ()
    if len(found) > _MAX_MOUNTPOINTS or not all(
            part.startswith('/') and part.isprintable() for part in found):
        return None
    return found


def is_windows(properties: abc.Mapping[str, object]) -> bool:
    """Tell whether an image says that its guests run Windows.

    :param properties: the image properties
    """
    return str(properties.get(OS_PROPERTY)).strip().lower() == 'windows'


def _limits(properties: abc.Mapping[str, object],
            options: Options) -> Limits:
    longest = min(options.max_freeze_time,
                  image_limit(properties) or options.max_freeze_time)
    freeze_timeout = min(options.freeze_timeout, longest)
    if is_windows(properties):
        # Windows limits how long writes are held; what its writers take to
        # prepare for that is no part of it, and may be longer.
        longest = min(longest, options.max_freeze_time_windows)
    return Limits(freeze_timeout, longest)


def _why_not_asked(properties: abc.Mapping[str, object],
                   options: Wishes) -> str:
    if options.allow_opt_out and _opted_out(properties):
        return 'the image opts out of quiesce: it sets os_skip_quiesce'
    return ('the image asks for no quiesce: it sets neither '
            'hw_qemu_guest_agent nor os_require_quiesce')


def _obstacle(wish: Policy, options: Options, state: State) -> str | None:
    # The instance's own state first: its owner can change that.
    if state.power in _STANDING_STILL:
        return _STANDING_STILL[state.power]
    if state.agent_channel is False:
        return str(errors.AgentNotConfigured())
    return _host_obstacle(wish, options, state)


def _host_obstacle(wish: Policy, options: Options,
                   state: State) -> str | None:
    if options.mode == MODE_OFF:
        return ('quiesce is switched off on this compute host; ask its '
                'operator, who can move the instance to another')
    if options.mode == MODE_REQUIRED and wish is not Policy.REQUIRE:
        return ('this compute host quiesces only instances whose image sets '
                'os_require_quiesce')
    if options.guard == GUARD_REQUIRED and not state.guarded:
        return ('the thaw guard of this compute host is not running, and '
                'nothing is frozen without it; ask the operator')
    return None


def _remarks(properties: abc.Mapping[str, object],
             options: Options) -> abc.Iterator[str]:
    yield from _misspelt(properties)
    if (_says(properties, SPECIFIED_PROPERTY) is not False and
            not _required(properties)):
        yield ('hw_require_fsfreeze has no effect: neither Nova nor this '
               'driver reads it. os_require_quiesce=yes is what requires '
               'quiesce')
    if _opted_out(properties) and not options.allow_opt_out:
        yield 'os_skip_quiesce is not followed: [quiesce] allow_opt_out is off'
    elif _opted_out(properties) and _required(properties):
        yield 'os_skip_quiesce is not followed: os_require_quiesce wins'
    if MOUNTPOINTS_PROPERTY in properties and not options.allow_mountpoints:
        yield ('os_quiesce_mountpoints is not followed: [quiesce] '
               'allow_mountpoints is off')


def _misspelt(
        properties: abc.Mapping[str, object]) -> abc.Iterator[str]:
    for name, reading in ((REQUIRE_PROPERTY, 'yes'), (SKIP_PROPERTY, 'no'),
                          (AGENT_PROPERTY, 'no, as it does for Nova')):
        if _says(properties, name) is None:
            yield '%s is neither yes nor no, and counts as %s' % (
                name, reading)
    if LIMIT_PROPERTY in properties and image_limit(properties) is None:
        yield ('os_quiesce_max_freeze_time is no number of seconds above 0, '
               "and the operator's limit counts")


def _required(properties: abc.Mapping[str, object]) -> bool:
    return _says(properties, REQUIRE_PROPERTY) is not False


def _opted_out(properties: abc.Mapping[str, object]) -> bool:
    return _says(properties, SKIP_PROPERTY) is True


def _says(properties: abc.Mapping[str, object], name: str) -> bool | None:
    """Read a property that is yes or no; None for any other value."""
    value = properties.get(name)
    if value is None:
        return False
    try:
        return bool(strutils.bool_from_string(value, strict=True))
    except ValueError:
        return None
