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

"""The programs that read a disk for a snapshot's image."""

from collections.abc import Set
import signal
import time

from quiescelab import errors
from quiescelab import lab as running
from quiescelab import proc

PATIENCE = 60
LOOK = 0.002


def pids() -> Set[int]:
    """Return the ids of all processes, for :func:`catch` to leave out."""
    return {one.pid for one in proc.everyone()}


def catch(lab: running.Lab, before: Set[int]) -> proc.Process:
    """Wait for a program that reads a disk of the lab, and have it stand.

    A small disk is copied in less time than it takes, on a busy machine, to
    look at all that runs: so only at what is new.

    :param before: the ids of processes that are none of them
    :raises LabError: none comes
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for one in proc.everyone(before):
            if _reads_disk(lab, proc.arguments(one)):
                one.signal(signal.SIGSTOP)
                return one
        time.sleep(LOOK)
    raise errors.LabError(f'no disk was read within {PATIENCE} s')


def _reads_disk(lab: running.Lab, command: list[str]) -> bool:
    ours = f'{lab.paths.root}/'
    return (command[:2] == ['qemu-img', 'convert'] or
            command[1:3] == ['-m', 'nova_quiesce.copy.stream']) and any(
                ours in argument for argument in command)
