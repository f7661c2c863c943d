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

"""The benchmark itself: this driver and stock Nova's, in turn."""

from collections.abc import Sequence
import contextlib
import csv
import pathlib
import time

from quiescelab.bench import report
from quiescelab.bench import rows
from quiescelab.bench import windows
from quiescelab.campaign import subjects
from quiescelab import console
from quiescelab import errors
from quiescelab import lab as running
from quiescelab import logs
from quiescelab import site
from quiescelab import tenant
from quiescelab import waiting

DRIVERS = {report.OURS: site.OUR_DRIVER,
           report.STOCK: 'libvirt.LibvirtDriver'}
#: Snapshots of a guest in a row, before it is the other driver's turn.
BLOCK = 5
#: Seconds until an image is there.
PATIENCE = 300
POLL = 0.05

Found = dict[str, dict[str, list[report.Sample]]]


class Benchmark:
    """A run of it.

    :param lab: a lab that is up
    """

    def __init__(self, lab: running.Lab) -> None:
        self._lab = lab
        self._screen = console.Console()
        self._user = tenant.Tenant(lab)

    def run(self, chosen: Sequence[rows.Row], count: int) -> Found:
        """Measure.

        :param chosen: the rows
        :param count: snapshots of each row, with each driver
        """
        kinds = tuple(dict.fromkeys(row.kind for row in chosen))
        found: Found = {row.name: {} for row in chosen}
        with subjects.booted(self._user, kinds) as servers:
            of_kind = dict(zip(kinds, servers, strict=True))
            for row in chosen:
                found[row.name]['bare pair'] = self._bare(
                    row, of_kind[row.kind], count)
            for done in range(0, count, BLOCK):
                for driver, name in DRIVERS.items():
                    self._turn(chosen, of_kind, driver, name,
                               min(BLOCK, count - done), found)
        return found

    def _turn(self, chosen: Sequence[rows.Row],
              of_kind: dict[subjects.Kind, subjects.Subject], driver: str,
              name: str, count: int, found: Found) -> None:
        with self._lab.compute_options({'DEFAULT': {'compute_driver': name}}):
            self._lab.process('nova-compute')
            self._lab.end_disturbance()
            for row in chosen:
                if driver == report.STOCK and not row.has_stock:
                    continue
                samples = self._measure(row, of_kind[row.kind], count)
                found[row.name].setdefault(driver, []).extend(samples)
                self._screen.say(f'{row.name}, {driver}: ' + ' '.join(
                    f'{one.window.whole:.0f}' if one.window else '-'
                    for one in samples))

    def _bare(self, row: rows.Row, server: subjects.Subject,
              count: int) -> list[report.Sample]:
        """A freeze and a thaw with nothing between, by one client."""
        samples = []
        with rows.at_work(row, server.guest):
            for _ in range(count):
                calls = logs.NewLines(self._lab.agent_log)
                began = time.monotonic()
                server.guest.virsh_all('domfsfreeze', 'domfsthaw')
                samples.append(self._sample(calls, began))
        return samples

    def _measure(self, row: rows.Row, server: subjects.Subject,
                 count: int) -> list[report.Sample]:
        samples = []
        with rows.at_work(row, server.guest):
            # The first one of a new nova-compute finds nothing ready.
            self._snapshot(server)
            for _ in range(count):
                samples.append(self._snapshot(server))
        return samples

    def _snapshot(self, server: subjects.Subject) -> report.Sample:
        calls = logs.NewLines(self._lab.agent_log)
        began = time.monotonic()
        image_id = self._user.begin_snapshot(server.server, 'bench')
        with contextlib.ExitStack() as ending:
            ending.callback(self._remove, image_id)
            waiting.wait(lambda: self._is_there(image_id), PATIENCE,
                         'the image', POLL)
            sample = self._sample(calls, began)
            waiting.wait(server.is_idle, PATIENCE, 'the server', POLL)
        if sample.window is None:
            # A volume-backed one's thaw comes after its image.
            sample = report.Sample(self._window(calls), sample.seconds)
        return sample

    def _is_there(self, image_id: str) -> bool:
        image = self._user.find_image(image_id)
        if image is None:
            raise errors.LabError('the snapshot failed',
                                  self._lab.log('nova-compute'))
        return bool(image['status'] == 'active')

    def _remove(self, image_id: str) -> None:
        image = self._user.find_image(image_id)
        if image is not None:
            self._user.remove_image(image)

    def _sample(self, calls: logs.NewLines, began: float) -> report.Sample:
        return report.Sample(self._window(calls), time.monotonic() - began)

    def _window(self, calls: logs.NewLines) -> windows.Window | None:
        found = windows.read(calls.text())
        return found[-1] if found else None


def run(lab: running.Lab, count: int, only: str | None,
        table: pathlib.Path | None) -> int:
    """Run it, and tell.

    :param lab: a lab that is up
    :param count: snapshots of each row, with each driver
    :param only: a part of the names of the rows that are measured
    :param table: where the table is to be written as CSV
    :returns: 0
    """
    chosen = [row for row in rows.ROWS if not only or only in row.name]
    found = Benchmark(lab).run(chosen, count)
    lines = [report.HEADINGS, *report.rows(found)]
    print(report.markdown(lines))
    if table is not None:
        with table.open('w', newline='') as stream:
            csv.writer(stream, lineterminator='\n').writerows(lines)
    return 0
