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

"""The trace that a write leaves behind on a disk.

As long as a disk's trace is the same, nothing was written to it since: so
nobody has started the guest meanwhile, or it has changed nothing.
"""

import os
import stat

from nova.storage import rbd_utils
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import utils as libvirt_utils
from oslo_log import log as logging

from nova_quiesce.freeze import machines

LOG = logging.getLogger(__name__)

#: Equal traces mean that nothing was written in between. Of types that JSON
#: has.
Trace = dict[str, str | int]

_RBD = 'rbd:'
#: The option for the seconds until Ceph notes the time of another write.
_CEPH_INTERVAL = 'rbd_mtime_update_interval'
_BLOCK_DEVICE = '/sys/dev/block/%d:%d'
# Of a block device's statistics (Documentation/admin-guide/iostats.rst):
# writes and discards, by number and by sectors.
_WRITES = (4, 6, 11, 13)


def of_root_disk(domain: object) -> Trace | None:
    """Take the trace of a domain's root disk.

    :param domain: libvirt's ``virDomain``
    :returns: the trace; None where the disk shows none. Never raises.
    """
    try:
        path, _format = libvirt_utils.find_disk(libvirt_guest.Guest(domain))
        return of(path)
    except Exception as error:
        # Whatever is wrong with a disk or its storage, it shows nothing. A
        # volume in Ceph is often none of nova-compute's business.
        LOG.info('A disk does not tell when it was last written to: %s', error)
        return None


def of(path: str) -> Trace | None:
    """Take the trace of a disk.

    :param path: the disk as Nova names it: the path of a file or of a block
        device, or ``rbd:POOL/NAME``
    :returns: the trace; None where the disk shows none
    """
    if path.startswith(_RBD):
        return _of_ceph(path)
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode):
        return {'path': path, 'inode': status.st_ino, 'size': status.st_size,
                'written': status.st_mtime_ns}
    if stat.S_ISBLK(status.st_mode):
        return _of_block_device(path, status.st_rdev)
    return None


def _of_ceph(path: str) -> Trace | None:
    pool, _, name = path.removeprefix(_RBD).partition('/')
    with rbd_utils.RBDVolumeProxy(
            rbd_utils.RBDDriver(pool), name, pool=pool,
            read_only=True) as image:
        if not int(image.client.conf_get(_CEPH_INTERVAL) or 0):
            # QEMU, with the same configuration, does not keep the time.
            return None
        return {'path': path, 'id': image.id(),
                'written': image.modify_timestamp().isoformat()}


def _of_block_device(path: str, number: int) -> Trace | None:
    device = _BLOCK_DEVICE % (os.major(number), os.minor(number))
    if _read(device + '/queue/iostats') != ['1']:
        # It does not count.
        return None
    counted = _read(device + '/stat')
    return {'path': path, 'device': number, 'boot': machines.REAL.boot_id(),
            'written': ' '.join(counted[field] for field in _WRITES)}


def _read(path: str) -> list[str]:
    with open(path, encoding='ascii') as file:
        return file.read().split()
