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

"""The duty of a request for a volume-backed snapshot: the record of it.

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


class NotARecordDuty(duties.DutyError):
    """A duty of another kind, or one whose content cannot be read."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on a freeze window, once it is closed.

    :ivar properties: the record of what was cut inside it
    :ivar cut: the volume snapshots that were complete before the thaw
    """

    properties: dict[str, str]
    cut: frozenset[str] = frozenset()

    @classmethod
    def of(cls, record: consistency.Record,
           cut: frozenset[str] = frozenset()) -> 'Verdict':
        """Make a verdict of a record.

        :param record: of what was cut inside the window
        :param cut: the volume snapshots that were complete before the thaw
        """
        return cls(record.properties(), cut)

    @property
    def level(self) -> str:
        """The consistency level."""
        return self.properties[_CONSISTENCY]

    @property
    def reason(self) -> str:
        """The reason for that level, in a sentence."""
        return self.properties[_REASON]

    def on(self, snapshot_ids: tuple[str, ...]) -> 'Verdict':
        """The verdict on an image that stands for these volume snapshots.

        :param snapshot_ids: all of them
        :returns: this one; level ``crash`` where one of them was not seen to
            be complete before the thaw
        """
        is_claimed = self.level == consistency.Level.FILESYSTEM.value
        if is_claimed and not self.cut.issuperset(snapshot_ids):
            return Verdict.of(consistency.crash(_UNSEEN))
        return self


@dataclasses.dataclass(frozen=True)
class RecordDuty:
    """The duty of one request, with all that is known of the request by now.

    It does not change: each ``with_*`` method returns another one.

    :ivar stored: the duty as it is kept on the disk
    """

    stored: duties.Duty

    @classmethod
    def begin(cls, instance_uuid: str, request_id: str, project_id: str,
              is_required: bool, now: datetime.datetime) -> 'RecordDuty':
        """Make the duty of a request that has just arrived.

        :param instance_uuid: the instance whose snapshot it is
        :param request_id: the request's id
        :param project_id: the project that asks for it
        :param is_required: whether only a proven snapshot may be left of it
        :param now: the time, in UTC
        """
        return cls(duties.Duty(instance_uuid, KIND, {
            'request_id': request_id, 'project_id': project_id,
            'is_required': is_required, 'snapshot_ids': None,
            'listed_at': None, 'properties': None, 'cut': [],
            'image_id': None, 'put_away': None, 'is_told': False},
            created=now.isoformat()))

    @classmethod
    def of(cls, stored: duties.Duty) -> 'RecordDuty':
        """Read a duty that this process or an earlier one wrote.

        :param stored: the duty as it was on the disk
        :raises NotARecordDuty: it is something else
        """
        content = stored.content
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
            raise NotARecordDuty('not what a volume-backed snapshot owes')
        listed_at = content['listed_at']
        if listed_at is not None and not duties.is_time(listed_at):
            raise NotARecordDuty('its list came at no time')
        properties = content['properties']
        if properties is not None and not {_CONSISTENCY, _REASON} <= set(
                properties):
            raise NotARecordDuty('not the record of a snapshot')
        return cls(stored)

    @property
    def instance_uuid(self) -> str:
        """The instance whose snapshot it is."""
        return self.stored.instance_uuid

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self._text('request_id')

    @property
    def project_id(self) -> str:
        """The project that asked for the snapshot, and owns the image."""
        return self._text('project_id')

    @property
    def is_required(self) -> bool:
        """True if only a proven snapshot may be left of the request."""
        return bool(self.stored.content['is_required'])

    @property
    def is_told(self) -> bool:
        """True if it was told that the record takes longer than it should."""
        return bool(self.stored.content['is_told'])

    @property
    def snapshot_ids(self) -> tuple[str, ...] | None:
        """The volume snapshots, as nova-api listed them; None until then.

        The list is empty where there is nothing that an image could stand
        for.
        """
        found = self.stored.content['snapshot_ids']
        return None if found is None else tuple(str(one) for one in found)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the freeze window; None until it is closed."""
        properties = self.stored.content['properties']
        if properties is None:
            return None
        return Verdict({str(key): str(value)
                        for key, value in properties.items()},
                       frozenset(map(str, self.stored.content['cut'])))

    @property
    def began(self) -> datetime.datetime:
        """The time at which the request reached this host."""
        return datetime.datetime.fromisoformat(self.stored.created)

    def listed_for(self, now: datetime.datetime) -> datetime.timedelta:
        """The time since nova-api's list came; zero where it did not.

        :param now: the time, in UTC
        """
        listed_at = self.stored.content['listed_at']
        if listed_at is None:
            return datetime.timedelta(0)
        return now - datetime.datetime.fromisoformat(listed_at)

    @property
    def image_id(self) -> str | None:
        """The request's image; None until it was found."""
        found: str | None = self.stored.content['image_id']
        return found

    @property
    def put_away(self) -> str | None:
        """The way in which the image was put away, as a participle.

        None until that was done. It is done once: its owner may undo it.
        """
        done: str | None = self.stored.content['put_away']
        return done

    def with_verdict(self, verdict: Verdict) -> 'RecordDuty':
        """This duty with the verdict on its window."""
        return RecordDuty(self.stored.with_content(
            properties=verdict.properties, cut=sorted(verdict.cut)))

    def with_snapshots(self, snapshot_ids: tuple[str, ...],
                       now: datetime.datetime) -> 'RecordDuty':
        """This duty with nova-api's list of volume snapshots.

        :param snapshot_ids: all of them
        :param now: the time, in UTC
        """
        return RecordDuty(self.stored.with_content(
            snapshot_ids=list(snapshot_ids), listed_at=now.isoformat()))

    def with_image(self, image_id: str) -> 'RecordDuty':
        """This duty with its image, once that was found."""
        return RecordDuty(self.stored.with_content(image_id=image_id))

    def with_put_away(self, done: str) -> 'RecordDuty':
        """This duty once its image was put away.

        :param done: the way, as a participle
        """
        return RecordDuty(self.stored.with_content(put_away=done))

    def with_told(self) -> 'RecordDuty':
        """This duty once it was told that the record takes longer."""
        return RecordDuty(self.stored.with_content(is_told=True))

    def _text(self, name: str) -> str:
        text: typing.Any = self.stored.content[name]
        return str(text)
