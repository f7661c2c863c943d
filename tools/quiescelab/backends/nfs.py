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

"""NFS, as far as Cinder, Nova and QEMU can tell: files that they share.

It needs no NFS of the kernel: the server is a filesystem in a file, and the
mount command that the services find first binds its directory instead. What
is mounted for them can be seen by libvirtd, which lives in a mount namespace
of its own.
"""

from collections.abc import Mapping
import json
import pathlib
import subprocess

from quiescelab import daemon
from quiescelab import errors
from quiescelab import site
from quiescelab import system

NAME = 'nfs'
PACKAGES: tuple[str, ...] = ('e2fsprogs', 'mount', 'qemu-utils')
USER = 'nq-cinder'
#: Who mounts, each below a directory of its own.
CLIENTS = {'cinder': 'nq-cinder', 'nova': 'nq-nova'}
SERVER = 'localhost'
SIZE_BYTES = 20 << 30
MOUNT = """#!/bin/sh
# mount(8), for the lab's services: an export of the lab is bound, because a
# kernel without NFS has to do. "mount -t nfs [-o OPTIONS] HOST:PATH POINT"
case "$1 $2" in
    '-t nfs') ;;
    *) exec /usr/bin/mount "$@" ;;
esac
while [ "$#" -gt 2 ]; do
    shift
done
exec /usr/bin/mount --bind "${1#*:}" "$2"
"""


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    for directory in (lab.paths.mounts, lab.paths.data('nfs')):
        system.make_directory(directory)
    for client, user in CLIENTS.items():
        # QEMU's user has to pass through.
        system.make_directory(mount_base(lab, client), user)
    system.write_file(lab.paths.helpers / 'mount', MOUNT, mode=0o755)
    lab.config('cinder', 'nfs-shares', f'{SERVER}:{_export(lab)}\n', USER)


def prepare(lab: site.Site) -> None:
    """Mount the filesystem, anew if the machine was started anew."""
    lab.once('nfs-filesystem', lambda: _make_filesystem(lab))
    mounts = lab.paths.mounts
    if mounts not in system.mount_points():
        # In a group of peers of its own: what is mounted in it is seen by
        # namespaces that are made from now on, and twice by nobody.
        _mount(lab, '--bind', '--make-private', str(mounts), str(mounts))
        _mount(lab, '--make-shared', str(mounts))
    if _export(lab) not in system.mount_points():
        _export(lab).mkdir(exist_ok=True)
        _mount(lab, '-o', 'loop', str(_filesystem(lab)), str(_export(lab)))
    # Cinder writes notes beside the volumes, as itself.
    system.make_directory(_export(lab), USER)


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return none: the kernel does it all."""
    return []


def after_start(lab: site.Site) -> None:
    """There is nothing left to do."""


def equip(lab: site.Site) -> None:
    """Cinder and Nova have all that they need."""


def try_to_write(lab: site.Site) -> None:
    """See that the export is there, and takes a write.

    :raises LabError: it does not
    """
    if _export(lab) not in system.mount_points():
        raise errors.LabError('is not mounted')
    (_export(lab) / 'written').touch()


def cinder_options(lab: site.Site) -> Mapping[str, object]:
    """Return the section in cinder.conf."""
    return {
        'volume_driver': 'cinder.volume.drivers.nfs.NfsDriver',
        'volume_backend_name': NAME,
        'nfs_shares_config': lab.paths.etc('cinder') / 'nfs-shares',
        'nfs_mount_point_base': mount_base(lab, 'cinder'),
        'nfs_snapshot_support': True,
        # Cinder makes no snapshots with 'true', and QEMU's user differs.
        'nas_secure_file_operations': False,
        'nas_secure_file_permissions': False,
    }


def mount_base(lab: site.Site, client: str) -> pathlib.Path:
    """Return where a service mounts what it uses.

    :param client: one of :data:`CLIENTS`
    """
    return lab.paths.mounts / client


def export_snapshot(lab: site.Site, volume_id: str, snapshot_id: str,
                    target: pathlib.Path) -> None:
    """Copy a volume's snapshot to a raw file."""
    notes = json.loads(
        (_export(lab) / f'volume-{volume_id}.info').read_text())
    # Under a snapshot's id is the file that was begun as it was made; what
    # that one is based on was not written to since.
    info = subprocess.run(
        ['qemu-img', 'info', '--force-share', '--output=json',
         str(_export(lab) / notes[snapshot_id])],
        check=True, capture_output=True)
    base = json.loads(info.stdout)['backing-filename']
    subprocess.run(
        ['qemu-img', 'convert', '--force-share', '-O', 'raw',
         str(_export(lab) / base), str(target)],
        check=True, capture_output=True)


def _export(lab: site.Site) -> pathlib.Path:
    return lab.paths.mounts / 'export'


def _filesystem(lab: site.Site) -> pathlib.Path:
    return lab.paths.data('nfs') / 'export.img'


def _make_filesystem(lab: site.Site) -> None:
    with _filesystem(lab).open('wb') as stream:
        stream.truncate(SIZE_BYTES)
    lab.run('nfs', ['mkfs.ext4', '-q', '-m', '0', str(_filesystem(lab))])


def _mount(lab: site.Site, *arguments: str) -> None:
    lab.run('nfs', ['/usr/bin/mount', *arguments])
