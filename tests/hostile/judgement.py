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

"""What has to be so at the end of each run, whatever an agent answered."""

from collections import abc
import contextlib
import logging
import pathlib
import traceback

import libvirt

from nova_quiesce import consistency
from nova_quiesce.freeze import errors
from tests.hostile import guests
from tests.simulation import scheduler as scheduling

#: The most of any text that is logged, or told to a tenant, in characters.
LONGEST_TEXT = 700
#: The most of an error with all that led to it, as it may be stored or sent.
LONGEST_TRACEBACK = 30000
#: The last character that Glance and Cinder are sure to store.
_LAST = '\uffff'
#: Seconds of virtual time within which a snapshot ends: each question, the
#: freeze and the thaw take their time limits, and a cut its own.
LONGEST_SNAPSHOT = 120.0
#: Seconds within which a guest is thawed, once its agent tells the truth; a
#: freeze may be under way by then, and pauses grow to 10 s.
BOUND = 120.0
#: The last seconds of a run, and the most commands that an agent gets then:
#: pauses are 10 s by then, and a thaw and three questions make one try.
LATE = 100.0
MOST_LATE_COMMANDS = 60
#: The most tasks that one guest holds, on both sides.
MOST_TASKS = 6
#: The most memory that a run takes, in bytes: much less than one huge answer.
MOST_MEMORY = 4 << 20
#: The most processor time that a run takes, in seconds.
LONGEST_RUN = 2.0
#: What a snapshot of the other guest takes, in seconds.
NEIGHBOURS = 0.1101


class Listener(logging.Handler):
    """Listens to all that is logged.

    :param complain: told of what should not be
    """

    def __init__(self, complain: abc.Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._complain = complain
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Judge one record."""
        for problem in judge_text('the log', self._formatter.format(record)):
            self._complain(problem)

    @contextlib.contextmanager
    def listening(self, logger: logging.Logger) -> abc.Iterator[None]:
        """Listen to a logger for the length of the block."""
        former, former_level = logger.propagate, logger.level
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(former_level)
            logger.propagate = former


def judge_text(where: str, text: str) -> abc.Iterator[str]:
    """Judge a text that a guest may have had a part in.

    :param where: it was found
    :param text: the text
    """
    if len(text) > LONGEST_TEXT:
        yield '%s has a text of %d characters' % (where, len(text))
    elif not text.isprintable() or max(text, default='') > _LAST:
        yield '%s has a text that is not printable: %s' % (where, ascii(text))


def judge_error(error: errors.QuiesceError) -> abc.Iterator[str]:
    """Judge an error that ends a snapshot, with all that led to it.

    Nova stores, sends and logs that, too.
    """
    yield from judge_text('an error', str(error))
    told = ''.join(traceback.format_exception(error))
    if len(told) > LONGEST_TRACEBACK:
        yield 'a traceback has %d characters' % len(told)
        return
    for line in told.splitlines():
        yield from judge_text('a traceback', line)


def judge_record(record: consistency.Record, is_proven: bool,
                 is_required: bool) -> abc.Iterator[str]:
    """Judge a record that a snapshot carries.

    :param record: the record
    :param is_proven: whether the guest was frozen during the whole cut, or
        its agent vouched for that
    :param is_required: whether there must be no other record
    """
    is_claimed = record.level is consistency.Level.FILESYSTEM
    if is_claimed and not is_proven:
        yield 'the record lies: %s' % record.reason
    if is_required and not is_claimed:
        yield 'quiesce is required, and not proven: %s' % record.reason
    for name, value in record.properties().items():
        yield from judge_text(name, value)
        if len(value) > consistency.MAX_REASON:
            yield '%s has %d characters' % (name, len(value))


def judge_duration(seconds: float) -> abc.Iterator[str]:
    """Judge how long a snapshot took, in seconds of virtual time."""
    if seconds > LONGEST_SNAPSHOT:
        yield 'a snapshot took %.1f s' % seconds


def judge_guest(guest: guests.Guest, directory: str) -> abc.Iterator[str]:
    """Judge what becomes of a guest at the end of a run.

    :param guest: the guest
    :param directory: the path of the leases
    """
    is_stranded = guest.frozen_since is not None and not guest.is_denied
    leases = list(pathlib.Path(directory).glob('*.lease'))
    if guest.is_honest():
        if is_stranded:
            yield 'the guest stays frozen'
        if leases:
            yield 'its lease is left'
    elif is_stranded and not leases:
        yield 'the guest is frozen, and nobody knows it'
    if guest.overdue > BOUND:
        yield 'it was frozen for %.1f s too long' % guest.overdue
    if guest.unlimited:
        yield 'commands without a time limit: %s' % guest.unlimited
    late = sum(when > guest.scheduler.now - LATE for when in guest.commands)
    if late > MOST_LATE_COMMANDS:
        yield 'the agent got %d commands in the end' % late


def judge_tasks(scheduler: scheduling.Scheduler,
                guest: guests.Guest) -> abc.Iterator[str]:
    """Judge the tasks at the end of a run.

    :param scheduler: theirs
    :param guest: the hostile guest
    """
    for task in scheduler.failed:
        yield 'task %s: %r' % (task.name, task.error)
    names = [task.name for task in scheduler.tasks]
    if names and guest.is_honest():
        yield 'tasks are left: %s' % names
    elif not names and not guest.is_honest() and guest.frozen_since and (
            not guest.is_denied):
        yield 'nobody thaws the guest any more'
    if len(names) > MOST_TASKS:
        yield 'one guest holds %d tasks' % len(names)


def judge_neighbour(guest: guests.Guest,
                    seconds: list[float]) -> abc.Iterator[str]:
    """Judge what became of the other guest.

    :param guest: that guest
    :param seconds: how long its snapshots took, in virtual time
    """
    if len(seconds) != 2 or max(seconds) > NEIGHBOURS:
        yield 'the snapshots of another guest took %s s' % seconds
    if guest.limit != libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK:
        yield 'another guest has a time limit of %d s' % guest.limit


def judge_memory(peak: int) -> abc.Iterator[str]:
    """Judge the most memory that a run took, in bytes."""
    if peak > MOST_MEMORY:
        yield '%d MiB of memory were taken' % (peak >> 20)


def judge_time(seconds: float) -> abc.Iterator[str]:
    """Judge how long a run took, in seconds of processor time."""
    if seconds > LONGEST_RUN:
        yield 'the run took %.1f s' % seconds
