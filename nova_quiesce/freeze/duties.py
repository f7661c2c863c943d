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

"""Duties: the things that a request still owes after its freeze.

A duty is on the disk before its freeze is sent, so that it outlives whatever
dies. It ends with a proof that it was done, or that nothing is left to do.
Its content is opaque here.
"""

from collections import abc
import contextlib
import dataclasses
import datetime
import json
import re
import typing
import uuid

from nova_quiesce.freeze import files
from nova_quiesce.freeze import leases

VERSION = 1

_SUFFIX = '.duty'
_KIND = re.compile('[a-z-]{1,40}')


class DutyError(Exception):
    """A duty, or the directory of them, cannot be used; the text says why."""


@dataclasses.dataclass(frozen=True)
class Duty:
    """A thing that is owed for one instance.

    :ivar instance_uuid: whose
    :ivar kind: who knows how to do it
    :ivar content: what is to be known for that, in types that JSON has
    :ivar id: its own, a UUID
    :ivar created: when it began, ISO 8601 in UTC
    :raises DutyError: a value is of another type or beyond its limits
    """

    instance_uuid: str
    kind: str
    content: dict[str, typing.Any]
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    created: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(
            datetime.UTC).isoformat())

    def __post_init__(self) -> None:
        valid = {
            'instance_uuid': leases.is_uuid(self.instance_uuid),
            'kind': (isinstance(self.kind, str) and
                     bool(_KIND.fullmatch(self.kind))),
            'content': isinstance(self.content, dict),
            'id': leases.is_uuid(self.id),
            'created': is_time(self.created),
        }
        wrong = [name for name, is_valid in valid.items() if not is_valid]
        if wrong:
            raise DutyError('not a duty: wrong %s' % ', '.join(wrong))

    @classmethod
    def from_dict(cls, fields: object) -> 'Duty':
        """Read what :func:`dataclasses.asdict` made.

        :param fields: anything
        :raises DutyError: it is no duty
        """
        if not isinstance(fields, dict) or fields.keys() != {
                field.name for field in dataclasses.fields(cls)}:
            raise DutyError('not a duty: other fields')
        return cls(**fields)

    @property
    def age(self) -> datetime.timedelta:
        """The time since it began."""
        return (datetime.datetime.now(datetime.UTC) -
                datetime.datetime.fromisoformat(self.created))

    def with_content(self, **content: object) -> 'Duty':
        """Return this duty with a part of its content set anew."""
        return dataclasses.replace(self, content=self.content | content)


class DutyDirectory:
    """The duties of one nova-compute, one file each.

    :param path: the directory; :meth:`prepare` makes it
    """

    def __init__(self, path: str) -> None:
        self._files = files.Directory(path)
        self.path = self._files.path

    def prepare(self) -> None:
        """Make the directory, or see that what is there is safe to use.

        :raises DutyError: it is not, or it cannot be made
        """
        with self._explained():
            self._files.prepare()

    def write(self, duty: Duty) -> None:
        """Write a duty, new or changed. It is on the disk then.

        :raises DutyError: it cannot be written
        """
        content = json.dumps(
            {'version': VERSION} | dataclasses.asdict(duty)).encode('ascii')
        if len(content) > files.MAX_SIZE:
            raise DutyError('a duty of instance %s is too large to be written'
                            % duty.instance_uuid)
        with self._explained(), self._files.changing() as opened:
            opened.write(duty.id + _SUFFIX, content)

    def end(self, duty: Duty) -> None:
        """Remove a duty: it is done, or nothing is left to do.

        :raises DutyError: it cannot be removed
        """
        with self._explained(), self._files.changing() as opened:
            opened.remove(duty.id + _SUFFIX)

    def read_all(self) -> tuple[list[Duty], list[str]]:
        """Find all duties, and what should not be among them.

        :returns: the duties, the oldest first; a sentence for each file that
            is none
        :raises DutyError: the directory cannot be read
        """
        found, problems = [], []
        with self._explained(), self._files.reading() as opened:
            for name in opened.names():
                try:
                    content = opened.read(name)
                    if content is not None:
                        found.append(_parse(name, content))
                except (files.Unsafe, DutyError) as error:
                    problems.append('%s: %s' % (ascii(name)[1:-1], error))
        return sorted(found, key=lambda duty: duty.created), problems

    @contextlib.contextmanager
    def _explained(self) -> abc.Iterator[None]:
        try:
            yield
        except (files.Unsafe, OSError) as error:
            raise DutyError('the directory of duties %s cannot be used: %s'
                            % (self.path, error)) from error


def _parse(name: str, content: bytes) -> Duty:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DutyError('torn, or no JSON') from error
    if not isinstance(fields, dict) or fields.pop('version', 0) != VERSION:
        raise DutyError('of a version that is not known')
    duty = Duty.from_dict(fields)
    if name != duty.id + _SUFFIX:
        raise DutyError('holds another duty than its name says')
    return duty


def is_time(value: object) -> bool:
    """Tell whether something is a time with its offset, in ISO 8601."""
    try:
        return isinstance(value, str) and datetime.datetime.fromisoformat(
            value).tzinfo is not None
    except ValueError:
        return False
