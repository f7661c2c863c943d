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

"""Logs of the lab's services, from a moment on."""

import pathlib


class NewLines:
    """The lines that a log gets from now on.

    :param path: the log, which is there
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._offset = path.stat().st_size

    def text(self) -> str:
        """Return the lines that have come until now."""
        with self._path.open('rb') as stream:
            stream.seek(self._offset)
            return stream.read().decode(errors='replace')


class AgentCalls(NewLines):
    """The freezes and thaws that a libvirtd sends from now on.

    :param path: libvirtd's log of the commands that it sends to guest agents
    """

    @property
    def sent(self) -> dict[str, int]:
        """The number of freezes and of thaws that were sent until now."""
        text = self.text()
        # Only where it is sent: an error repeats the command that failed.
        return {name: text.count(
            f'Send command \'{{"execute":"guest-fsfreeze-{name}"')
            for name in ('freeze', 'thaw')}
