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

"""The lab's errors, as messages that say what to do next."""

from collections.abc import Sequence
import pathlib

TAIL_LINES = 20


class LabError(Exception):
    """A failure that a person can act on.

    :param message: what happened, and what to do about it
    :param log: the log that tells more, if there is one
    """

    def __init__(self, message: str, log: pathlib.Path | None = None):
        super().__init__(message)
        self.log = log

    def explain(self) -> str:
        """Return the message with the last lines of its log."""
        text = str(self)
        if self.log and self.log.exists():
            text += (f'\n--- the last lines of {self.log} ---\n'
                     f'{tail(self.log)}\n'
                     f'--- the whole log: {self.log}')
        return text


class CommandFailed(LabError):
    """A command that the lab ran came back with an error."""

    def __init__(self, argv: Sequence[str], code: int,
                 log: pathlib.Path | None = None):
        super().__init__(f'"{" ".join(argv)}" ended with {code}', log)
        self.code = code


class NotRunning(LabError):
    """There is no lab where one was looked for."""


def tail(path: pathlib.Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a text file."""
    text = path.read_text(errors='replace')
    return '\n'.join(text.splitlines()[-lines:])
