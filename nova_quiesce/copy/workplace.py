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
"""The directory of a backup job: its socket and its scratch file.

QEMU itself binds the socket, as its own user, so the directory has to belong
to that user. Others may pass through, and connect to nothing: the socket
appears writable for QEMU's user alone, and is then handed to Nova's. The
scratch file is made here, before the guest is frozen.
"""

from collections import abc
import contextlib
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
from xml.etree import ElementTree

from nova import conf as nova_conf
from nova.privsep import path as privsep_path

from nova_quiesce.freeze import jobs
from nova_quiesce.freeze import texts

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

#: How long the path of a unix socket may be, in bytes (``sun_path``).
_SOCKET_PATH = 107
_PASS_THROUGH = 0o711
#: The mode of a scratch file, as libvirt would make it.
_OWNERS_ALONE = 0o600
#: What ``tempfile.mkdtemp`` appends to a prefix. There is no "-" in it.
_RANDOM = re.compile('[a-z0-9_]{8}')
_LABEL = './seclabel[@model="dac"]/label'


class Unusable(Exception):
    """No backup job can work here; the text says why."""


class Workplace:
    """The directory of one backup job.

    :param path: the directory
    :ivar owners: the users that it may belong to
    :ivar is_kept: whether the directory has to outlast its use, because the
        job may go on
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = os.path.join(path, 'nbd')
        self.scratch = os.path.join(path, 'scratch')
        self.is_kept = False
        self.owners: abc.Set[int] = {os.getuid()}

    @property
    def files(self) -> jobs.Files:
        """The job's files, as its lease names them."""
        return jobs.Files(self.socket, self.scratch)

    def take_socket(self) -> None:
        """Make the socket Nova's, and nobody else's."""
        privsep_path.chown(self.socket, uid=os.getuid())

    def free(self) -> int:
        """Tell how much the scratch file can grow, in bytes."""
        volume = os.statvfs(self.path)
        return volume.f_bavail * volume.f_frsize


class Places:
    """The workplaces of one host.

    Hosts may share the directory, and the name of one may be the beginning
    of another's.

    :param directory: where they are
    :param host: the host's name
    """

    def __init__(self, directory: str, host: str) -> None:
        self._directory = os.path.abspath(directory)
        self._prefix = 'quiesce-%s-' % host

    def has(self, path: str) -> bool:
        """Tell whether a path is that of a workplace of this host.

        :param path: the path, whatever is there
        """
        directory, name = os.path.split(path)
        return (directory == self._directory and
                name.startswith(self._prefix) and
                _RANDOM.fullmatch(name.removeprefix(self._prefix)) is not None)

    def left_over(self) -> list[str]:
        """List the paths that are workplaces of this host by their names."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            # Nova makes it for the first snapshot.
            return []
        return [path for path in (os.path.join(self._directory, name)
                                  for name in sorted(names))
                if self.has(path)]

    @contextlib.contextmanager
    def new(self, domain_xml: str, size: int) -> abc.Iterator[Workplace]:
        """A directory for one backup job, for the length of the block.

        :param domain_xml: libvirt's description of the domain, as it runs
        :param size: the disk's, in bytes
        :raises Unusable: it cannot be made, or not be used
        """
        try:
            path = tempfile.mkdtemp(
                prefix=self._prefix, dir=self._directory)
        except OSError as error:
            raise Unusable(str(error)) from error
        place = Workplace(path)
        try:
            if len(os.fsencode(place.socket)) > _SOCKET_PATH:
                raise Unusable('%s is too long a path for a unix socket'
                               % place.socket)
            _make_scratch(place.scratch, size)
            place.owners |= _open_up(place, domain_xml)
            yield place
        finally:
            if place.is_kept:
                LOG.error('%s stays, because its backup job may go on; the '
                          'next snapshot of the instance removes it, or '
                          'nova-compute as it starts', path)
            else:
                remove(path, place.owners)


def of_this_host() -> Places:
    """Make the handle of this host's workplaces, as Nova is configured."""
    return Places(CONF.libvirt.snapshots_directory, CONF.host)


def _make_scratch(path: str, size: int) -> None:
    try:
        done = subprocess.run(
            ['qemu-img', 'create', '-q', '-f', jobs.SCRATCH_FORMAT, path,
             str(size)], env=os.environ | {'LC_ALL': 'C'}, check=False,
            capture_output=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Unusable('qemu-img: %s' % error) from error
    if done.returncode:
        raise Unusable('qemu-img: %s' % texts.printable(
            done.stderr.decode(errors='replace')))


def _open_up(place: Workplace, domain_xml: str) -> set[int]:
    try:
        # It will hold what the guest overwrites.
        os.chmod(place.scratch, _OWNERS_ALONE)
        os.chmod(place.path, _PASS_THROUGH)
        return _hand_over([place.scratch, place.path], domain_xml)
    except OSError as error:
        raise Unusable(str(error)) from error


def remove(path: str, owners: abc.Set[int]) -> None:
    """Remove the directory of a job that has ended. Never raises.

    :param path: the directory
    :param owners: the users that it may belong to
    """
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
            LOG.error('%s is left alone: it is no directory of Nova\'s or '
                      'QEMU\'s user', path)
            return
        if found.st_uid != os.getuid():
            privsep_path.chown(path, uid=os.getuid())
        shutil.rmtree(path)
    except FileNotFoundError:
        LOG.debug('%s is gone already', path)
    except Exception as error:
        LOG.error('%(path)s stays behind, remove it by hand: %(error)s',
                  {'path': path, 'error': error})


def users(capabilities: str) -> set[int]:
    """The users that a workplace may belong to: Nova's and QEMU's.

    :param capabilities: libvirt's description of the host
    """
    labels = ElementTree.fromstring(capabilities).iterfind(
        './host/secmodel[model="dac"]/baselabel')
    return {os.getuid(), *(_parse(str(label.text))[0] for label in labels)}


def _hand_over(paths: abc.Iterable[str], domain_xml: str) -> set[int]:
    label = ElementTree.fromstring(domain_xml).findtext(_LABEL)
    if label is None:
        # QEMU runs as libvirtd does.
        return set()
    uid, gid = _parse(label)
    for path in paths:
        privsep_path.chown(path, uid=uid, gid=gid)
    return {uid}


def _parse(label: str) -> tuple[int, int]:
    try:
        uid, gid = (int(part.lstrip('+')) for part in label.split(':'))
    except ValueError:
        raise Unusable('libvirt tells no user of the guest\'s process, but '
                       '"%s"' % label) from None
    return uid, gid
