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

"""The notes of guests that shut themselves down, one file each.

libvirtd forgets how a domain came to be off when it is restarted. A note is
on the disk when it is made, and names what nobody has written to since.
"""

from collections import abc
import contextlib
import json

from nova_quiesce.freeze import files
from nova_quiesce.freeze import leases
from nova_quiesce.shutdown import traces

VERSION = 1

_SUFFIX = '.shutdown'


class NoteError(Exception):
    """The directory of notes cannot be used; the text says why."""


class Notes:
    """The notes of one nova-compute.

    :param path: their directory; :meth:`prepare` makes it
    """

    def __init__(self, path: str) -> None:
        self._files = files.Directory(path)

    def prepare(self) -> None:
        """Make the directory, or see that what is there is safe to use.

        :raises NoteError: it is not, or it cannot be made
        """
        with self._explained():
            self._files.prepare()

    def write(self, instance_uuid: str, trace: traces.Trace) -> None:
        """Note that a guest shut itself down.

        :param instance_uuid: the instance's
        :param trace: the trace of its disk since then
        :raises NoteError: it cannot be written
        """
        content = json.dumps({'version': VERSION, 'instance': instance_uuid,
                              'trace': trace})
        with self._explained(), self._files.changing() as opened:
            opened.write(instance_uuid + _SUFFIX, content.encode('ascii'))

    def read(self, instance_uuid: str) -> traces.Trace | None:
        """Read the note of a guest.

        :param instance_uuid: the instance's
        :returns: the trace; None where there is no note that can be read
        :raises NoteError: the directory cannot be read
        """
        with self._explained(), self._files.reading() as opened:
            try:
                content = opened.read(instance_uuid + _SUFFIX)
            except files.Unsafe:
                # It is none of our notes.
                return None
        return None if content is None else _parse(content, instance_uuid)

    def end(self, instance_uuid: str) -> None:
        """Remove the note of a guest, if there is one.

        :param instance_uuid: the instance's
        :raises NoteError: it cannot be removed
        """
        with self._explained(), self._files.changing() as opened:
            opened.remove(instance_uuid + _SUFFIX)

    def instances(self) -> list[str]:
        """The UUIDs of the instances that have notes.

        :raises NoteError: the directory cannot be read
        """
        with self._explained(), self._files.reading() as opened:
            names = opened.names()
        found = [name.removesuffix(_SUFFIX) for name in names
                 if name.endswith(_SUFFIX)]
        return [one for one in found if leases.is_uuid(one)]

    @contextlib.contextmanager
    def _explained(self) -> abc.Iterator[None]:
        try:
            yield
        except (files.Unsafe, OSError) as error:
            raise NoteError(
                'the directory of shutdowns %s cannot be used: %s'
                % (self._files.path, error)) from error


def _parse(content: bytes, instance_uuid: str) -> traces.Trace | None:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        # Torn.
        return None
    if (isinstance(fields, dict) and fields.get('version') == VERSION and
            fields.get('instance') == instance_uuid and
            isinstance(fields.get('trace'), dict)):
        return fields['trace'] or None
    return None
