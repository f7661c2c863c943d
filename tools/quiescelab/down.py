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

"""Taking the lab down, so that nothing of it stays but installed packages."""

from collections.abc import Iterable
import pathlib
import shutil

from quiescelab import daemon
from quiescelab import errors
from quiescelab import layout
from quiescelab import packages
from quiescelab import proc
from quiescelab import rootwrap
from quiescelab.services import libvirt
from quiescelab.services import second
from quiescelab import site
from quiescelab import system
from quiescelab import users

KEPT = ('venv', 'tempest-venv', 'cache', '.nova-quiesce-lab')
HELPER = 'privsep-helper'
SECONDS = 5


def run(lab: site.Site, keep: bool) -> None:
    """Stop and remove everything.

    :param lab: the lab
    :param keep: leave the virtualenv, the downloads, the guest image and the
        users
    :raises LabError: something cannot be removed
    """
    packages.restore_policy()
    # While their storage still answers, or they would hang on it.
    _stop_guests(lab)
    _stop_services(lab)
    _stop_guests(lab)
    _unmount(lab.paths)
    rootwrap.remove()
    if not keep:
        # They are those of all labs on this machine.
        users.remove(lab)
    libvirt.remove_mount_points(lab)
    _remove_files(lab, keep)


def leftovers(paths: layout.Layout) -> bool:
    """Tell whether there is something of a lab besides its directory."""
    running = daemon.Supervisor(paths).everyone()
    return bool(running or users.made() or rootwrap.granted())


def _stop_services(lab: site.Site) -> None:
    # Their data goes too, so there is no order to keep, and none to wait for.
    family = lab.supervisor.everyone()
    if family:
        lab.screen.say(f'stopping {len(family)} processes of the services')
    daemon.end(family, SECONDS)
    helpers = [one for one in proc.everyone()
               if lab.paths.bin(HELPER) in proc.arguments(one)]
    # They end by themselves, as soon as their service is gone.
    if not proc.wait_for_end(helpers, SECONDS):
        daemon.kill_all(helpers)
    # What lost its record and its mark still has a user of the labs.
    daemon.end(_of_this_lab(lab.paths, proc.of_users(users.made())), SECONDS)


def _of_this_lab(paths: layout.Layout,
                 processes: Iterable[proc.Process]) -> list[proc.Process]:
    # Another lab of this machine has the same users.
    below = f'{paths.root}/'
    return [one for one in processes
            if any(below in argument for argument in proc.arguments(one))]


def _stop_guests(lab: site.Site) -> None:
    # libvirt's own processes live there too.
    services = set(lab.supervisor.everyone())
    hosts = (lab.paths, second.at(lab).paths)
    guests = [one for one in proc.everyone() if one not in services
              and any(libvirt.belongs(paths, one) for paths in hosts)]
    if guests:
        lab.screen.say(f'stopping {len(guests)} guests')
    daemon.end(guests, SECONDS)


def _unmount(paths: layout.Layout) -> None:
    inside = [point for point in system.mount_points()
              if point.is_relative_to(paths.root)]
    for point in reversed(inside):
        system.run(['umount', str(point)], log=paths.log('down'))
    for device in _loop_devices(paths):
        system.run(['losetup', '--detach', device], log=paths.log('down'))


def _loop_devices(paths: layout.Layout) -> list[str]:
    listing = system.output(['losetup', '--list', '--noheadings', '--raw',
                             '--output', 'NAME,BACK-FILE']) or ''
    pairs = (line.split(maxsplit=1) for line in listing.splitlines())
    return [pair[0] for pair in pairs if len(pair) == 2
            and pathlib.Path(pair[1]).is_relative_to(paths.root)]


def _remove_files(lab: site.Site, keep: bool) -> None:
    if not lab.paths.marker.exists():
        raise errors.LabError(f'{lab.paths.root} is not a lab\'s: not '
                              'removed')
    if not keep:
        shutil.rmtree(lab.paths.root)
        return
    for path in lab.paths.root.iterdir():
        if path.is_dir() and path.name not in KEPT:
            shutil.rmtree(path)
        elif path.name not in KEPT:
            path.unlink()
