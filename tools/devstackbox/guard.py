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

"""nova-compute ends under systemd while it holds a guest frozen.

Cinder's volume service stands still meanwhile, so that the freeze lasts.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import pathlib
import subprocess
import threading
import time
import uuid

from devstackbox import cloud
from quiescelab import api
from quiescelab import errors
from quiescelab import guestctl
from quiescelab import imaging
from quiescelab import waiting

COMPUTE = 'devstack@n-cpu.service'
VOLUME = 'devstack@c-vol.service'
GUARD = 'devstack@nova-quiesce-guard.service'
DROP_IN = pathlib.Path(f'/run/systemd/system/{COMPUTE}.d/check.conf')
LEASES = pathlib.Path('/opt/stack/data/nova/quiesce')
#: Seconds in which a guest is thawed whose freeze nobody else ends.
PROMISED = 2
#: Seconds that a thaw may take which nova-compute has to start for.
STARTED = 60
#: Seconds between two looks at the guest.
LOOK = 0.02

Action = Callable[[], None]


class Case:
    """One way for nova-compute to end.

    :param tenant: the cloud
    :param server: a volume-backed server
    :param guest: its guest
    """

    def __init__(self, tenant: cloud.Cloud, server: api.Json,
                 guest: guestctl.Guest) -> None:
        self._tenant = tenant
        self._server = server
        self._guest = guest

    def run(self, what: str, action: Action, limit: float) -> None:
        """Do something to nova-compute, and time the thaw.

        :param what: what is done, for the account
        :param limit: seconds that the thaw may take
        :raises LabError: it takes longer, or a lease is left
        """
        image_id = self._freeze(what)
        began = time.monotonic()
        acting = threading.Thread(target=action)
        acting.start()
        try:
            waiting.wait(self._is_thawed, limit, f'the thaw: {what}', LOOK)
            cloud.say(f'{what}: thawed', f'{time.monotonic() - began:.2f} s')
        finally:
            acting.join()
            self._go_on()
        self._assert_nothing_claimed(image_id)

    def stays_frozen(self, what: str, action: Action, seconds: float) -> None:
        """Do something that leaves the guest frozen.

        :raises LabError: it was thawed
        """
        self._freeze(what)
        action()
        time.sleep(seconds)
        if self._is_thawed():
            raise errors.LabError(f'{what}: the guest was thawed')
        cloud.say(f'{what}: frozen {seconds:g} s later', 'yes')

    def thaws(self, what: str, action: Action, limit: float) -> None:
        """Do something that thaws a guest which was left frozen."""
        began = time.monotonic()
        action()
        waiting.wait(self._is_thawed, limit, f'the thaw: {what}', LOOK)
        cloud.say(f'{what}: thawed', f'{time.monotonic() - began:.2f} s')
        self._go_on()

    def _freeze(self, what: str) -> str:
        systemctl('kill', '--signal=STOP', VOLUME)
        image_id = self._tenant.begin_snapshot(
            self._server, f'guard-{uuid.uuid4()}')
        if not self._guest.frozen():
            raise errors.LabError(f'{what}: the guest is not frozen')
        if not self._lease().exists():
            raise errors.LabError(f'{what}: there is no lease')
        return image_id

    def _go_on(self) -> None:
        systemctl('start', COMPUTE)
        waiting.wait(lambda: not self._lease().exists(), STARTED,
                     'the lease to end', LOOK)
        systemctl('kill', '--signal=CONT', VOLUME)
        waiting.wait(self._is_settled, self._tenant.snapshot_seconds,
                     'the volume snapshot to end')

    def _is_settled(self) -> bool:
        return all(one['status'] != 'creating'
                   for one in self._tenant.all_volume_snapshots())

    def _is_thawed(self) -> bool:
        try:
            return not self._guest.frozen()
        except guestctl.ControlError:
            return False

    def _lease(self) -> pathlib.Path:
        return LEASES / f'{self._server["id"]}.lease'

    def _assert_nothing_claimed(self, image_id: str) -> None:
        record = imaging.record_of(self._tenant.find_image(image_id) or {})
        if record.get('consistency') == 'filesystem':
            raise errors.LabError(f'an image claims too much: {record}')


def run() -> None:
    """Run each case that the guard's place allows.

    :raises LabError: one of them is not as it should be
    """
    tenant = cloud.Cloud()
    with tenant.server('guard', from_volume=True) as server:
        case = Case(tenant, server, tenant.guest(server))
        if is_service():
            _beside_a_service(case)
        else:
            _with_a_child(case)


def _with_a_child(case: Case) -> None:
    kill = act('kill', '--signal=KILL', COMPUTE)
    case.run('nova-compute killed', act(
        'kill', '--signal=KILL', '--kill-whom=main', COMPUTE), PROMISED)
    for mode in ('process', 'control-group'):
        with settings(f'KillMode={mode}'):
            case.run(f'stop, KillMode={mode}', act('stop', COMPUTE), STARTED)
            case.run(f'restart, KillMode={mode}', act('restart', COMPUTE),
                     STARTED)
    case.stays_frozen('control group killed', kill, 3)
    case.thaws('... and started', act('start', COMPUTE), STARTED)
    with settings('Restart=always'):
        case.run('control group killed, Restart=always', kill, STARTED)


def _beside_a_service(case: Case) -> None:
    case.run('guard a service, control group of nova-compute killed', act(
        'kill', '--signal=KILL', COMPUTE), PROMISED)
    case.run('guard a service, stop of nova-compute', act('stop', COMPUTE),
             STARTED)
    case.run('guard a service, restart of nova-compute',
             act('restart', COMPUTE), STARTED)
    case.run('guard a service, stop of the guard', act('stop', GUARD),
             PROMISED)
    systemctl('start', GUARD)
    case.run('guard a service, restart of the guard', act('restart', GUARD),
             PROMISED)


def is_service() -> bool:
    """Tell whether the guard is a service of its own."""
    done = subprocess.run(['systemctl', 'is-active', '--quiet', GUARD],
                          check=False)
    return done.returncode == 0


@contextlib.contextmanager
def settings(line: str) -> Iterator[None]:
    """Have another line in nova-compute's unit meanwhile."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f'[Service]\n{line}\n')
    systemctl('daemon-reload')
    try:
        yield
    finally:
        DROP_IN.unlink()
        systemctl('daemon-reload')


def act(*arguments: str) -> Action:
    """Return a call of systemctl, for later."""
    return lambda: systemctl(*arguments)


def systemctl(*arguments: str) -> None:
    """Run systemctl.

    :raises LabError: it fails
    """
    done = subprocess.run(['systemctl', *arguments], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise errors.LabError(
            f'systemctl {" ".join(arguments)}: {done.stderr.strip()}')
