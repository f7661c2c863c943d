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

"""A second compute host on this machine, for those who migrate guests.

It is one more libvirtd and nova-compute, which find a directory of their own
where the first host's has Nova's data: as on two machines that are set up
alike, a guest that comes finds its files by the same paths. libvirt does not
migrate to a host of its own name, so it has another one. Each process makes
the namespaces for that again, so any can be restarted. Volumes in Ceph are the
same on both hosts. To libvirt, the lab's NFS is a local filesystem, and what
is on it stays where it is.

It is no part of a lab that comes up: whoever needs it starts it, and removes
it with all that Nova and Placement know of it.
"""

from collections.abc import Mapping
import dataclasses
import shutil
import signal

from quiescelab import daemon
from quiescelab import layout
from quiescelab import proc
from quiescelab import rest
from quiescelab.services import libvirt
from quiescelab.services import nova
from quiescelab import site
from quiescelab import system
from quiescelab import waiting

#: What Nova calls it. It begins with the first host's name: nobody may take
#: the one for the other.
NAME = f'{nova.HOST}-2'
#: What libvirt does, which has a name without a dot looked up.
NODE = f'{NAME}.invalid'
#: Of its processes in the lab, before the names that the first host's have.
PREFIX = 'second-'
CONFIG = 'nova-compute-second.conf'
PATIENCE_SECONDS = 120
RENAME = ('unshare', '--uts', 'sh', '-ec', 'hostname "$0"; exec "$@"', NODE)
BIND = ('unshare', '--mount', '--propagation', 'slave', 'sh', '-ec',
        'mount --bind "$0" "$1"; shift; exec "$@"')


def start(lab: site.Site,
          options: Mapping[str, Mapping[str, object]]) -> None:
    """Start it, and wait until servers can be moved there.

    :param lab: a lab that is up, and has none
    :param options: what its nova-compute has besides, by sections
    :raises LabError: it does not come up
    """
    configure(lab, options)
    boot(lab)
    cloud = rest.Client(lab, 'admin')
    waiting.wait(lambda: _is_known(cloud), PATIENCE_SECONDS,
                 f'the scheduler to know the host {NAME}')


def boot(lab: site.Site) -> None:
    """Start its processes, with what is on its disk.

    :raises LabError: one does not come up
    """
    for one in daemons(lab):
        lab.supervisor.start(one)


def remove(lab: site.Site) -> None:
    """End it, and have everybody forget it; nothing where there is none.

    :param lab: a lab that is up
    :raises LabError: Nova does not let it go
    """
    if lab.paths.second.exists():
        end(lab)
        _forget(rest.Client(lab, 'admin'))
        for one in daemons(lab):
            # Nothing of it is left but what the lab notes of its processes.
            lab.supervisor.stop(one.name, one.grace)
        (lab.paths.etc('nova') / CONFIG).unlink(missing_ok=True)
        shutil.rmtree(lab.paths.second)


def end(lab: site.Site) -> None:
    """Kill all that runs there, as if its power failed."""
    everything = [*guests(lab), *(one for service in daemons(lab) for one in
                                  lab.supervisor.family(service.name))]
    # Or some would see the end of the others, and do something about it.
    for one in everything:
        one.signal(signal.SIGSTOP)
    daemon.kill_all(everything)


def guests(lab: site.Site) -> list[proc.Process]:
    """Return what runs there besides its services."""
    services, paths = set(lab.supervisor.everyone()), at(lab).paths
    return [one for one in proc.everyone()
            if one not in services and libvirt.belongs(paths, one)]


def at(lab: site.Site) -> site.Site:
    """Return what belongs to it alone, as it is seen from outside."""
    return site.Site.at(layout.Layout(lab.paths.second), lab.screen)


def configure(lab: site.Site,
              options: Mapping[str, Mapping[str, object]]) -> None:
    """Write the settings and make the directories."""
    second = at(lab)
    system.make_directory(second.paths.root)
    second.state.set('virt_type', lab.virt_type)
    # They outlive it, for who wonders what happened there.
    system.make_directory(lab.paths.logs / 'second')
    second.paths.logs.symlink_to(lab.paths.logs / 'second')
    # To find out about QEMU anew would take seconds.
    shutil.copytree(lab.paths.cache / 'libvirt',
                    second.paths.cache / 'libvirt')
    libvirt.configure(second)
    nova.make_directories(second)
    lab.config('nova', CONFIG, system.ini({
        'DEFAULT': {'host': NAME},
        'libvirt': {'connection_uri': second.paths.libvirt_uri},
    }) + system.ini(options), nova.USER)
    system.make_directory(lab.paths.peers)
    for name, paths in {nova.HOST: lab.paths, NAME: second.paths}.items():
        (lab.paths.peers / name).symlink_to(paths.libvirt_socket)


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return its processes, in the order of starting."""
    theirs = [dataclasses.replace(one, name=f'{PREFIX}{one.name}',
                                  argv=(*RENAME, *one.argv))
              for one in libvirt.daemons(at(lab))]
    theirs.append(nova.compute(lab, f'{PREFIX}{nova.COMPUTE}', CONFIG))
    return [_with_data_of_its_own(lab, one) for one in theirs]


def _with_data_of_its_own(lab: site.Site, one: daemon.Daemon) -> daemon.Daemon:
    own, usual = (each.paths.data('nova') for each in (at(lab), lab))
    # Only root may make namespaces.
    return dataclasses.replace(one, user='root', argv=(
        *BIND, str(own), str(usual), *system.as_user(one.user, one.argv)))


def _is_known(cloud: rest.Client) -> bool:
    found = cloud.get('nova', '/v2.1/os-hypervisors')['hypervisors']
    return any(one['hypervisor_hostname'] == NODE and one['state'] == 'up'
               for one in found)


def _forget(cloud: rest.Client) -> None:
    """Remove its record, for good with what Placement has of it."""
    found = cloud.get('nova', f'/v2.1/os-services?host={NAME}')['services']
    for service in found:
        path = f'/v2.1/os-services/{service["id"]}'
        # Nobody answers there: what is deleted is not to wait for it.
        cloud.call('PUT', 'nova', path, {'forced_down': True})
        _remove_servers(cloud)
        cloud.call('DELETE', 'nova', path)


def _remove_servers(cloud: rest.Client) -> None:
    query = f'/v2.1/servers?all_tenants=1&host={NAME}'
    for server in cloud.get('nova', query)['servers']:
        cloud.call('DELETE', 'nova', f'/v2.1/servers/{server["id"]}')
    waiting.wait(lambda: not cloud.get('nova', query)['servers'],
                 PATIENCE_SECONDS, f'the servers of {NAME} to go')
