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

"""The messages between nova-compute and its thaw guard.

JSON objects, one a line, over a connected unix socket. Each request is
answered before the next is read::

    {"hello": {...GuardSettings}}  first, and once
    {"watch": {...Lease}}     thaw this guest at the lease's deadline, or as
                              soon as this connection ends
    {"keep_job": {...Duty}}   end this backup job as soon as this connection
                              ends
    {"release": "<id>"}       the guest is thawed, or the job has ended: forget
                              it
    {"ping": true}

    {"ok": true}
    {"error": "<why it was refused>"}
"""

from collections import abc
import dataclasses
import json
import os
import socket
import typing

#: Another version of these messages is another program.
VERSION = 2
#: The longest line, in bytes; a lease is shorter.
MAX_LINE = 64 * 1024

_MAX_TEXT = 4096
_MAX_SECONDS = 3600


class WireError(Exception):
    """The other side does not speak as it should; the text says how."""


class RequestRefused(WireError):
    """The other side refuses a request; the text says why."""


@dataclasses.dataclass(frozen=True)
class GuardSettings:
    """The settings that nova-compute tells its guard.

    :ivar uri: of the hypervisor, for libvirt
    :ivar leases: the absolute path of the directory of leases
    :ivar ask_timeout: seconds that an agent may take to answer a harmless
        question
    :ivar thaw_timeout: seconds that it may take to answer one thaw
    :ivar retry_interval: seconds of the first pause between two tries
    """

    uri: str
    leases: str
    ask_timeout: int
    thaw_timeout: int
    retry_interval: float
    version: int = VERSION

    @classmethod
    def from_dict(cls, fields: object) -> 'GuardSettings':
        """Read what :func:`dataclasses.asdict` made.

        :param fields: anything
        :raises WireError: these are no settings, or not of this version
        """
        if not isinstance(fields, dict) or fields.get('version') != VERSION:
            raise WireError('the versions of nova-compute and of its guard '
                            'differ; restart both')
        if fields.keys() != {f.name for f in dataclasses.fields(cls)}:
            raise WireError('settings with other fields')
        settings = cls(**fields)
        settings._validate()
        return settings

    def _validate(self) -> None:
        valid = {
            'uri': _is_text(self.uri),
            'leases': _is_text(self.leases) and os.path.isabs(self.leases),
            'ask_timeout': _is_timeout(self.ask_timeout),
            'thaw_timeout': _is_timeout(self.thaw_timeout),
            'retry_interval': (type(self.retry_interval) in (int, float)
                               and 0 < self.retry_interval <= _MAX_SECONDS),
        }
        wrong = [name for name, is_valid in valid.items() if not is_valid]
        if wrong:
            raise WireError('settings with a wrong %s' % ', '.join(wrong))


class MessageSocket:
    """One end of a connection that carries messages.

    :param sock: a connected stream socket; it is closed with this
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read = b''

    def ask(self, request: abc.Mapping[str, object],
            timeout: float) -> None:
        """Send a request, and wait until it was carried out.

        :param timeout: seconds to wait
        :raises RequestRefused: it was not
        :raises WireError: what came is no answer
        :raises OSError: the connection broke, or nothing came in time
        """
        self._sock.settimeout(timeout)
        self.send(request)
        answer = self.receive()
        if answer is None:
            raise ConnectionResetError('the connection was closed')
        if answer != {'ok': True}:
            raise RequestRefused(str(answer.get('error'))[:_MAX_TEXT])

    def send(self, message: abc.Mapping[str, object]) -> None:
        """Send one message.

        :raises OSError: it cannot be sent
        """
        self._sock.sendall(json.dumps(message).encode('ascii') + b'\n')

    def receive(self) -> dict[str, typing.Any] | None:
        """Wait for one message.

        :returns: None where the other side has closed the connection
        :raises WireError: what came is no message; nothing that follows can
            be trusted
        :raises OSError: the connection broke, or nothing came in time
        """
        while b'\n' not in self._read:
            if len(self._read) > MAX_LINE:
                raise WireError('a line of more than %d bytes' % MAX_LINE)
            received = self._receive_some()
            if not received:
                return None
            self._read += received
        line, _, self._read = self._read.partition(b'\n')
        return _parse(line)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _receive_some(self) -> bytes:
        return self._sock.recv(MAX_LINE)


def _parse(line: bytes) -> dict[str, typing.Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError('a line that is not JSON') from error
    if not isinstance(message, dict):
        raise WireError('a line that is no JSON object')
    return message


def _is_timeout(value: object) -> bool:
    return type(value) is int and 0 < value <= _MAX_SECONDS


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT
