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

"""``tools/lab demo``: what the project is for, shown on real parts.

Three servers write to their disks all the time while ``nova image-create``
snapshots them: one with a local disk, one with a volume, and a control whose
image asks for no quiesce. The proof does not come from this project: ext4
itself keeps ``needs_recovery`` set on disk unless it is frozen or unmounted.
"""

import dataclasses
import pathlib
import tempfile

from quiescelab import api
from quiescelab import console
from quiescelab import errors
from quiescelab import lab as running
from quiescelab import logs
from quiescelab import tenant


@dataclasses.dataclass(frozen=True)
class _Case:
    name: str
    image: str
    from_volume: bool
    level: str

    @property
    def quiesced(self) -> bool:
        return self.level == 'filesystem'


CASES = (
    _Case('demo-image-backed', 'quiesce-guest', False, 'filesystem'),
    _Case('demo-volume-backed', 'quiesce-guest', True, 'filesystem'),
    _Case('demo-control', 'quiesce-control', False, 'crash'),
)


@dataclasses.dataclass(frozen=True)
class _Result:
    case: _Case
    record: dict[str, str]
    needs_recovery: bool
    freezes: int
    thaws: int
    lines: int
    image_id: str

    def as_expected(self) -> bool:
        calls = 1 if self.case.quiesced else 0
        return (self.record['consistency'] == self.case.level
                and self.needs_recovery is not self.case.quiesced
                and (self.freezes, self.thaws) == (calls, calls)
                and self.lines > 0)

    def cells(self) -> tuple[str, ...]:
        record = self.record
        window = f'{record["window_ms"]} ms' if self.case.quiesced else '-'
        return (self.case.name, record['consistency'], window,
                record['filesystems'], f'{self.freezes}/{self.thaws}',
                'set' if self.needs_recovery else 'clear', self.image_id)


HEADINGS = ('server', 'level', 'window', 'filesystems', 'freezes/thaws',
            'needs_recovery', 'image')


def run(lab: running.Lab) -> int:
    """Show it.

    :param lab: a lab that is up
    :returns: the exit code: 0 only if everything was as it should be
    """
    screen = console.Console()
    user = tenant.Tenant(lab)
    servers = {case: _server(user, case, screen) for case in CASES}
    results = []
    with tempfile.TemporaryDirectory(dir=lab.paths.run) as scratch:
        for case, server in servers.items():
            user.wait_until_writing(server)
            results.append(_snapshot(user, case, server, screen,
                                     pathlib.Path(scratch)))
    _print(results)
    wrong = [result for result in results if not result.as_expected()]
    for result in wrong:
        screen.complain(f'{result.case.name} is not as it should be: '
                        f'{result}\nread {lab.log("nova-compute")}')
    return 1 if wrong else 0


def _server(user: tenant.Tenant, case: _Case,
            screen: console.Console) -> api.Json:
    for server in user.servers():
        if server['name'] == case.name:
            if user.show(server)['status'] == 'ACTIVE':
                screen.say(f'{case.name} is there already')
                return server
            user.delete(server)
    kind = 'volume-backed' if case.from_volume else 'image-backed'
    screen.say(f'booting {case.name}, {kind}, from {case.image}')
    return user.boot(case.name, case.image, case.from_volume)


def _snapshot(user: tenant.Tenant, case: _Case, server: api.Json,
              screen: console.Console,
              scratch: pathlib.Path) -> _Result:
    for image in user.images_named(case.name):
        user.remove_image(image)
    calls, before = logs.AgentCalls(user.lab.agent_log), user.lines(server)
    screen.say(f'nova image-create --poll {case.name} {case.name}')
    done = user.image_create(server, case.name)
    if done.returncode:
        raise errors.LabError(
            f'nova image-create failed: {done.stderr or done.stdout}',
            user.lab.log('nova-compute'))
    image_id = user.image_named(case.name)['id']
    record = user.record(image_id)
    sent = calls.sent
    lines = user.lines(server) - before
    screen.say(f'the guest wrote {lines} lines meanwhile; looking into the '
               'image')
    return _Result(case, record, user.needs_recovery(image_id, scratch),
                   sent['freeze'], sent['thaw'], lines, image_id)


def _print(results: list[_Result]) -> None:
    rows = [HEADINGS, *(result.cells() for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print('  '.join(cell.ljust(width) for cell, width in
                        zip(row, widths, strict=True)).rstrip())
    print()
    print('needs_recovery is what ext4 itself keeps on a disk that is in use '
          'and not frozen.')
