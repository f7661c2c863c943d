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

"""Whether the promises were kept, once nothing fails any more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import itertools
import pathlib
import tempfile

from quiescelab import api
from quiescelab.campaign import subjects
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import lab as running
from quiescelab import oracle
from quiescelab import remains
from quiescelab import tenant
from quiescelab import volumes
from quiescelab import waiting

#: Seconds after all works again within which a guest is thawed and all is in
#: order: a freeze that was sent can land in 60, and pauses grow to 10.
BOUND = 90
#: Seconds that a guest may be frozen, by its own clock, with nothing wrong
#: any more: the limit of a freeze, and BOUND.
LONGEST = 60 + BOUND
#: Thaws for one freeze: each may run the guest's hook again.
MOST_THAWS = 12
#: Not over: nova-compute has not begun, or was killed while it uploaded.
UNFINISHED = ('queued', 'saving', 'importing', 'uploading')
CLAIMS = ('filesystem', 'offline')
REMAINS: Mapping[str, Callable[[running.Host], Sequence[object]]] = {
    'leases': remains.leases, 'duties': remains.duties,
    'directories of backup jobs': remains.scratch}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of an attempt.

    :ivar kind: of the server
    :ivar result: the image's level; or why there is none
    :ivar broken: the promises that were broken
    """

    kind: str
    result: str
    broken: list[str]


class Judge:
    """One who looks at what is left, and at the guests.

    What was there before is not its business: a request whose nova-api was
    killed owes its record for a day.

    :param lab: the lab, which is whole again
    :param more_hosts: the compute hosts that it has besides its own
    """

    def __init__(self, lab: running.Lab,
                 more_hosts: Sequence[running.Host] = ()) -> None:
        self._lab = lab
        self._hosts = (lab.host, *more_hosts)
        self._before = {what: self._all(what) for what in REMAINS}

    def judge(self, attempt: subjects.Attempt,
              is_calm: bool) -> Outcome:
        """Judge an attempt, and delete its image.

        :param is_calm: whether nothing failed meanwhile
        """
        images = attempt.subject.images(attempt.name)
        if len(images) > 1:
            return self._outcome(attempt, 'several', ['several images'])
        outcome = (self._judge_image(attempt, images[0]) if images
                   else self._outcome(attempt, _refusal_of(attempt), []))
        for image in images:
            if not self._remove(attempt.subject.user, image):
                outcome = dataclasses.replace(
                    outcome, result=f'{outcome.result}, volume snapshot left')
        if is_calm and outcome.result != 'filesystem':
            outcome.broken.append(f'nothing failed, and yet: {outcome.result}')
        return outcome

    def _remove(self, user: tenant.Tenant, image: api.Json) -> bool:
        """Delete an image, and tell whether its volume snapshots go, too.

        Cinder never ends one whose compute service was killed at it.
        """
        if all(user.volume_snapshot(one)['status'] != 'creating'
               for one in volumes.of_image(image)):
            user.remove_image(image)
            return True
        user.delete_image(image['id'])
        return False

    def _outcome(self, attempt: subjects.Attempt, result: str,
                 broken: Sequence[str]) -> Outcome:
        return Outcome(attempt.subject.kind.name, result, [
            f'{attempt.subject.kind.name} {attempt.name}: {text}'
            for text in broken])

    def _judge_image(self, attempt: subjects.Attempt,
                     image: api.Json) -> Outcome:
        status = image['status']
        if status in UNFINISHED:
            return self._outcome(attempt, f'image left {status}', [])
        try:
            record = attempt.subject.user.record(image['id'])
        except errors.LabError:
            return self._outcome(attempt, 'no record', [
                f'image {image["id"]} is {status}, without a record'])
        # It may be put away a moment after it was labelled.
        level = record['consistency']
        if attempt.subject.kind.is_required and level not in CLAIMS:
            with contextlib.suppress(errors.LabError):
                waiting.wait(lambda: self._is_put_away(attempt, image), BOUND,
                             'the image to be deactivated')
            image = attempt.subject.user.image(image['id'])
        return self._outcome(attempt, level if image['status'] == 'active'
                             else f'{level}, {image["status"]}',
                             list(self._compare(attempt, image, record)))

    def _is_put_away(self, attempt: subjects.Attempt,
                     image: api.Json) -> bool:
        found = attempt.subject.user.find_image(image['id'])
        return found is None or found['status'] != 'active'

    def _compare(self, attempt: subjects.Attempt, image: api.Json,
                 record: dict[str, str]) -> Iterator[str]:
        level = record['consistency']
        if level in CLAIMS and self._needs_recovery(attempt, image):
            yield f'it says {level}, and needs recovery'
        if (attempt.subject.kind.is_required and level not in CLAIMS
                and image['status'] == 'active'):
            yield f'quiesce is required, and the image is active: {record}'

    def _needs_recovery(self, attempt: subjects.Attempt,
                        image: api.Json) -> bool:
        with tempfile.TemporaryDirectory(dir=self._lab.paths.run) as scratch:
            try:
                return attempt.subject.user.needs_recovery(
                    image['id'], pathlib.Path(scratch))
            except oracle.OracleError as error:
                raise errors.LabError(
                    f'image {image["id"]}: {error}') from error

    # --- Guests, and what is left -------------------------------------------

    def judge_guest(self, subject: subjects.Subject) -> Iterator[str]:
        """Yield what is wrong with a guest, or with its freezes."""
        try:
            waiting.wait(lambda: _is_thawed(subject), BOUND, 'the thaw', 0.2)
        except errors.LabError:
            yield f'{subject.kind.name}: it is not thawed after {BOUND} s'
            return
        for text in _judge_hooks(subject.guest.hook_log()):
            yield f'{subject.kind.name}: {text}'

    def _all(self, what: str) -> list[object]:
        return [one for host in self._hosts for one in REMAINS[what](host)]

    def _left(self, what: str) -> list[object]:
        return [one for one in self._all(what)
                if one not in self._before[what]]

    def _is_over(self, what: str) -> bool:
        return not self._left(what)

    def judge_host(self, all_subjects: Sequence[subjects.Subject]
                   ) -> Iterator[str]:
        """Yield what is left of snapshots that are over."""
        for what in REMAINS:
            try:
                waiting.wait(functools.partial(self._is_over, what), BOUND,
                             what, 0.2)
            except errors.LabError:
                yield f'left: {what}: {self._left(what)}'
        for subject in all_subjects:
            if subject.guest.has_backup_job():
                yield f'left: a backup job of {subject.kind.name}'


def _refusal_of(attempt: subjects.Attempt) -> str:
    if attempt.refusal is None:
        return 'failed, no image'
    for code in ('409', '500', '503', '504'):
        if f': {code} ' in attempt.refusal:
            return f'refused with {code}'
    return 'no answer'


def _is_thawed(subject: subjects.Subject) -> bool:
    try:
        return not subject.guest.frozen()
    except guestctl.ControlError:
        return False


def _judge_hooks(calls: Sequence[guestctl.HookCall]) -> Iterator[str]:
    freezes = [number for number, call in enumerate(calls)
               if call.action == 'freeze' and call.status == 0]
    for number, following in itertools.pairwise([*freezes, len(calls)]):
        thaws = [call for call in calls[number + 1:following]
                 if call.action == 'thaw']
        if len(thaws) > MOST_THAWS:
            yield f'{len(thaws)} thaws of one freeze'
        if thaws and thaws[0].begin - calls[number].end > LONGEST:
            yield f'frozen for {thaws[0].begin - calls[number].end:.0f} s'
