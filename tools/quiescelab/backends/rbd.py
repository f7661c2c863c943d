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

"""RBD on a Ceph of one node: a monitor, a manager and one OSD in a file.

It needs nothing of the kernel: QEMU and Cinder speak to it themselves.
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
import os
import pathlib
import subprocess

from quiescelab import daemon
from quiescelab import errors
from quiescelab import layout
from quiescelab import site
from quiescelab import system

NAME = 'rbd'
PACKAGES: tuple[str, ...] = (
    'ceph-mon', 'ceph-mgr', 'ceph-osd', 'ceph-common', 'python3-rados',
    'python3-rbd')
USER = 'ceph'
POOL = 'volumes'
#: Of Glance's images, and of the disks of Nova's instances.
IMAGES, DISKS = 'images', 'vms'
PLACEMENT_GROUPS = 8
SIZE_BYTES = 20 << 30
ANSWER_SECONDS = 10
BINDINGS = 'import rados, rbd; print(rados.__file__); print(rbd.__file__)'
#: Where the distribution's Ceph was built to be.
PREFIX = pathlib.Path('/usr')


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    data = lab.paths.data('ceph')
    for part in ('', 'mon', 'mgr', 'osd'):
        system.make_directory(data / part, USER, 0o750)
    system.make_directory(lab.paths.run / 'ceph', USER)
    # Cinder, QEMU and people at the lab's shell read it; there is no secret.
    system.write_file(_config(lab), system.ini({
        'global': _global(lab), 'mon': _mon(lab), 'mgr': _mgr(lab),
        'osd': _osd(lab)}))


def prepare(lab: site.Site) -> None:
    """Make the monitor's store."""
    lab.once('ceph-mon', lambda: _make_monitor(lab))


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """:returns: the monitor, the manager and the OSD."""
    port = layout.port('ceph-mon-v2')
    osd = dataclasses.replace(
        _daemon(lab, 'ceph-osd', '0'),
        prepare=lambda: lab.once('ceph-osd', lambda: _make_osd(lab)))
    return [_daemon(lab, 'ceph-mon', 'lab', port),
            _daemon(lab, 'ceph-mgr', 'lab'), osd]


def after_start(lab: site.Site) -> None:
    """Make the pools."""
    for pool in (POOL, IMAGES, DISKS):
        lab.once(f'ceph-pool-{pool}', functools.partial(_make_pool, lab,
                                                        pool))


def equip(lab: site.Site) -> None:
    """Lend the distribution's bindings to the virtualenv."""
    lab.once('ceph-bindings', lambda: _link_bindings(lab), lab.software)


def try_to_write(lab: site.Site) -> None:
    """See that the cluster takes a write.

    :raises LabError: when it does not.
    """
    written = system.output([
        'rados', '--conf', str(_config(lab)), '--pool', POOL, 'put',
        'written', str(_config(lab))], ANSWER_SECONDS)
    if written is None:
        raise errors.LabError('writes nothing')


def cinder_options(lab: site.Site) -> Mapping[str, object]:
    """:returns: the section in cinder.conf."""
    return {
        'volume_driver': 'cinder.volume.drivers.rbd.RBDDriver',
        'volume_backend_name': NAME,
        'rbd_pool': POOL,
        'rbd_ceph_conf': _config(lab),
        'rados_connect_timeout': 30,
    }


def export_snapshot(lab: site.Site, volume_id: str, snapshot_id: str,
                    target: pathlib.Path) -> None:
    """Copy a volume's snapshot to a raw file."""
    subprocess.run(
        ['rbd', '--conf', str(_config(lab)), 'export', '--no-progress',
         f'{POOL}/volume-{volume_id}@snapshot-{snapshot_id}', str(target)],
        check=True, capture_output=True)


def glance_options(lab: site.Site) -> Mapping[str, object]:
    """:returns: the section of its store in glance-api.conf."""
    return {
        'rbd_store_pool': IMAGES,
        'rbd_store_ceph_conf': _config(lab),
        'rados_connect_timeout': 30,
    }


def nova_options(lab: site.Site) -> Mapping[str, object]:
    """:returns: what nova-compute's section [libvirt] needs for its disks."""
    return {
        'images_type': 'rbd',
        'images_rbd_pool': DISKS,
        'images_rbd_ceph_conf': _config(lab),
    }


def _global(lab: site.Site) -> Mapping[str, object]:
    return {
        'fsid': lab.state.uuid('ceph'),
        'mon_host': _monitor_address(),
        'public_addr': layout.HOST,
        'cluster_addr': layout.HOST,
        'ms_bind_port_min': layout.port('ceph-first'),
        'ms_bind_port_max': layout.port('ceph-last'),
        'auth_cluster_required': 'none',
        'auth_service_required': 'none',
        'auth_client_required': 'none',
    }


def _monitor_address() -> str:
    """One monitor, by the two versions of Ceph's protocol."""
    host = layout.HOST
    return (f'[v2:{host}:{layout.port("ceph-mon-v2")},'
            f'v1:{host}:{layout.port("ceph-mon-v1")}]')


def _common(lab: site.Site) -> dict[str, object]:
    return {
        'run_dir': lab.paths.run / 'ceph',
        'admin_socket': lab.paths.run / 'ceph' / '$name.asok',
        'pid_file': '',
        'log_file': '',
        'log_to_stderr': True,
        'crash_dir': lab.paths.data('ceph') / 'crash',
    }


def _mon(lab: site.Site) -> Mapping[str, object]:
    return _common(lab) | {
        'mon_data': lab.paths.data('ceph') / 'mon',
        'mon_cluster_log_file': lab.paths.logs / 'ceph-cluster.log',
        'mon_cluster_log_to_file': False,
        'mon_initial_members': 'lab',
        'mon_allow_pool_size_one': True,
        'mon_warn_on_pool_no_redundancy': False,
        'mon_data_avail_crit': 1,
        'mon_data_avail_warn': 2,
        'mgr_initial_modules': '',
        'osd_pool_default_size': 1,
        'osd_pool_default_min_size': 1,
        'osd_pool_default_pg_autoscale_mode': 'off',
        'osd_crush_chooseleaf_type': 0,
    }


def _mgr(lab: site.Site) -> Mapping[str, object]:
    return _common(lab) | {'mgr_data': lab.paths.data('ceph') / 'mgr'}


def _osd(lab: site.Site) -> Mapping[str, object]:
    return _common(lab) | {
        'osd_data': lab.paths.data('ceph') / 'osd',
        'osd_class_dir': _class_directory(),
        'osd_objectstore': 'bluestore',
        'bluestore_block_create': True,
        'bluestore_block_size': SIZE_BYTES,
        'osd_memory_target': 939524096,
    }


def _class_directory() -> pathlib.Path:
    """Where the OSD's plug-ins are, without which no RBD image is made.

    Ceph 18 is built with a relative name, which it takes from the directory
    that it is started in.
    """
    built_in = system.output(['ceph-conf', '--conf', os.devnull,
                              '--show-config-value', 'osd_class_dir'])
    if built_in is None:
        raise errors.LabError('ceph-conf does not tell osd_class_dir: see '
                              'ceph-common')
    # An absolute one, as older ones have, stays as it is.
    return PREFIX / built_in.strip()


def _make_monitor(lab: site.Site) -> None:
    data = lab.paths.data('ceph')
    _run(lab, 'monmaptool', '--create', '--clobber', '--fsid',
         lab.state.uuid('ceph'), '--addv', 'lab', _monitor_address(),
         str(data / 'monmap'))
    _run(lab, 'ceph-mon', '--conf', str(_config(lab)), '--mkfs', '-i', 'lab',
         '--monmap', str(data / 'monmap'))


def _make_osd(lab: site.Site) -> None:
    identity = lab.state.uuid('ceph-osd')
    # The first OSD of a cluster gets number 0, and again if asked again.
    _run(lab, 'ceph', '--conf', str(_config(lab)), 'osd', 'new', identity)
    _run(lab, 'ceph-osd', '--conf', str(_config(lab)), '--mkfs', '-i', '0',
         '--osd-uuid', identity)


def _make_pool(lab: site.Site, pool: str) -> None:
    conf = ('--conf', str(_config(lab)))
    _run(lab, 'ceph', *conf, 'osd', 'pool', 'create', pool,
         str(PLACEMENT_GROUPS))
    _run(lab, 'rbd', *conf, 'pool', 'init', pool)


def _link_bindings(lab: site.Site) -> None:
    found = system.output(['/usr/bin/python3', '-c', BINDINGS])
    if found is None:
        raise errors.LabError('the rados and rbd modules do not load in '
                              '/usr/bin/python3: see python3-rados')
    [packages] = lab.paths.venv.glob('lib/python3*/site-packages')
    for module in map(pathlib.Path, found.split()):
        link = packages / module.name
        link.unlink(missing_ok=True)
        link.symlink_to(module)


def _daemon(lab: site.Site, program: str, identity: str,
            port: int | None = None) -> daemon.Daemon:
    argv = (program, '--foreground', '--conf', str(_config(lab)), '--id',
            identity)
    return daemon.Daemon(
        program, argv, USER, home=lab.paths.data('ceph'),
        inputs=(_config(lab),), port=port,
        ready=lambda: _answers(lab, program))


def _answers(lab: site.Site, program: str) -> bool:
    """Whether the cluster counts a daemon in."""
    text = system.output([
        'ceph', '--conf', str(_config(lab)), '--connect-timeout', '5',
        'status', '--format', 'json'])
    if text is None:
        return False
    status = json.loads(text)
    return {'ceph-mon': bool(status['quorum']),
            'ceph-mgr': bool(status['mgrmap']['available']),
            'ceph-osd': bool(status['osdmap']['num_up_osds'])}[program]


def _run(lab: site.Site, *argv: str) -> None:
    lab.run('ceph', argv, user=USER)


def _config(lab: site.Site) -> pathlib.Path:
    return lab.paths.etc('ceph') / 'ceph.conf'
