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

"""What a benchmark found, as a table."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import statistics

from quiescelab.bench import windows

HEADINGS = ('snapshot', 'driver', 'n', 'freeze ms', 'cut ms', 'thaw ms',
            'window ms', 'quartiles', 'of stock', 'image s', 'of stock')
OURS, STOCK = 'quiesce', 'stock'


@dataclasses.dataclass(frozen=True)
class Sample:
    """One snapshot.

    :ivar window: its freeze; None where there was none
    :ivar seconds: until its image was there
    """

    window: windows.Window | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """The snapshots of one row, with one driver."""

    samples: Sequence[Sample]

    @property
    def windows(self) -> list[windows.Window]:
        """Those that there were."""
        return [one.window for one in self.samples if one.window]

    @property
    def window(self) -> float:
        """The window in the middle, in ms."""
        return statistics.median(one.whole for one in self.windows)

    @property
    def seconds(self) -> float:
        """The time of an image in the middle."""
        return statistics.median(one.seconds for one in self.samples)


def rows(found: Mapping[str, Mapping[str, Sequence[Sample]]]
         ) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table.

    :param found: the samples, by row and driver
    """
    for name, by_driver in found.items():
        stock = by_driver.get(STOCK)
        for driver, samples in by_driver.items():
            yield (name, driver, str(len(samples)),
                   *_columns(Summary(samples),
                             Summary(stock) if stock else None))


def _columns(one: Summary, stock: Summary | None) -> Iterator[str]:
    if not one.windows:
        yield from ('-',) * 6
    else:
        for part in ('freeze', 'cut', 'thaw'):
            yield '%.0f' % statistics.median(
                getattr(window, part) for window in one.windows)
        whole = [window.whole for window in one.windows]
        yield f'{one.window:.0f}'
        low, _, high = statistics.quantiles(whole, n=4) if (
            len(whole) > 1) else (whole[0],) * 3
        yield f'{low:.0f}-{high:.0f}'
        yield ratio(one, stock)
    yield f'{one.seconds:.2f}'
    yield '-' if stock is None else f'{one.seconds / stock.seconds:.2f}'


def ratio(one: Summary, stock: Summary | None) -> str:
    """Return how a window compares with stock's."""
    if stock is None or not stock.windows or not one.windows:
        return '-'
    return f'{one.window / stock.window:.2f}'


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table as text."""
    head, *body = lines
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in (
        head, ['---'] * len(head), *body))
