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

"""The things that fail, each with its remedy."""

from collections.abc import Callable, Iterator
import contextlib
import functools
import time

from quiescelab.campaign import subjects
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import lab as running
from quiescelab import migrations
from quiescelab import proc
from quiescelab import servers
from quiescelab.services import second
from quiescelab import waiting

COMPUTE, LIBVIRTD = 'nova-compute', 'libvirtd'
GUARD = 'nova_quiesce.freeze.guard'

#: Something that fails for a while in a lab, a server of which is named.
Disturbance = Callable[[running.Lab, subjects.Subject, float], None]


def guards(lab: running.Lab) -> list[proc.Process]:
    """Return the thaw guards that nova-compute has started."""
    return [one for one in lab.family(COMPUTE)
            if GUARD in proc.arguments(one)]


def kill_compute(lab: running.Lab, _subject: subjects.Subject,
                 seconds: float) -> None:
    """Kill nova-compute, and have it start again a while later."""
    with _dead(lab, COMPUTE):
        time.sleep(seconds)


def stop_compute(lab: running.Lab, _subject: subjects.Subject,
                 seconds: float) -> None:
    """Stop nova-compute as a service manager would, and start it later."""
    lab.stop(COMPUTE)
    time.sleep(seconds)
    lab.start(COMPUTE)


def kill_guard(lab: running.Lab, _subject: subjects.Subject,
               _seconds: float) -> None:
    """Kill the guard; nova-compute starts another one."""
    for one in guards(lab):
        lab.end_process(one)


def kill_both(lab: running.Lab, _subject: subjects.Subject,
              seconds: float) -> None:
    """Kill nova-compute and its guard; only nova-compute is started."""
    lab.kill_all(COMPUTE)
    time.sleep(seconds)
    lab.start(COMPUTE)


def kill_libvirtd(lab: running.Lab, _subject: subjects.Subject,
                  seconds: float) -> None:
    """Kill libvirtd, and have it start again a while later."""
    with _dead(lab, LIBVIRTD):
        time.sleep(seconds)


def hold(name: str) -> Disturbance:
    """Return what has a service stand still for a while."""
    def stand_still(lab: running.Lab, _subject: subjects.Subject,
                    seconds: float) -> None:
        lab.hold(name)
        try:
            time.sleep(seconds)
        finally:
            lab.go_on(name)

    return stand_still


def kill_agent(_lab: running.Lab, subject: subjects.Subject,
               _seconds: float) -> None:
    """Kill the guest's agent; its init starts it again."""
    with contextlib.suppress(guestctl.ControlError):
        subject.guest.console('killall -9 qemu-ga')


def hold_agent(_lab: running.Lab, subject: subjects.Subject,
               seconds: float) -> None:
    """Keep the guest's agent dead for a while."""
    with contextlib.suppress(guestctl.ControlError):
        subject.guest.console(
            f'{guestctl.AGENT} hold {max(1, round(seconds))}')


def reset_guest(_lab: running.Lab, subject: subjects.Subject,
                _seconds: float) -> None:
    """Reset the guest, by the operator's hand."""
    with contextlib.suppress(guestctl.ControlError):
        subject.guest.virsh('reset')


def migrate(lab: running.Lab, subject: subjects.Subject,
            _seconds: float) -> None:
    """Migrate the server, alive, as soon as nova-api lets it; and back."""
    operator = migrations.Migrations(servers.User(lab.client('admin')))
    for host in (second.NAME, lab.host.name):
        waiting.wait(functools.partial(_accepts, operator, subject, host),
                     subjects.PATIENCE, 'the migration to be accepted')
        operator.wait(subject.server)


def _accepts(operator: migrations.Migrations, subject: subjects.Subject,
             host: str) -> bool:
    try:
        operator.ask(subject.server, host)
    except errors.LabError as error:
        if ': 409 ' in str(error):
            return False
        raise
    return True


@contextlib.contextmanager
def _dead(lab: running.Lab, name: str) -> Iterator[None]:
    main = lab.process(name)
    if main is not None:
        lab.end_process(main)
    try:
        yield
    finally:
        lab.start(name)


#: By what they are called, for the reader.
ALL: dict[str, Disturbance] = {
    'nova-compute is killed': kill_compute,
    'nova-compute is stopped': stop_compute,
    'the guard is killed': kill_guard,
    'nova-compute and the guard are killed': kill_both,
    'libvirtd is killed': kill_libvirtd,
    'cinder-volume stands still': hold('cinder-volume'),
    'glance-api stands still': hold('glance-api'),
    'nova-conductor stands still': hold('nova-conductor'),
    'the broker stands still': hold('rabbitmq'),
    'the agent is killed': kill_agent,
    'the agent is dead for a while': hold_agent,
    'the guest is reset': reset_guest,
}

#: The same, with a second compute host.
WITH_TWO_HOSTS: dict[str, Disturbance] = {
    'it is migrated, and back': migrate,
}

#: What a hook can do, by what it is called; it has to be told before a
#: snapshot.
HOOKS: dict[str, Callable[[guestctl.Guest], None]] = {
    'the freeze hook takes 3 s': lambda guest: guest.set_hook(freeze_delay=3),
    'the thaw hook takes 3 s': lambda guest: guest.set_hook(thaw_delay=3),
    'the freeze hook fails': lambda guest: guest.set_hook(freeze_fail=7),
    'the thaw hook fails': lambda guest: guest.set_hook(thaw_fail=7),
}
