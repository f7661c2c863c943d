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

"""The moments of a snapshot at which something can be made to fail."""

from collections.abc import Callable, Iterator
import contextlib
import signal

from quiescelab.campaign import subjects
from quiescelab import guestctl
from quiescelab import lab as running
from quiescelab import logs
from quiescelab import readers
from quiescelab import waiting

#: Seconds until a moment comes.
PATIENCE = 60
LOOK = 0.02
#: What a hook takes, for something to fail meanwhile.
HOOK_SECONDS = 3

#: Waits for the moment, which lasts as long as the context does where it can
#: be made to. It is entered before the snapshot is asked for, and gives what
#: waits.
Moment = Callable[[running.Lab, subjects.Subject],
                  contextlib.AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def freezing(lab: running.Lab,
             subject: subjects.Subject) -> Iterator[Callable[[], None]]:
    """The agent was sent a freeze, and its hook runs."""
    subject.guest.set_hook(freeze_delay=HOOK_SECONDS)
    with _quiet_after(subject.guest):
        yield _sent(lab, 'freeze')


@contextlib.contextmanager
def thawing(lab: running.Lab,
            subject: subjects.Subject) -> Iterator[Callable[[], None]]:
    """The agent was sent a thaw, and its hook runs."""
    subject.guest.set_hook(thaw_delay=HOOK_SECONDS)
    with _quiet_after(subject.guest):
        yield _sent(lab, 'thaw')


@contextlib.contextmanager
def frozen(lab: running.Lab,
           subject: subjects.Subject) -> Iterator[Callable[[], None]]:
    """The guest is frozen, and Cinder makes no volume snapshot."""
    lab.hold('cinder-volume')
    try:
        yield lambda: _wait(subject.guest.frozen, 'the freeze')
    finally:
        lab.go_on('cinder-volume')


@contextlib.contextmanager
def copying(lab: running.Lab,
            _subject: subjects.Subject) -> Iterator[Callable[[], None]]:
    """The cut was made, and the disk is read; the reader stands still."""
    before = readers.pids()
    caught = []

    def wait() -> None:
        caught.append(readers.catch(lab, before))

    try:
        yield wait
    finally:
        for one in caught:
            one.signal(signal.SIGCONT)


#: By their names, with the kinds of servers that are tried there. Kinds for
#: which one moment is the same code stand for each other.
ALL: dict[str, tuple[Moment, tuple[str, ...]]] = {
    'freezing': (freezing, ('image-backed', 'nfs')),
    'frozen': (frozen, ('volume-backed',)),
    'thawing': (thawing, ('image-backed', 'volume-backed')),
    'copying': (copying, ('image-backed',)),
}


def _sent(lab: running.Lab, command: str) -> Callable[[], None]:
    calls = logs.AgentCalls(lab.agent_log)
    return lambda: _wait(lambda: calls.sent[command] > 0,
                         f'the {command} to be sent')


def _wait(condition: Callable[[], bool], what: str) -> None:
    waiting.wait(condition, PATIENCE, what, LOOK)


@contextlib.contextmanager
def _quiet_after(guest: guestctl.Guest) -> Iterator[None]:
    try:
        yield
    finally:
        waiting.wait(lambda: quiet(guest), PATIENCE * 3,
                     'the hook to be told', 0.2)


def quiet(guest: guestctl.Guest) -> bool:
    """Have a guest's hook behave, and tell whether it heard of it."""
    try:
        guest.set_hook()
    except guestctl.ControlError:
        # It is frozen, or it boots.
        return False
    return True
