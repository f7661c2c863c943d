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

"""The lines of ``nova-quiesce list``: leases and duties that are not over.

They are read from the files alone, so it works while nova-compute is down.
"""

from collections import abc
import os
import time

from oslo_config import cfg

from nova_quiesce.freeze import duties
from nova_quiesce.freeze import lease_directory
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.freeze import leases
from nova_quiesce.record import record_duty


def become_owner(path: str) -> None:
    """Become the user that owns a directory, where this process is root.

    Files of another user are not trusted, and root may read nova-compute's
    files only as nova-compute does.

    :param path: the directory; nothing is done where it is not there
    """
    if os.geteuid() == 0 and os.path.isdir(path):
        status = os.stat(path)
        os.setegid(status.st_gid)
        os.seteuid(status.st_uid)


def lines(options: cfg.ConfigOpts) -> abc.Iterator[str]:
    """Give a line for each guest that may be frozen, and for each duty.

    :param options: the configuration
    :returns: the lines, those of files that are neither among them
    :raises LeaseError, DutyError: the files cannot be read
    """
    path = options.quiesce.lease_directory
    if not os.path.lexists(path):
        return
    found, problems = lease_directory.LeaseDirectory(path).read_all()
    for lease in found:
        yield _of_lease(lease)
    for problem in problems:
        yield 'no lease: %s: %s' % (problem.name, problem.reason)
    directory = duties.DutyDirectory(
        os.path.join(path, lease_directory.DUTIES))
    if os.path.lexists(directory.path):
        yield from _of_duties(directory)


def _of_lease(lease: leases.Lease) -> str:
    left = lease.deadline - time.monotonic()
    return ('frozen: instance %s for %s of request %s, since %s, %s' % (
        lease.instance_uuid, lease.purpose, ', '.join(lease.owners),
        lease.created, 'for %d s more at most' % left if left > 0
        else 'longer than it may be'))


def _of_duties(directory: duties.DutyDirectory) -> abc.Iterator[str]:
    found, problems = directory.read_all()
    for one in found:
        try:
            yield (_of_job(one) if one.kind == leased_jobs.KIND
                   else _of_record(record_duty.RecordDuty.of(one)))
        except record_duty.NotARecordDuty as error:
            yield 'no duty: %s: %s' % (one.id, error)
    for problem in problems:
        yield 'no duty: %s' % problem


def _of_job(one: duties.Duty) -> str:
    return ('copied: the disk of instance %s, by a backup job since %s' % (
        one.instance_uuid, one.created))


def _of_record(one: record_duty.RecordDuty) -> str:
    verdict = one.verdict
    return ('owed: the record of request %s of project %s for instance %s, '
            'since %s, %s; %s, %s' % (
                one.request_id, one.project_id, one.instance_uuid,
                one.began.isoformat(timespec='seconds'),
                'required' if one.is_required else 'preferred',
                'not cut yet' if verdict is None else verdict.level,
                "nova-api's list is missing" if one.snapshot_ids is None
                else 'image not recorded yet'))
