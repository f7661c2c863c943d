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
"""Copying the disk of a running instance, into a file or straight to Glance.

Freeze, begin the backup job, thaw, copy, end the job: only the second of
these is inside the freeze window.
"""

from collections import abc
import contextlib
import dataclasses
import functools
import os.path
import typing

import libvirt
from nova.compute import utils as compute_utils
from nova import conf as nova_conf
from nova.privsep import utils as privileged
from oslo_log import log as logging

from nova_quiesce.copy import convert
from nova_quiesce.copy import monitor
from nova_quiesce.copy import streamed
from nova_quiesce.copy import workplace
from nova_quiesce.cuts import backup_job
from nova_quiesce import exception
from nova_quiesce import foreign_jobs
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import leased_jobs
from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

#: Why no backup job could be used; the snapshot can be taken in another way.
UNAVAILABLE = (backup_job.Refused, workplace.Unusable)


class Domain(backup_job.Domain, foreign_jobs.Domain, typing.Protocol):
    """What is called of a libvirt ``virDomain`` here."""

    def name(self) -> str:
        """How libvirt calls it."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A disk of a running instance.

    :ivar domain: the instance's domain
    :ivar disk_path: how Nova calls the disk
    :ivar instance: the instance
    :ivar show_image: looks up the image that is made of it
    :ivar jobs: the backup jobs that may exist
    :ivar find: finds the domain anew, because a handle does not survive a
        restart of libvirtd
    """

    domain: Domain
    disk_path: str
    instance: seams.Instance
    show_image: typing.Callable[[], object]
    jobs: leased_jobs.LeasedJobs
    find: typing.Callable[[], Domain]

    def state(self) -> list[int] | None:
        """What the domain does, and why; None where that cannot be told.

        :raises libvirtError: it is gone
        """
        try:
            return self.domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() in backup_job.NO_GUEST:
                raise
        try:
            return self.find().state()
        except errors.NotFrozen as error:
            LOG.debug('The hypervisor does not tell what the guest does: %s',
                      error, instance=self.instance)
            return None


def jobs_of(domain: foreign_jobs.Domain) -> foreign_jobs.Jobs:
    """The jobs of a domain that may be in the way of a snapshot.

    :param domain: the domain
    """
    return foreign_jobs.Jobs(domain, CONF.libvirt.snapshots_directory)


def go_on(host: typing.Any, jobs: leased_jobs.LeasedJobs) -> None:
    """Go on with the jobs that an earlier nova-compute left. Never raises.

    To be called after :func:`clear`: what is left then did not end.

    :param host: Nova's handle of the hypervisor
    :param jobs: the jobs that may exist, by what is on the disk
    """
    try:
        places = _places()
        owners = workplace.users(host.get_connection().getCapabilities())
        for lease in jobs.left():
            path = os.path.dirname(str(lease.content.get('socket')))
            jobs.adopt(lease, functools.partial(
                _remove_left_over, places, path, owners))
    except Exception as error:
        LOG.error('The backup jobs that an earlier nova-compute left are '
                  'not gone on with: %s', error)


def _remove_left_over(places: workplace.Places, path: str,
                      owners: abc.Set[int]) -> None:
    if places.has(path):
        workplace.remove(path, owners)
    elif os.path.lexists(path):
        # The operator has named another directory since.
        LOG.error('%s of a backup job that has ended stays behind, because '
                  'it is not in [libvirt] snapshots_directory; remove it by '
                  'hand', path)


def clear(host: typing.Any) -> None:
    """End the jobs of this host's snapshots, and remove what they leave.

    Never raises: a job that goes on does no harm but to the disk's space. Its
    files stay, because the hypervisor writes to them; and where a domain does
    not tell its job, all stay.

    :param host: Nova's handle of the hypervisor
    """
    places = _places()
    try:
        domains = [guest._domain
                   for guest in host.list_guests(only_running=True)]
        for domain in domains:
            _end_left_over(domain, places)
        needed = {place.path for place in (
            backup_job.find(domain, places) for domain in domains) if place}
        owners = workplace.users(host.get_connection().getCapabilities())
        for path in places.left_over():
            if path not in needed:
                workplace.remove(path, owners)
    except Exception as error:
        LOG.error('What snapshots left behind in %(directory)s was not '
                  'removed: %(error)s',
                  {'directory': CONF.libvirt.snapshots_directory,
                   'error': error})


def _places() -> workplace.Places:
    return workplace.Places(CONF.libvirt.snapshots_directory, CONF.host)


def _end_left_over(domain: Domain, places: workplace.Places) -> None:
    try:
        place = backup_job.find(domain, places)
        if place is None or not backup_job.end(domain, place):
            return
        LOG.warning('A backup job of domain %s, left behind by a snapshot, '
                    'was ended', domain.name())
        workplace.remove(place.path, workplace.users(
            domain.connect().getCapabilities()))
    except Exception as error:
        LOG.error('A backup job that a snapshot may have left behind was not '
                  'ended: %s', error)


def _make_way(source: Source, places: workplace.Places) -> None:
    # Nova takes one snapshot of an instance at a time, so that a job of this
    # host's that is there now is one that could not be ended.
    _end_left_over(source.domain, places)
    if backup_job.find(source.domain, places) is not None:
        raise exception.JobLeftBehind()
    jobs_of(source.domain).check_backup(source.disk_path)


def copy(source: Source, target: str, image_format: str,
         cutter: backup_job.Cutter) -> None:
    """Copy a disk, as it is at the cut.

    :param source: the disk
    :param target: the file to write
    :param image_format: Glance's name of its format
    :param cutter: makes the cut, or refuses to
    :raises Refused, Unusable: nothing was begun; try another way
    :raises JobUnderWay, JobLeftBehind: nothing was begun; no way is free
    :raises CopyFailed: the disk could not be copied
    """
    # The cut comes when the copy can begin: what the guest overwrites while
    # it waits would be kept for nothing.
    with compute_utils.disk_ops_semaphore, _exported(
            source, cutter) as exported:
        _convert(source, exported, target, image_format)


def can_upload(image_format: str) -> bool:
    """Whether :func:`upload` makes images of a format, as they are wanted.

    :param image_format: Glance's name of it
    """
    # Nova limits uploads, too. What waits for its turn had better be copied
    # then, so that the job, and what the guest overwrites, does not wait.
    return (CONF.quiesce.direct_upload and
            not CONF.compute.max_concurrent_disk_ops and
            image_format in streamed.FORMATS and
            not _is_compressed(image_format))


def upload(source: Source, image_format: str,
           cutter: backup_job.Cutter) -> 'Upload':
    """Have a disk, as it is at the cut, read as an image.

    :param source: the disk
    :param image_format: Glance's name of its format
    :param cutter: makes the cut, or refuses to
    :returns: the image, which has to be closed
    :raises Refused, Unusable: nothing was begun; try another way
    :raises JobUnderWay, JobLeftBehind: nothing was begun; no way is free
    :raises CopyFailed: the disk cannot be read
    """
    with contextlib.ExitStack() as undo:
        exported = undo.enter_context(_exported(source, cutter))
        watching = undo.enter_context(_watch(source, exported.place))
        with _explained(source):
            image = undo.enter_context(contextlib.closing(
                streamed.StreamedImage(
                    streamed.command(exported.place.socket, exported.target,
                                     image_format),
                    watching, exported.end)))
        return Upload(source, image, undo.pop_all())


class Upload:
    """A disk's image, to be read once, from its beginning to its end.

    :param source: the disk
    :param image: the image
    :param resources: what goes when it is closed
    """

    def __init__(self, source: Source, image: streamed.StreamedImage,
                 resources: contextlib.ExitStack) -> None:
        self._source = source
        self._image = image
        self._resources = resources

    def read(self, size: int) -> bytes:
        """Read on.

        :param size: how many bytes at most
        :raises CopyFailed: the disk cannot be read
        """
        with _explained(self._source):
            return self._image.read(size)

    def check(self, uploaded: object) -> None:
        """See that what was uploaded is the whole image.

        Nova repeats a request to Glance that broke off, and what was read for
        the first is no part of the second.

        :param uploaded: how long Glance says the image is, in bytes
        :raises CopyFailed: it is not all there
        """
        with _explained(self._source):
            if isinstance(uploaded, int) and uploaded != self._image.length:
                raise convert.CopyFailed(
                    'Glance has %d bytes of an image of %d' % (
                        uploaded, self._image.length))

    def close(self) -> None:
        """End the backup job, and whatever belongs to it."""
        self._resources.close()


class _Exported(typing.NamedTuple):
    """A disk that can be read as it was at its cut."""

    #: What libvirt calls it.
    target: str
    place: workplace.Workplace
    #: Ends the job, as soon as all is read.
    end: typing.Callable[[], object]


@contextlib.contextmanager
def _exported(source: Source,
              cutter: backup_job.Cutter) -> abc.Iterator[_Exported]:
    places = _places()
    _make_way(source, places)
    with contextlib.ExitStack() as undo:
        # Its lease outlasts its files.
        lease = undo.enter_context(_leased(source))
        place = undo.enter_context(places.new(source.domain.XMLDesc(0)))
        job = backup_job.Job(source.domain, source.disk_path, place)
        lease.begin(place)
        # Until the opposite is proven.
        place.is_kept = True
        try:
            cutter(job.begin)
            place.take_socket()
            yield _Exported(job.target, place, lease.end)
        finally:
            place.is_kept = not lease.end()


class _Lease:
    """The lease of one copy's backup job, from before it to after it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._place: workplace.Workplace | None = None
        self._lease: duties.Duty | None = None

    def begin(self, place: workplace.Workplace) -> None:
        """Note that the job may exist from now on."""
        self._place = place
        self._lease = self._source.jobs.take(
            self._source.instance.uuid, place.files)

    def end(self) -> bool:
        """End the job; whether it is known to have ended."""
        assert self._lease is not None
        return self._source.jobs.end(self._lease)

    def drop(self) -> None:
        """Give it up, or have somebody go on with it."""
        if self._lease is None or self._place is None:
            return
        if self._place.is_kept:
            self._source.jobs.end_later(self._lease, functools.partial(
                workplace.remove, self._place.path, self._place.owners))
        else:
            self._source.jobs.drop(self._lease)


@contextlib.contextmanager
def _leased(source: Source) -> abc.Iterator[_Lease]:
    lease = _Lease(source)
    try:
        yield lease
    finally:
        lease.drop()


def _convert(source: Source, exported: _Exported, target: str,
             image_format: str) -> None:
    place = exported.place
    with _explained(source), _watch(source, place) as watching:
        convert.convert(
            convert.export_url(place.socket, exported.target), target,
            image_format, _is_compressed(image_format),
            privileged.supports_direct_io(CONF.instances_path), watching)


def _is_compressed(image_format: str) -> bool:
    return bool(CONF.libvirt.snapshot_compression and
                image_format == 'qcow2')


def _watch(source: Source, place: workplace.Workplace) -> monitor.CopyWatch:
    return monitor.CopyWatch(
        source.state, place, source.show_image, source.instance)


@contextlib.contextmanager
def _explained(source: Source) -> abc.Iterator[None]:
    try:
        yield
    except convert.CopyFailed as error:
        # Its text names paths of the host, which are not for tenants.
        LOG.error('The disk was not copied: %s', error,
                  instance=source.instance)
        # Where the domain is gone, that is what Nova wants to hear.
        source.state()
        raise exception.CopyFailed() from error
