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

"""Bringing the lab up: what has to be done, and what can be done at once."""

from collections.abc import Callable
import functools
import os
import re

from quiescelab import accelerator
from quiescelab import access
from quiescelab import backends
from quiescelab.backends import nfs
from quiescelab.backends import rbd
from quiescelab import catalogue
from quiescelab import checkout
from quiescelab import errors
from quiescelab import guest
from quiescelab import health
from quiescelab import images
from quiescelab import layout
from quiescelab import packages
from quiescelab import python
from quiescelab import ready
from quiescelab.services import cinder
from quiescelab.services import glance
from quiescelab.services import keystone
from quiescelab.services import libvirt
from quiescelab.services import mariadb
from quiescelab.services import neutron
from quiescelab.services import nova
from quiescelab.services import placement
from quiescelab.services import rabbitmq
from quiescelab.services import second
from quiescelab import site
from quiescelab import system
from quiescelab import tasks
from quiescelab import users

# Configurations and rules of sudo hold the path as it is.
SAFE_ROOT = re.compile(r'/[A-Za-z0-9._/-]+')


def prepare_root(paths: layout.Layout) -> None:
    """Make the lab's directory, or see that it is a lab's.

    :param paths: where the lab is to be
    :raises LabError: the place does not suit
    """
    _check_place(paths)
    os.umask(0o022)
    for directory in (paths.root, paths.logs, paths.cache, paths.pids):
        system.make_directory(directory)
    paths.marker.touch()


def run(lab: site.Site, driver: str, nova: str | None = None) -> bool:
    """Bring everything up that is not.

    :param lab: the lab, whose directory exists
    :param driver: Nova's ``compute_driver``
    :param nova: the release of Nova; else the one that the lab has, else the
        newest
    :returns: whether all went well; if not, it was told why
    :raises LabError: it could not begin
    """
    packages.require_apt()
    _check_ports(lab)
    _choose_nova(lab, nova)
    lab.state.set('driver', driver)
    return tasks.Runner(lab.screen).run(plan(lab))


def _choose_nova(lab: site.Site, release: str | None) -> None:
    if release is None or release == lab.nova:
        return
    # Its tables are of one release, and no older one can use them.
    if lab.software:
        raise errors.LabError('this lab has another release of Nova; take it '
                              'down first: tools/lab down --keep')
    lab.state.set('nova', release)


def plan(lab: site.Site) -> list[tasks.Task]:
    """Return every step, each with the steps that it needs."""
    return [*_software(lab), *_infrastructure(lab), *_openstack(lab)]


def _software(lab: site.Site) -> list[tasks.Task]:
    wanted = [*catalogue.packages(lab), *guest.PACKAGES]
    installs = [
        _task(lab, 'build tools', packages.install, packages.BUILD),
        _task(lab, 'python', python.install, needs=('build tools',)),
        _task(lab, 'packages', packages.install, wanted,
              needs=('build tools',)),
        _task(lab, 'users', users.create, needs=('packages',)),
        _task(lab, 'guest image', images.build, needs=('packages',)),
        _task(lab, 'accelerator', accelerator.choose,
              needs=('guest image',)),
    ]
    if lab.driver == site.OUR_DRIVER:
        installs.append(_task(lab, 'checkout', checkout.install,
                              needs=('python',)))
    return installs


def _infrastructure(lab: site.Site) -> list[tasks.Task]:
    return [
        _task(lab, 'mariadb', _start_mariadb, needs=('users',)),
        _task(lab, 'rabbitmq', _start, rabbitmq, needs=('users',)),
        # libvirtd sees mounts below what was mounted before it.
        _task(lab, 'libvirt', _start, libvirt,
              needs=('users', 'accelerator', nfs.NAME)),
        *(_task(lab, name, _start_backend, backend, needs=('users',))
          for name, backend in backends.ALL.items()),
        _task(lab, 'volume client', _equip, needs=('packages', 'python')),
        _task(lab, 'neutron', _start, neutron, needs=('users',)),
    ]


def _openstack(lab: site.Site) -> list[tasks.Task]:
    base = ('python', 'mariadb')
    compute = ['nova tables', 'keystone', 'rabbitmq', 'libvirt', 'placement']
    if lab.driver == site.OUR_DRIVER:
        compute.append('checkout')
    return [
        _task(lab, 'keystone', _start_keystone, needs=base),
        # It connects to its stores as it starts.
        _task(lab, 'glance', _start, glance, needs=(
            *base, rbd.NAME, 'volume client')),
        _task(lab, 'placement', _start, placement, needs=base),
        _task(lab, 'nova tables', _set_up, nova,
              needs=(*base, 'accelerator')),
        _task(lab, 'nova', _start_daemons, nova, needs=tuple(compute)),
        # What a killed test left would get the next one's servers.
        _task(lab, 'second host', second.remove, needs=('nova',)),
        _task(lab, 'cinder tables', _set_up, cinder, needs=base),
        _task(lab, 'cinder', _start_daemons, cinder, needs=(
            'cinder tables', 'keystone', 'rabbitmq', *backends.ALL,
            'volume client')),
        _task(lab, 'volume types', cinder.make_types, needs=('cinder',)),
        _task(lab, 'images', images.upload, needs=(
            'glance', 'keystone', 'guest image')),
        _task(lab, 'flavor', images.make_flavor, needs=('nova',)),
        _task(lab, 'ready', health.wait, needs=(
            'nova', 'second host', 'volume types', 'images', 'flavor',
            'neutron')),
    ]


def _task(lab: site.Site, name: str, does: Callable[..., None],
          *arguments: object, needs: tuple[str, ...] = ()) -> tasks.Task:
    return tasks.Task(name, functools.partial(does, lab, *arguments), needs)


def _set_up(lab: site.Site, service: catalogue.Service) -> None:
    service.configure(lab)
    service.prepare(lab)


def _start(lab: site.Site, service: catalogue.Service) -> None:
    _set_up(lab, service)
    _start_daemons(lab, service)


def _start_daemons(lab: site.Site, service: catalogue.Service) -> None:
    for one in service.daemons(lab):
        if lab.supervisor.ensure(one):
            lab.screen.say(f'started {one.name}')


def _start_mariadb(lab: site.Site) -> None:
    _start(lab, mariadb)
    mariadb.create_databases(lab)


def _start_backend(lab: site.Site, backend: backends.Backend) -> None:
    _start(lab, backend)
    backend.after_start(lab)


def _equip(lab: site.Site) -> None:
    for backend in backends.ALL.values():
        backend.equip(lab)


def _start_keystone(lab: site.Site) -> None:
    _start(lab, keystone)
    keystone.register(lab)
    access.write(lab)


def _check_place(paths: layout.Layout) -> None:
    root = str(paths.root)
    if not SAFE_ROOT.fullmatch(root) or len(root) > layout.LONGEST_ROOT:
        raise errors.LabError(
            f'{root} does not suit: letters, digits and "._-" only, and at '
            f'most {layout.LONGEST_ROOT} bytes, for the sake of unix sockets')
    if paths.root.exists() and not paths.marker.exists() and any(
            paths.root.iterdir()):
        raise errors.LabError(f'{root} is not empty and not a lab: choose '
                              'another with --dir')
    hidden = [parent for parent in paths.root.parents
              if parent.exists() and not parent.stat().st_mode & 0o001]
    if hidden:
        raise errors.LabError(f'QEMU\'s user could not pass {hidden[0]}: '
                              'choose another directory with --dir')


def _check_ports(lab: site.Site) -> None:
    first = str(layout.first_port())
    if (lab.state.get('first port') or first) != first:
        raise errors.LabError(
            f'the lab in {lab.paths.root} was made with '
            f'{layout.PORT_VARIABLE}={lab.state.get("first port")}')
    lab.state.set('first port', first)
    # Its own services hold theirs; each is checked again at its start.
    if not lab.supervisor.everyone():
        _refuse_busy_ports()


def _refuse_busy_ports() -> None:
    names = {layout.port(name): name for name in layout.OFFSETS}
    busy = ready.busy_ports(names)
    if busy:
        listing = ', '.join(f'{port} ({names[port]})' for port in busy)
        raise errors.LabError(
            f'somebody listens on ports that the lab needs: {listing}. Is '
            'there another lab? "ss -ltnp" tells who it is; '
            f'{layout.PORT_VARIABLE} moves this lab to 50 other ports')
