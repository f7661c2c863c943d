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

"""The answers that a hostile agent gives, chosen by a seed."""

from collections import abc
import dataclasses
import enum
import functools
import random
import sys
import typing

import libvirt

from nova_quiesce import fixture
from tests.hostile import texts

#: What an answer's time limit is multiplied with, for how long it takes.
PROMPT = 0.004
_SLOW = (0.1, 0.99)
_STALLS = (1.001, 1.5, 8.0, float('inf'))
#: Codes that libvirt gives to what an agent answered.
_REFUSED = (fixture.OLDER.refused, fixture.NEWER.refused)
#: And some that say nothing of what the agent did.
_CODES = (
    libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_NO_MEMORY, 112, -1, 0, 10**6, None)


class Kind(enum.Enum):
    """The ways in which an agent can be hostile."""

    COUNT = 'counts that lie, or are none'
    IDLE = 'success, and nothing done'
    REFUSAL = 'errors of its own, in any words'
    ODD_ERROR = "errors of libvirt's that tell nothing"
    BINDING = "errors of libvirt's Python module"
    STALL = 'answers that come late, or never'
    SLOW = 'answers that come just in time'
    LISTING = 'lists that are none, or floods'
    GONE = 'no agent at the channel'


_SILENT = (Kind.STALL, Kind.ODD_ERROR, Kind.GONE)

#: A list of filesystems.
_List: typing.TypeAlias = list[tuple[typing.Any, ...]]

#: Stands for the answer that an honest agent would give.
HONEST = object()


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer to one command.

    :ivar is_done: whether the agent does what it is asked for
    :ivar reply: what the call returns
    :ivar delay: how long it takes, as a part of its time limit
    :ivar text: of the error that the call ends with; None where it does not
    :ivar new_error: makes that error of the text
    :ivar is_told: whether the agent says something, and libvirt understands
        it: to what only breaks, no guest can be held
    """

    is_done: bool = True
    reply: object = HONEST
    delay: float = PROMPT
    text: str | None = None
    new_error: abc.Callable[[str], Exception] = RuntimeError
    is_told: bool = True

    @property
    def is_honest(self) -> bool:
        """True if it says what is so."""
        return self.text is None and self.reply is HONEST

    @property
    def size(self) -> int:
        """The memory that its text takes, in bytes."""
        return sys.getsizeof(self.text)

    def __str__(self) -> str:
        told = 'honest' if self.is_honest else type(self.reply).__name__
        if isinstance(self.reply, int):
            told = 'count %s' % str(self.reply)[:20]
        if self.text is not None:
            told = 'error %s' % ascii(self.text[:150])
        return '%s%s, %g' % (
            told, '' if self.is_done else ', and nothing done', self.delay)


class Hostility:
    """The answers of one agent.

    :param chosen: by what they are chosen
    :ivar until: when it begins to tell the truth, in seconds of virtual time
        after its beginning
    :ivar count: how many answers were asked for
    """

    def __init__(self, chosen: random.Random) -> None:
        self.count = 0
        self._chosen = chosen
        self.kinds = chosen.sample(list(Kind), chosen.randint(1, 5))
        self._rate = chosen.choice((0.15, 0.4, 0.8, 1.0))
        self.until = chosen.choice(
            (5.0, 30.0, 100.0, chosen.uniform(0, 150), float('inf'),
             float('inf')))
        # Some are honest up to a point.
        self._honest = chosen.choice((0, 0, 1, 1, 2, 3))
        if chosen.random() < 0.1:
            # And then say nothing that can be understood, ever.
            self.kinds, self._rate = [chosen.choice(_SILENT)], 1.0
            self._honest = 2

    def answer(self, command: str) -> Answer:
        """Choose the answer to a command.

        :param command: the name of libvirt's method for it
        """
        self.count += 1
        if self.count <= self._honest or self._chosen.random() > self._rate:
            return Answer()
        kinds: dict[Kind, abc.Callable[[str], Answer]] = {
            Kind.COUNT: self._miscount, Kind.IDLE: self._idle,
            Kind.REFUSAL: self._refuse, Kind.ODD_ERROR: self._fail,
            Kind.BINDING: self._break, Kind.STALL: self._stall,
            Kind.SLOW: self._dawdle, Kind.LISTING: self._list,
            Kind.GONE: self._hang_up}
        return kinds[self._chosen.choice(self.kinds)](command)

    def _is_done(self) -> bool:
        return self._chosen.random() < 0.6

    def _miscount(self, command: str) -> Answer:
        if command not in ('fsFreeze', 'fsThaw'):
            return Answer(reply=self._thing())
        return Answer(self._is_done(), self._chosen.choice((
            -1, 0, 1, 2, 3, 1023, 1024, 1025, 2**31 - 1, 2**63, 10**4000, -5,
            True, False, None, 2.0, float('nan'), '2', b'2', (2,), [2], {},
            object(), self._chosen.randint(-3, 1100))))

    def _thing(self) -> object:
        return self._chosen.choice((
            None, {}, [], 'a' * 300, {'seconds': 10**4000}, b'\xff', object(),
            _FLOOD, _DEEP, texts.choose(self._chosen)))

    def _idle(self, command: str) -> Answer:
        count = self._chosen.choice((0, 1, 2, 2, 2, 1024))
        return Answer(False, count) if command in (
            'fsFreeze', 'fsThaw') else self._list(command)

    def _refuse(self, command: str) -> Answer:
        code, says = self._chosen.choice(_REFUSED)
        text = "%s: unable to execute QEMU agent command '%s': %s" % (
            says, command, texts.choose(self._chosen))
        return Answer(self._is_done(), text=text,
                      new_error=functools.partial(fixture.libvirt_error, code))

    def _fail(self, _command: str) -> Answer:
        text = texts.choose(self._chosen)
        code = self._chosen.choice(_CODES)
        # What it could not parse, libvirt tells as it came.
        is_told = (code == libvirt.VIR_ERR_INTERNAL_ERROR and
                   'unable to execute QEMU agent command' in text)
        return Answer(self._is_done(), text=text, is_told=is_told,
                      new_error=functools.partial(_libvirt_error, code))

    def _break(self, _command: str) -> Answer:
        new_error = self._chosen.choice((
            _undecodable, MemoryError, OverflowError, TypeError, ValueError,
            SystemError, KeyError, RecursionError, OSError))
        return Answer(self._is_done(), text=texts.choose(self._chosen),
                      new_error=new_error, is_told=new_error is _undecodable)

    def _stall(self, _command: str) -> Answer:
        return Answer(self._is_done(), delay=self._chosen.choice(_STALLS))

    def _dawdle(self, _command: str) -> Answer:
        return Answer(delay=self._chosen.uniform(*_SLOW))

    def _list(self, command: str) -> Answer:
        if command != 'fsInfo':
            return Answer()
        return Answer(reply=self._chosen.choice((
            _FLOOD, _DEEP, _LONG, None, {}, (), '', 'abc', 7, object(),
            [None], [()], [('/', 'vda')], [['/', 'vda', 'ext4', []]],
            [('/', 'vda', 'ext4', ['vda'])] * self._chosen.choice(
                (1, 1024, 1025)),
            [(1, 2, 3, 4)], [('', '', '', [])], self._forged())))

    def _forged(self) -> _List:
        names = [self._name() for _ in range(6)]
        types = ('ext4', 'xfs', 'vfat', 'tmpfs', 'iso9660', '', names[0])
        choice = self._chosen.choice
        return [(choice(names), choice(names), choice(types),
                 choice((['vda'], None, 7, names)))
                for _ in range(choice((0, 1, 3, 40, 1024)))]

    def _name(self) -> str:
        name = self._chosen.choice((
            '/', '/data', 'C:\\', '/ (ext4), and all others stayed frozen',
            texts.choose(self._chosen, is_huge=False)))
        return name[:self._chosen.choice((5, 40, 1024, 1025))]

    def _hang_up(self, _command: str) -> Answer:
        return Answer(
            False, is_told=False, text='Guest agent is not responding: QEMU '
            'guest agent is not connected', new_error=functools.partial(
                fixture.libvirt_error, libvirt.VIR_ERR_AGENT_UNRESPONSIVE))


def _undecodable(text: str) -> Exception:
    return UnicodeDecodeError('utf-8', b'\xff' * 300, 0, 1, text)


def _libvirt_error(code: int | None, text: str) -> Exception:
    error = fixture.libvirt_error(code or 0, text)
    if code is None:
        error.err = None
    return typing.cast(Exception, error)


def _deep(levels: int) -> list[object]:
    inner: list[object] = []
    for _ in range(levels):
        inner = [inner]
    return inner


# Made once, as the longest texts are.
_FLOOD: _List = [('/fs', 'vda1', 'ext4', ['vda'])] * 10**6
_LONG: _List = [('/' + 'x' * texts.HUGE, 'y' * texts.HUGE, 'z', [])]
_DEEP = _deep(5000)
