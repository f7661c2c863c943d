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

"""A guest with its agent, its hooks, and its backup job."""

from collections import abc
import dataclasses
import pathlib
from xml.etree import ElementTree

import libvirt

from tests.simulation import world as worlds

FILESYSTEMS = 2


@dataclasses.dataclass
class Span:
    """The time from a freeze to its thaw.

    :ivar end: None where there is none
    :ivar stood_still: seconds of it in which the guest did not run
    """

    begin: float
    end: float | None = None
    stood_still: float = 0.0

    def covers(self, begin: float, end: float) -> bool:
        """Tell whether it was frozen all the time between these."""
        return self.begin <= begin and (self.end is None or self.end >= end)


@dataclasses.dataclass
class Job:
    """A backup job, as it was described when it began.

    :ivar description: the description
    :ivar is_ours: whether Nova began it
    :ivar began: when it began, which is its cut
    :ivar ended: when it ended
    """

    description: str
    is_ours: bool = True
    began: float = 0.0
    ended: float | None = None

    def files(self) -> list[pathlib.Path]:
        """The paths of its socket and of its scratch file."""
        job = ElementTree.fromstring(self.description)
        server = job.find('server')
        assert server is not None
        return [pathlib.Path(str(server.get('socket'))), *(
            pathlib.Path(str(one.get('file')))
            for one in job.iterfind('.//scratch'))]


class Agent:
    """A start of the guest's agent, which does one command at a time.

    :ivar is_idle: whether it has no command that it has not answered
    :ivar is_gone: whether it was killed, or ended with its guest
    """

    def __init__(self, world: worlds.World) -> None:
        self._world = world
        self._busy_until = 0.0
        self.is_idle = True
        self.is_gone = False

    @property
    def is_hung(self) -> bool:
        """Whether it does nothing at the moment."""
        return self._world.scheduler.now < self._busy_until

    def hang(self, seconds: float) -> None:
        """Do nothing for so long."""
        self._busy_until = self._world.scheduler.now + seconds

    def take(self, command: abc.Callable[[], object]) -> None:
        """Do a command, as soon as it does anything."""
        self.is_idle = False

        def carry_out() -> None:
            while self.is_hung and not self.is_gone:
                self._world.scheduler.wait(
                    lambda: self.is_gone,
                    self._busy_until - self._world.scheduler.now)
            if not self.is_gone:
                command()
                self.is_idle = True

        self._world.scheduler.start(self._world.operator, 'agent', carry_out)


class Guest:
    """A guest with an agent, with hooks, and with a backup job at times.

    :ivar number: which start of the domain it is
    :ivar is_frozen: whether its filesystems are frozen
    :ivar hooks: each call of its hooks, by what it was for
    :ivar frozen_spans: when it was frozen, and until when
    :ivar agent: the latest start of its agent
    :ivar caller: the worker of libvirtd's whose turn it is to call that
    :ivar response_timeout: seconds that libvirt gives an agent's answer; -2
        for no limit
    :ivar host: the number of the host that it is on
    :ivar job: the backup job that is active
    :ivar jobs: all that there were
    """

    def __init__(self, world: worlds.World) -> None:
        self._world = world
        self.number = 1
        self.is_running = True
        self.is_frozen = False
        self.is_agent_up = True
        self.agent = Agent(world)
        self.caller: object = None
        self.response_timeout = -2
        self.hooks: list[str] = []
        self.frozen_spans: list[Span] = []
        self.job: Job | None = None
        self.jobs: list[Job] = []
        self.running_reason = libvirt.VIR_DOMAIN_RUNNING_BOOTED
        self._stands_since: float | None = None
        self.is_saved = False
        self.host = 1

    def freeze(self) -> int:
        """Freeze all filesystems."""
        self.hooks.append('freeze')
        if not self.is_frozen:
            self.is_frozen = True
            self.frozen_spans.append(Span(self._world.scheduler.now))
            self._world.tell('the guest is frozen')
        return FILESYSTEMS

    def thaw(self) -> int:
        """Thaw all filesystems."""
        self.hooks.append('thaw')
        count = FILESYSTEMS if self.is_frozen else 0
        self._thawed('the guest is thawed (%d)' % count)
        return count

    def _thawed(self, text: str) -> None:
        if self.is_frozen:
            self.is_frozen = False
            self.frozen_spans[-1].end = self._world.scheduler.now
        self._world.tell(text)

    def reset(self) -> None:
        """Begin anew, with nothing frozen, as at a hard reboot."""
        if self.is_running:
            self.number += 1
            self.end_job()
            self._thawed('the guest is reset')
            # It takes its time to boot.
            self.kill_agent()

    def destroy(self) -> None:
        """End, as by the operator's hand."""
        self.is_running = self.is_saved = False
        self._stands_since = None
        self.agent.is_gone = True
        self.end_job()
        self._thawed('the guest is gone')

    def pause(self, seconds: float) -> None:
        """Stand still for a while."""
        if not self.is_running or self._stands_since is not None:
            return
        self._stand_still()
        self._world.tell('the guest is paused')

        def go_on() -> None:
            self._world.scheduler.wait(lambda: False, seconds)
            if not self.is_saved:
                self._run_again()

        self._world.scheduler.start(self._world.operator, 'unpause', go_on)

    def move(self) -> None:
        """Go on on the other host, as it is, with its agent."""
        if self.is_frozen:
            self._world.break_promise('it is migrated while it is frozen')
        self.host += 1
        self.number, self.response_timeout = 1, -2
        self._world.tell('the guest is on the second host')

    def save(self) -> None:
        """Be suspended to disk, and have no job and no limit any more."""
        self.end_job()
        self._stand_still()
        self.is_running, self.is_saved = False, True
        self.response_timeout = -2
        self._world.tell('the guest is suspended to disk')

    def restore(self) -> None:
        """Go on from disk, under another number, as it was suspended."""
        if self.is_saved:
            self.number += 1
            self.is_running, self.is_saved = True, False
            self.running_reason = libvirt.VIR_DOMAIN_RUNNING_RESTORED
            self._run_again()

    @property
    def stands_still(self) -> bool:
        """Whether it is paused."""
        return self.is_running and self._stands_since is not None

    def _stand_still(self) -> None:
        if self._stands_since is None:
            self._stands_since = self._world.scheduler.now

    def _run_again(self) -> None:
        since, self._stands_since = self._stands_since, None
        if since is not None:
            self._world.tell('the guest runs again')
            if self.is_frozen:
                self.frozen_spans[-1].stood_still += (
                    self._world.scheduler.now - since)

    def lose_host(self) -> None:
        """End with the host, and be started again with it.

        libvirt counts from 1 again, and removes no files.
        """
        if not self.is_running:
            return
        self.is_running = False
        self._stands_since = None
        self.agent.is_gone = True
        self.job = None
        self._thawed('the guest is gone with its host')

        def come_back() -> None:
            self._world.scheduler.wait(
                lambda: self._world.is_libvirtd_up)
            self.number, self.is_running = 1, True
            self.running_reason = libvirt.VIR_DOMAIN_RUNNING_BOOTED
            self.agent, self.response_timeout = Agent(self._world), -2
            self._world.tell('the guest is started with its host')

        self._world.scheduler.start(self._world.operator, 'boot', come_back)

    def begin_job(self, job: Job) -> None:
        """Begin a backup job: a cut.

        :raises OSError: its files cannot be made
        """
        socket, *scratches = job.files()
        if job.is_ours:
            for file in scratches:
                # Nova's own, which QEMU opens.
                file.read_bytes()
            socket.touch()
        job.began = self._world.scheduler.now
        self.job = job
        self.jobs.append(job)
        self._world.tell('a backup job begins')

    def end_job(self) -> None:
        """End the backup job, if there is one, and remove its socket."""
        job, self.job = self.job, None
        if job is not None:
            job.ended = self._world.scheduler.now
            self._world.tell('the backup job has ended')
            job.files()[0].unlink(missing_ok=True)

    def hang_agent(self, seconds: float) -> None:
        """Have the agent do nothing for so long."""
        self.agent.hang(seconds)

    def kill_agent(self) -> None:
        """End the agent; it is started again, and frozen guests stay so."""
        self.is_agent_up = False
        self.agent.is_gone = True

        def come_back() -> None:
            self._world.scheduler.wait(lambda: False, worlds.COMES_BACK)
            if not self.is_agent_up:
                self.agent, self.is_agent_up = Agent(self._world), True
                self._world.tell('the agent is there again')

        self._world.scheduler.start(
            self._world.operator, 'agent', come_back)
