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

"""Jobs of libvirt's that somebody else runs on a test's server."""

from collections import abc
import contextlib
import os
import pathlib
import subprocess
import tempfile
import typing
from xml.etree import ElementTree

import libvirt

from quiescelab import waiting

from tests.integration import base

_BACKUP = ("<domainbackup mode='pull'><server transport='unix' "
           "socket='%(place)s/nbd'/><disks><disk name='%(disk)s' type='file'>"
           "<scratch file='%(place)s/scratch'/></disk></disks></domainbackup>")
_DISK = ("<disk type='file'><driver name='qemu' type='qcow2'/>"
         "<source file='%s'/>%s</disk>")
_SIZE = '1G'


@contextlib.contextmanager
def _place(domain: typing.Any,
           directory: pathlib.Path) -> abc.Iterator[pathlib.Path]:
    # A directory of the test's own, which QEMU can write to.
    with tempfile.TemporaryDirectory(prefix='o', dir=directory) as path:
        label = ElementTree.fromstring(domain.XMLDesc(0)).findtext(
            './seclabel[@model="dac"]/label')
        assert label is not None
        os.chown(path, *(int(part) for part in label.split(':')))
        yield pathlib.Path(path)


@contextlib.contextmanager
def backup(domain: typing.Any, directory: pathlib.Path,
           disk: str = 'vda') -> abc.Iterator[abc.Callable[[], None]]:
    """Have a disk backed up for the length of the block.

    :param domain: libvirt's
    :param directory: for the job's files
    :param disk: as libvirt calls it
    :returns: sees that the job is as it was, and its export readable
    """
    with _place(domain, directory) as place:
        domain.backupBegin(
            _BACKUP % {'place': place, 'disk': disk}, None, 0)
        described = domain.backupGetXMLDesc(0)

        def see() -> None:
            assert domain.backupGetXMLDesc(0) == described
            subprocess.run(
                ['qemu-img', 'map', '--output=json',
                 'nbd+unix:///%s?socket=%s/nbd' % (disk, place)],
                check=True, capture_output=True, timeout=60)

        try:
            yield see
        finally:
            if _has_backup(domain):
                domain.abortJob()


def _has_backup(domain: typing.Any) -> bool:
    try:
        domain.backupGetXMLDesc(0)
    except libvirt.libvirtError:
        return False
    return True


@contextlib.contextmanager
def copy(domain: typing.Any, directory: pathlib.Path,
         disk: str = 'vda') -> abc.Iterator[abc.Callable[[], None]]:
    """Have a disk mirrored for the length of the block.

    :param domain: libvirt's
    :param directory: for the copy
    :param disk: as libvirt calls it
    :returns: sees that it still is
    """
    with _place(domain, directory) as place:
        target = place / 'copy'
        domain.blockCopy(disk, _DISK % (target, ''), {},
                         libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)

        def see() -> None:
            assert domain.blockJobInfo(disk, 0)[
                'type'] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
            assert str(target) in domain.XMLDesc(0)

        try:
            yield see
        finally:
            if domain.blockJobInfo(disk, 0):
                domain.blockJobAbort(disk, 0)


@contextlib.contextmanager
def disk(domain: typing.Any, directory: pathlib.Path, target: str
         ) -> abc.Iterator[None]:
    """Give a domain another disk for the length of the block.

    :param domain: libvirt's
    :param directory: for the disk
    :param target: what libvirt calls it
    """
    with _place(domain, directory) as place:
        path = place / 'disk'
        subprocess.run(['qemu-img', 'create', '-f', 'qcow2', path, _SIZE],
                       check=True, capture_output=True)
        described = _DISK % (path, "<target dev='%s' bus='virtio'/>" % target)
        domain.attachDeviceFlags(described, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        try:
            yield
        finally:
            domain.detachDeviceFlags(
                described, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            waiting.wait(lambda: str(path) not in domain.XMLDesc(0),
                         base.SOON, 'the disk to go')
