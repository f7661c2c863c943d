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

"""Driving the test guest from its host, through libvirt.

What the agent can do goes through the agent. The agent itself is held down
and released through a shell on the guest's serial console: that works while
the agent is dead and while the guest is frozen, and each command is
acknowledged. No one else may read the console meanwhile, for example by
``virsh console``. A hold ends by itself after its seconds.
"""

import base64
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import json
import os
import pathlib
import random
import re
import select
import shlex
import subprocess
import time
import tty
import typing

KNOBS = '/run/quiesce'
AGENT = '/usr/lib/quiesce/agent'

#: Of what virsh says where there is no backup job.
NO_BACKUP = 'no domain backup job present'

#: Of a console's log, enough to hold the writer's last line.
LOG_TAIL = 64 * 1024


class ControlError(Exception):
    """The guest did not do what was asked; the text says what it answered."""


class HookCall(typing.NamedTuple):
    """One call of the guest's freeze hook that came to its end."""

    #: freeze or thaw
    action: str
    #: The guest's uptime in seconds.
    begin: float
    end: float
    #: The hook's exit status.
    status: int


class Guest:
    """A running test guest.

    :param domain: libvirt's name of it
    :param uri: libvirt's connection URI
    :param virsh: the command, with what has to stand before it
    """

    def __init__(self, domain: str, uri: str,
                 virsh: Sequence[str] = ('virsh',)) -> None:
        self.domain = domain
        self._virsh = (*virsh, '-c', uri)

    def agent(self, command: str, timeout: int = 10,
              **arguments: typing.Any) -> typing.Any:
        """Send one command to the guest agent.

        :param timeout: seconds to wait for the answer
        :returns: what the agent returned
        :raises ControlError: it fails
        """
        request = json.dumps({'execute': command, 'arguments': arguments})
        answer = self._call('qemu-agent-command', self.domain, '--timeout',
                            str(timeout), request)
        return json.loads(answer)['return']

    def agent_alive(self, timeout: int = 3) -> bool:
        """Tell whether the agent answers within the seconds of timeout."""
        try:
            self.agent('guest-ping', timeout)
        except ControlError:
            return False
        return True

    def frozen(self) -> bool:
        """Tell whether the agent holds the guest frozen."""
        return bool(self.agent('guest-fsfreeze-status') == 'frozen')

    def run(self, command: str, timeout: float = 30) -> str:
        """Run a shell command in the guest, which must not be frozen.

        :param timeout: seconds to wait for its end
        :returns: its standard output
        :raises ControlError: it ends with another status than 0, or not
        """
        started = self.agent('guest-exec', path='/bin/sh',
                             arg=['-c', command], **{'capture-output': True})
        ended: dict[str, typing.Any] = {}

        def has_ended() -> bool:
            ended.update(self.agent('guest-exec-status', pid=started['pid']))
            return bool(ended['exited'])

        _wait(has_ended, timeout, f'{command!r} to end')
        if ended.get('exitcode') != 0:
            raise ControlError(f'{command!r} ended with '
                               f'status {ended.get("exitcode")}, '
                               f'signal {ended.get("signal")}: '
                               f'{_text(ended, "err")}')
        return _text(ended, 'out')

    def set_hook(self, *, freeze_delay: float = 0, thaw_delay: float = 0,
                 freeze_fail: int = 0, thaw_fail: int = 0) -> None:
        """Set how the freeze hook behaves; without arguments: well.

        :param freeze_delay: seconds it takes before the freeze
        :param thaw_delay: seconds it takes after the thaw
        :param freeze_fail: its exit status before the freeze
        :param thaw_fail: its exit status after the thaw
        """
        knobs = {'freeze-delay': freeze_delay, 'thaw-delay': thaw_delay,
                 'freeze-fail': freeze_fail, 'thaw-fail': thaw_fail}
        self.run(' && '.join(f'echo {value} > {KNOBS}/{name}'
                             for name, value in knobs.items()))

    def end_hook(self) -> None:
        """End a hook that hangs, with all that it started.

        An agent since QEMU 9.1 reads what its hook writes, and so waits for
        each process that the hook leaves behind with that pipe.
        """
        self.console('kill -- -$(pidof fsfreeze-hook)')

    def hook_log(self) -> list[HookCall]:
        """List the hook's calls since the guest started, the oldest first."""
        log = self.run(f'touch {KNOBS}/hook.log && cat {KNOBS}/hook.log')
        return [HookCall(action, float(begin), float(end), int(status))
                for action, begin, end, status in
                (line.split() for line in log.splitlines())]

    def hold_agent(self, seconds: int) -> None:
        """Kill the agent and keep it dead.

        :param seconds: after these init starts it again
        """
        self.console(f'{AGENT} hold {seconds}')
        _wait(lambda: not self.agent_alive(1), 10, 'the agent to die')

    def release_agent(self) -> None:
        """End a hold early, and wait until the agent answers."""
        self.console(f'{AGENT} release')
        _wait(self.agent_alive, 10, 'the agent to answer')

    def restart_agent(self, options: str = '') -> None:
        """Have the agent start anew.

        :param options: of its command line, besides the usual ones
        """
        self.console(f'echo "{options}" > {KNOBS}/agent-options; '
                     'killall -9 qemu-ga')
        _wait(self.agent_alive, 10, 'the agent to answer')

    def console(self, command: str, timeout: float = 10) -> None:
        """Run a shell command on the guest's serial console.

        Also a frozen guest runs it, if it writes to tmpfs only.

        :param timeout: seconds to wait for its end
        :raises ControlError: its end is not seen; its status is ignored
        """
        number = random.randrange(10 ** 9)
        # The sum: the terminal's echo must not look like the answer.
        line = f'\n{command}; echo quiesce-ack-$(({number} + 1))\n'
        path = self._call('ttyconsole', self.domain).strip()
        with _terminal(path) as terminal:
            os.write(terminal, line.encode())
            # What comes is read in any case: a full terminal stops the guest.
            seen = b''
            deadline = time.monotonic() + timeout
            while f'quiesce-ack-{number + 1}'.encode() not in seen:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ControlError(f'no end of {command!r} on {path}: '
                                       f'{seen[-500:]!r}')
                seen += _read(terminal, left)

    def virsh(self, command: str) -> str:
        """Run a command of virsh that takes nothing but the domain.

        :returns: what it printed
        :raises ControlError: it fails
        """
        return self._call(command, self.domain)

    def virsh_all(self, *commands: str) -> None:
        """Run commands of virsh one after the other, in one client.

        :raises ControlError: one fails
        """
        self._call('; '.join(
            f'{command} {self.domain}' for command in commands))

    def has_backup_job(self) -> bool:
        """Tell whether libvirt knows of a backup job of it."""
        try:
            self.virsh('backup-dumpxml')
        except ControlError as error:
            if NO_BACKUP not in str(error):
                raise
            return False
        return True

    def _call(self, *arguments: str) -> str:
        done = subprocess.run((*self._virsh, *arguments), check=False,
                              capture_output=True, text=True)
        if done.returncode:
            raise ControlError(f'virsh {shlex.join(arguments)}: '
                               f'{done.stderr.strip()}')
        return done.stdout


def console_progress(console_log: pathlib.Path) -> int:
    """Read the number that the guest's writer printed last.

    It stands still while the guest is frozen.

    :param console_log: the log of the guest's serial console
    :returns: the number, 0 if there is none yet
    """
    with console_log.open('rb') as f:
        size = f.seek(0, os.SEEK_END)
        f.seek(max(0, size - LOG_TAIL))
        return last_number(f.read())


def last_number(console: bytes) -> int:
    """Find the number that the guest's writer printed last.

    :param console: the end of what stands on the serial console
    :returns: the number, 0 if there is none yet
    """
    numbers = re.findall(rb'quiesce-writer (\d+)\r?\n', console)
    return int(numbers[-1]) if numbers else 0


def _text(ended: dict[str, typing.Any], stream: str) -> str:
    return base64.b64decode(ended.get(f'{stream}-data', '')).decode()


def _wait(condition: Callable[[], bool], timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ControlError(f'waited {timeout} s for {what}')
        time.sleep(0.05)


@contextlib.contextmanager
def _terminal(path: str) -> Iterator[int]:
    terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(terminal)
        yield terminal
    finally:
        os.close(terminal)


def _read(terminal: int, timeout: float) -> bytes:
    ready, _, _ = select.select([terminal], [], [], timeout)
    return os.read(terminal, 4096) if ready else b''
