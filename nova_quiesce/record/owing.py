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

"""What a request for a volume-backed snapshot owes, as a duty on the disk.

nova-api makes the image itself, after it cast the thaw. So the request owes a
record on an image that is not there yet, and, where quiesce is required and
was not proven, that nobody takes that image for a good one.
"""

import dataclasses
import datetime
import typing

from nova_quiesce import consistency
from nova_quiesce.freeze import duties

KIND = 'volume-backed-record'

_CONSISTENCY = consistency.PREFIX + 'consistency'
_REASON = consistency.PREFIX + 'reason'
_UNSEEN = ('the volume snapshots were not seen to be complete before the '
           'guest was thawed')


class NotOwed(duties.DutyError):
    """A duty that says it is one of these, and is not."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is proven, once the window is closed.

    :ivar properties: the record of what was cut inside it
    :ivar cut: the volume snapshots that were complete before the thaw
    """

    properties: dict[str, str]
    cut: frozenset[str] = frozenset()

    @classmethod
    def of(cls, record: consistency.Record,
           cut: frozenset[str] = frozenset()) -> 'Verdict':
        """The verdict that a record is of what was cut."""
        return cls(record.properties(), cut)

    @property
    def level(self) -> str:
        """The consistency level."""
        return self.properties[_CONSISTENCY]

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        return self.properties[_REASON]

    def on(self, snapshot_ids: tuple[str, ...]) -> 'Verdict':
        """What is proven of these volume snapshots."""
        is_claimed = self.level == consistency.Level.FILESYSTEM.value
        if is_claimed and not self.cut.issuperset(snapshot_ids):
            return Verdict.of(consistency.crash(_UNSEEN))
        return self


@dataclasses.dataclass(frozen=True)
class Owed:
    """One request, and what is known of it by now.

    :ivar duty: the same, as it is kept
    """

    duty: duties.Duty

    @classmethod
    def begin(cls, instance_uuid: str, request_id: str, project_id: str,
              is_required: bool) -> 'Owed':
        """What a request owes as it arrives.

        :param is_required: whether only a proven snapshot may be left of it
        """
        return cls(duties.Duty(instance_uuid, KIND, {
            'request_id': request_id, 'project_id': project_id,
            'is_required': is_required, 'snapshot_ids': None,
            'listed_at': None, 'properties': None, 'cut': [],
            'image_id': None, 'put_away': None, 'is_told': False}))

    @classmethod
    def of(cls, duty: duties.Duty) -> 'Owed':
        """Read what an earlier process wrote.

        :raises NotOwed: it is something else
        """
        content = duty.content
        valid = {
            'request_id': str, 'project_id': str, 'is_required': bool,
            'snapshot_ids': (list, type(None)),
            'listed_at': (str, type(None)),
            'properties': (dict, type(None)), 'cut': list,
            'image_id': (str, type(None)), 'put_away': (str, type(None)),
            'is_told': bool}
        if content.keys() != valid.keys() or not all(
                isinstance(content[name], kind)  # type: ignore[arg-type]
                for name, kind in valid.items()):
            raise NotOwed('not what a volume-backed snapshot owes')
        properties = content['properties']
        if properties is not None and not {_CONSISTENCY, _REASON} <= set(
                properties):
            raise NotOwed('not the record of a snapshot')
        return cls(duty)

    @property
    def instance_uuid(self) -> str:
        """Whose snapshot it is."""
        return self.duty.instance_uuid

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self._text('request_id')

    @property
    def project_id(self) -> str:
        """The project that asked for it, and owns the image."""
        return self._text('project_id')

    @property
    def is_required(self) -> bool:
        """Whether only a proven snapshot may be left of it."""
        return bool(self.duty.content['is_required'])

    @property
    def is_told(self) -> bool:
        """Whether it was told that this takes longer than it should."""
        return bool(self.duty.content['is_told'])

    @property
    def snapshot_ids(self) -> tuple[str, ...] | None:
        """nova-api's own list; None until it came.

        It is empty where there is nothing that an image could stand for.
        """
        found = self.duty.content['snapshot_ids']
        return None if found is None else tuple(str(one) for one in found)

    @property
    def verdict(self) -> Verdict | None:
        """What is proven; None until the window is closed."""
        properties = self.duty.content['properties']
        if properties is None:
            return None
        return Verdict({str(key): str(value)
                        for key, value in properties.items()},
                       frozenset(map(str, self.duty.content['cut'])))

    @property
    def began(self) -> datetime.datetime:
        """When the request reached this host."""
        return datetime.datetime.fromisoformat(self.duty.created)

    @property
    def age(self) -> datetime.timedelta:
        """How long ago that was."""
        return self.duty.age

    @property
    def listed_for(self) -> datetime.timedelta:
        """How long ago nova-api's list came; none where it did not."""
        listed_at = self.duty.content['listed_at']
        if listed_at is None:
            return datetime.timedelta(0)
        return _now() - datetime.datetime.fromisoformat(listed_at)

    @property
    def image_id(self) -> str | None:
        """The request's image; None until it was found."""
        found: str | None = self.duty.content['image_id']
        return found

    @property
    def put_away(self) -> str | None:
        """What was done to the image, as a participle; None until then.

        It is done once: its owner may undo it.
        """
        done: str | None = self.duty.content['put_away']
        return done

    def judged(self, verdict: Verdict) -> 'Owed':
        """The same, with its verdict."""
        return Owed(self.duty.with_content(
            properties=verdict.properties, cut=sorted(verdict.cut)))

    def listed(self, snapshot_ids: tuple[str, ...]) -> 'Owed':
        """The same, with nova-api's list."""
        return Owed(self.duty.with_content(
            snapshot_ids=list(snapshot_ids), listed_at=_now().isoformat()))

    def with_image(self, image_id: str) -> 'Owed':
        """The same, once its image was found."""
        return Owed(self.duty.with_content(image_id=image_id))

    def with_put_away(self, done: str) -> 'Owed':
        """The same, once its image was put away."""
        return Owed(self.duty.with_content(put_away=done))

    def told(self) -> 'Owed':
        """The same, once it was told that it takes longer."""
        return Owed(self.duty.with_content(is_told=True))

    def _text(self, name: str) -> str:
        text: typing.Any = self.duty.content[name]
        return str(text)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
