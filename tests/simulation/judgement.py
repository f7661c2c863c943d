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

"""The judgement of a run: which promises it has not kept."""

from collections import abc
import math
import pathlib
import typing

from nova_quiesce import consistency
from tests.simulation import clouds
from tests.simulation import hosts

if typing.TYPE_CHECKING:
    from tests.simulation import runs

#: Seconds after its limit within which a freeze ends; the guard waits 0.5.
GRACE = 1
#: Seconds after everything works again within which it ends: a thaw takes its
#: timeout, and pauses grow to 10 s.
BOUND = 15
MOST_THAWS = 6
_FILESYSTEM = consistency.Level.FILESYSTEM.value
_CONSISTENCY = consistency.PREFIX + 'consistency'


def problems_of(run: 'runs.Run') -> list[str]:
    """List what is not as it is promised.

    :param run: a run that is over
    """
    return [*run.world.broken, *_judge_guest(run), *_judge_record(run),
            *_judge_image(run), *_judge_disk(run), *_judge_tasks(run)]


def _judge_guest(run: 'runs.Run') -> abc.Iterator[str]:
    guest = run.guest
    if guest.is_frozen:
        yield 'the guest stays frozen'
    for span in guest.frozen_spans:
        latest = span.stood_still + max(
            span.begin + _limit_of(run) + GRACE,
            run.world.healed_at + BOUND)
        if span.end is not None and span.end > latest:
            yield 'it was frozen for %.1f s' % (span.end - span.begin)
    # Cinder's request that comes after the thaw is one like any other.
    freezes = 1 + (len(clouds.VOLUMES) if run.path.is_of_api and
                   run.path.is_assisted else 0)
    if guest.hooks.count('freeze') > freezes:
        yield 'it was frozen %d times' % guest.hooks.count('freeze')
    if guest.hooks.count('thaw') > MOST_THAWS * freezes:
        yield 'it was thawed %d times' % guest.hooks.count('thaw')
    if guest.job is not None:
        yield 'a backup job is left'
    latest = max(run.world.killed_at or math.inf, run.world.healed_at) + BOUND
    if any(job.is_ours and (job.ended or 0) > latest for job in guest.jobs):
        yield 'a backup job outlived its nova-compute'


def _judge_record(run: 'runs.Run') -> abc.Iterator[str]:
    if run.record is None:
        return
    if run.record.level is not consistency.Level.FILESYSTEM:
        if run.is_required:
            yield 'quiesce is required, and not proven'
    elif run.cut is None or not _was_frozen(run, run.cut, run.cut):
        yield 'the record lies'
    elif _is_overdue(run, run.cut):
        yield 'the record claims what was overdue'


def _limit_of(run: 'runs.Run') -> float:
    return hosts.MAX_FREEZE * (2 if run.path.is_suspended else 1)


def _was_frozen(run: 'runs.Run', begin: float, end: float) -> bool:
    return any(span.covers(begin, end) for span in run.guest.frozen_spans)


def _is_overdue(run: 'runs.Run', cut: float) -> bool:
    # The thaw begins with the limit of its time.
    began = [point.time for point in run.world.points
             if point.name == 'agentSetResponseTimeout: before' and
             point.number >= run.cut_point]
    limit = _limit_of(run) + sum(
        span.stood_still for span in run.guest.frozen_spans)
    return not began or began[0] > cut + limit


def _judge_image(run: 'runs.Run') -> abc.Iterator[str]:
    if not run.glance.are_others_whole():
        yield "another's image was changed"
    image = run.glance.images.get(run.glance.made or '')
    if image is None:
        return
    is_claimed = image.get(_CONSISTENCY) == _FILESYSTEM
    if is_claimed and not _is_proven(run):
        yield 'the image lies'
    if image['status'] != 'active' or (
            run.conductor.told and not run.world.is_list_known):
        # What is not known to be its own is not touched; its owner is told.
        return
    if run.is_required and not is_claimed:
        yield 'the image is required, active and not proven'
    if run.api.is_quiesced and _CONSISTENCY not in image:
        yield 'the image has no record'


def _is_proven(run: 'runs.Run') -> bool:
    ours = [one for one in run.cinder.snapshots.values()
            if one.id.startswith('snapshot-')]
    # In one freeze, for they are of one moment.
    return all(one.end == 'available' for one in ours) and any(
        all(span.covers(one.cut or one.made, one.cut or one.ends)
            for one in ours) for span in run.guest.frozen_spans)


def _judge_disk(run: 'runs.Run') -> abc.Iterator[str]:
    if run.pool.snapshots and not run.was_killed and not any(
            'rbd' in line for line in run.faults_seen):
        yield 'a snapshot is left in the pool'
    left = [*pathlib.Path(run.directory).glob('*.lease'),
            *left_for_restart(run)]
    if left:
        yield 'files are left: %s' % [
            str(one.relative_to(run.scratch)) for one in left]


def left_for_restart(run: 'runs.Run') -> list[pathlib.Path]:
    """List the files that the next nova-compute would remove.

    :param run: a run in which nobody has anything to do any more
    """
    return [*pathlib.Path(run.directory).glob('duties/*.duty'),
            *(one for one in (run.scratch / 'snapshots').iterdir()
              if 'other' not in one.name)]


def left_by_refusal(run: 'runs.Run') -> list[str]:
    """Tell of a duty that stays although its request was refused.

    :param run: a run in which nobody has anything to do any more
    """
    is_refused = run.path.is_of_api and not (
        run.api.is_quiesced or run.was_killed)
    duties = [*pathlib.Path(run.directory).glob('duties/*.duty')]
    if is_refused and duties and len(run.faults_seen) == 1:
        return ['a request that was refused leaves a duty']
    return []


def _judge_tasks(run: 'runs.Run') -> abc.Iterator[str]:
    for task in run.world.scheduler.tasks:
        # nova-compute serves as long as it lives.
        if not task.process.is_dead and task.name != 'main':
            yield 'task %s of %s is left' % (task.name, task.process)
    for task in run.world.scheduler.failed:
        yield 'task %s: %r' % (task.name, task.error)
