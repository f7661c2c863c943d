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
"""Where a backup job keeps its files: its socket and its scratch file.

QEMU itself binds the socket, as its own user, so the directory has to belong
to that user. Others may pass through, and connect to nothing: the socket
appears writable for QEMU's user alone, and is then handed to Nova's.
"""

from collections import abc
import contextlib
import glob
import logging
import os
import shutil
import tempfile
from xml.etree import ElementTree

from nova.privsep import path as privileged

LOG = logging.getLogger(__name__)

#: How long the path of a unix socket may be, in bytes (``sun_path``).
_SOCKET_PATH = 107
_PASS_THROUGH = 0o711
_LABEL = './seclabel[@model="dac"]/label'


class Unusable(Exception):
    """No backup job can work here; the text says why."""


class Workplace:
    """The directory of one backup job.

    :param path: the directory
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = os.path.join(path, 'nbd')
        self.scratch = os.path.join(path, 'scratch')

    def take_socket(self) -> None:
        """Make the socket Nova's, and nobody else's."""
        privileged.chown(self.socket, uid=os.getuid())

    def free(self) -> int:
        """How much the scratch file can grow, in bytes."""
        volume = os.statvfs(self.path)
        return volume.f_bavail * volume.f_frsize


@contextlib.contextmanager
def workplace(directory: str, prefix: str,
              domain_xml: str) -> abc.Iterator[Workplace]:
    """A directory for one backup job, for the length of the block.

    :param directory: where to make it
    :param prefix: what its name begins with
    :param domain_xml: libvirt's description of the domain, as it runs
    :raises Unusable: it cannot be made, or not be used
    """
    try:
        path = tempfile.mkdtemp(prefix=prefix, dir=directory)
    except OSError as error:
        raise Unusable(str(error)) from error
    place = Workplace(path)
    try:
        if len(os.fsencode(place.socket)) > _SOCKET_PATH:
            raise Unusable('%s is too long a path for a unix socket'
                           % place.socket)
        os.chmod(path, _PASS_THROUGH)
        _hand_over(path, domain_xml)
        yield place
    finally:
        remove(path)


def left_over(directory: str, prefix: str) -> list[str]:
    """The directories of jobs whose process is gone.

    :param directory: where they were made
    :param prefix: what their names begin with
    """
    return glob.glob(os.path.join(
        glob.escape(directory), glob.escape(prefix) + '*'))


def remove(path: str) -> None:
    """Remove the directory of a job that has ended. Never raises."""
    try:
        if os.stat(path).st_uid != os.getuid():
            privileged.chown(path, uid=os.getuid())
        shutil.rmtree(path)
    except Exception as error:
        LOG.error('%(path)s stays behind, remove it by hand: %(error)s',
                  {'path': path, 'error': error})


def _hand_over(path: str, domain_xml: str) -> None:
    label = ElementTree.fromstring(domain_xml).findtext(_LABEL)
    if label is None:
        # QEMU runs as libvirtd does.
        return
    try:
        uid, gid = (int(part.lstrip('+')) for part in label.split(':'))
    except ValueError:
        raise Unusable('libvirt tells no user of the guest\'s process, but '
                       '"%s"' % label) from None
    privileged.chown(path, uid=uid, gid=gid)
