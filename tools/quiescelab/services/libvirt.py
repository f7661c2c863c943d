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

"""A libvirtd of the lab's own, which shares nothing with the machine's.

libvirt's directories are fixed when it is built, so its processes see the
lab's directories in their place: in a mount namespace of their own, with bind
mounts. Each process makes the same namespace again, so any can be restarted.
"""

import pathlib

from quiescelab import accelerator
from quiescelab import daemon
from quiescelab import layout
from quiescelab import proc
from quiescelab import ready
from quiescelab.services import nova
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = (
    'libvirt-daemon', 'libvirt-daemon-driver-qemu', 'libvirt-daemon-system',
    'libvirt-clients', 'qemu-system-x86', 'qemu-utils', 'qemu-block-extra')
USER = 'root'
RUN = pathlib.Path('/run/libvirt')
LIBVIRTD = """unix_sock_group = "{group}"
unix_sock_rw_perms = "0770"
unix_sock_ro_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{uuid}"
log_filters = "1:qemu.qemu_agent 3:util 3:event 3:rpc"
log_outputs = "1:file:{agent_log}"
"""
# libvirt has guests sent to no address that it knows for loopback.
MIGRATION_ADDRESS = '127.0.0.2'
# The lab brings no cgroups, no security driver and no device namespace: none
# of them is there for sure in a container.
QEMU = """user = "{user}"
dynamic_ownership = 1
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
migration_address = "{address}"
migration_host = "{address}"
migration_port_min = {first_port}
migration_port_max = {last_port}
"""
ENTER = 'while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; ' \
    'shift; exec "$@"'


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    for inside in _binds(lab.paths).values():
        system.make_directory(inside)
    # Nobody but root may open it, which is what libvirt looks at.
    system.write_file(_no_device(lab.paths), '', mode=0o000)
    etc = lab.paths.etc('libvirt')
    system.write_file(etc / 'libvirtd.conf', LIBVIRTD.format(
        group=nova.USER, uuid=lab.state.uuid('host'),
        agent_log=lab.paths.agent_log))
    system.write_file(etc / 'qemu.conf', QEMU.format(
        user=accelerator.QEMU_USER, address=MIGRATION_ADDRESS,
        first_port=layout.port('migration-first'),
        last_port=layout.port('migration-last')))
    system.write_file(etc / 'virtlogd.conf', 'log_level = 3\n')


def prepare(lab: site.Site) -> None:
    """Make the mount points that a machine without systemd may lack."""
    for outside in _binds(lab.paths):
        if not outside.is_dir():
            outside.mkdir(parents=True)
            lab.state.set(f'made:{outside}', 'yes')


def remove_mount_points(lab: site.Site) -> None:
    """Undo what prepare() did."""
    for outside in _binds(lab.paths):
        is_ours = lab.state.get(f'made:{outside}') and outside.is_dir()
        # Another libvirt of this machine may use it by now.
        if is_ours and not any(outside.iterdir()):
            outside.rmdir()


def belongs(paths: layout.Layout, process: proc.Process) -> bool:
    """Tell whether a process lives among the lab's own directories."""
    return proc.sees_in_place_of(process, RUN, paths.run / 'libvirt')


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return libvirt's log daemon and libvirtd."""
    return [_inside(lab, 'virtlogd', 'virtlogd.conf'),
            _inside(lab, 'libvirtd', 'libvirtd.conf', 'qemu.conf')]


def _inside(lab: site.Site, name: str, *settings: str) -> daemon.Daemon:
    etc = lab.paths.etc('libvirt')
    argv = ['unshare', '--mount', '--propagation', 'slave', 'sh', '-ec',
            ENTER, name]
    for outside, inside in (_binds(lab.paths) | _hidden(lab)).items():
        argv += [str(inside), str(outside)]
    argv += ['--', name, '--config', str(etc / settings[0]), '--pid-file',
             str(lab.paths.run / f'{name}.pid')]
    checks = {'virtlogd': ready.unix(lab.paths.run / 'libvirt' /
                                     'virtlogd-sock'),
              'libvirtd': lambda: _answers(lab.paths)}
    return daemon.Daemon(name, tuple(argv), USER, ready=checks[name],
                         inputs=tuple(etc / one for one in settings))


def _answers(paths: layout.Layout) -> bool:
    if not ready.unix(paths.libvirt_socket)():
        return False
    return system.output(['virsh', '-c', paths.libvirt_uri, 'version']
                         ) is not None


def _hidden(lab: site.Site) -> dict[pathlib.Path, pathlib.Path]:
    """Name the devices to hide from libvirt: a KVM that runs no guest.

    As long as the device is there, libvirt distrusts what it knows of a QEMU
    without KVM, and finds it out again at every question, for seconds.
    """
    if lab.virt_type == 'kvm' or not accelerator.DEVICE.exists():
        return {}
    return {accelerator.DEVICE: _no_device(lab.paths)}


def _no_device(paths: layout.Layout) -> pathlib.Path:
    return paths.run / 'no-kvm'


def _binds(paths: layout.Layout) -> dict[pathlib.Path, pathlib.Path]:
    return {
        pathlib.Path('/etc/libvirt'): paths.etc('libvirt'),
        pathlib.Path('/var/lib/libvirt'): paths.data('libvirt'),
        pathlib.Path('/var/log/libvirt'): paths.logs / 'libvirt',
        # What it finds out about QEMU takes seconds: worth keeping.
        pathlib.Path('/var/cache/libvirt'): paths.cache / 'libvirt',
        RUN: paths.run / 'libvirt',
    }
