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

"""The freeze windows that a log of libvirtd's shows."""

from collections.abc import Iterator
import dataclasses
import datetime
import re

#: A line of libvirt's: when, by which thread, and what.
_LINE = re.compile(r'^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)\+0000: (\d+): '
                   r'\w+ : \w+:\d+ : (.*)$', re.MULTILINE)
_SENT = re.compile(r'Send command \'\{"execute":"guest-fsfreeze-(\w+)"')
_ANSWERED = 'Receive command reply'


@dataclasses.dataclass(frozen=True)
class Window:
    """One freeze and the thaw that ended it, in milliseconds.

    :ivar freeze: from sending the freeze to its answer
    :ivar cut: from there to sending the thaw
    :ivar thaw: from there to its answer
    """

    freeze: float
    cut: float
    thaw: float

    @property
    def whole(self) -> float:
        """All of it."""
        return self.freeze + self.cut + self.thaw


def read(log: str) -> list[Window]:
    """Find the windows in a log, in which one guest at a time is frozen.

    :param log: its lines
    """
    found, frozen = [], None
    for command, sent, answered in _calls(log):
        if command == 'freeze':
            frozen = (sent, answered)
        elif command == 'thaw' and frozen is not None:
            found.append(Window(frozen[1] - frozen[0], sent - frozen[1],
                                answered - sent))
            frozen = None
    return found


def _calls(log: str) -> Iterator[tuple[str, float, float]]:
    # One thread of libvirtd's serves a call from its begin to its end.
    under_way: dict[str, tuple[str, float]] = {}
    for when, thread, text in _LINE.findall(log):
        sent = _SENT.search(text)
        if sent:
            under_way[thread] = (sent[1], _milliseconds(when))
        elif text.startswith(_ANSWERED) and thread in under_way:
            command, began = under_way.pop(thread)
            yield command, began, _milliseconds(when)


def _milliseconds(when: str) -> float:
    return datetime.datetime.fromisoformat(when).replace(
        tzinfo=datetime.UTC).timestamp() * 1000
