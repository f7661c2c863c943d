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

"""The releases of Nova that this driver works with.

There is no code for one release or the other: what differs between them lies
outside the seams. So the question is only whether a Nova's seams are those
that this package was written for.
"""

from collections import abc
import csv
import importlib
from importlib import metadata
from importlib import resources
import inspect
import logging
import typing

from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)


def _read_table() -> dict[int, str]:
    """The series of each release that all tests pass with, by its number."""
    table = resources.files('nova_quiesce.nova') / 'releases.csv'
    with table.open() as lines:
        return {int(row['Nova']): row['Series']
                for row in csv.DictReader(lines)}


_SERIES = _read_table()
OLDEST = min(_SERIES)
NEWEST = max(_SERIES)
_NOVA_DRIVER = 'nova.virt.libvirt.driver'
_BY_NAME = inspect.Parameter.POSITIONAL_OR_KEYWORD


class UnsupportedNova(ImportError):
    """This Nova's driver cannot be extended; the text says why.

    Nova ends nova-compute where its driver cannot be imported.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            'nova-quiesce does not work with the Nova of this host, which is '
            '%s: %s. It supports %s. Install one of those, or a nova-quiesce '
            'for this Nova; until then, "compute_driver = '
            'libvirt.LibvirtDriver" starts nova-compute without nova-quiesce'
            % (installed() or 'of an unknown version', reason, supported()))


def supported() -> str:
    """The supported releases, in words."""
    return 'Nova %d (%s) to %d (%s)' % (
        OLDEST, _SERIES[OLDEST], NEWEST, _SERIES[NEWEST])


def installed() -> str | None:
    """The version of the Nova that is installed, if that is known."""
    try:
        return metadata.version('nova')
    except metadata.PackageNotFoundError:
        return None


def load() -> type:
    """Import the driver.

    :returns: the class for Nova
    :raises UnsupportedNova: it could not work
    """
    check()
    loaded: type = importlib.import_module(
        'nova_quiesce.driver').QuiesceLibvirtDriver
    return loaded


def check() -> None:
    """Compare the installed Nova with the seams.

    Imports Nova's libvirt driver, so Nova has to have chosen its concurrency
    mode where that matters.

    :raises UnsupportedNova: the driver could not work with it
    """
    release = _release()
    if release is not None and release < OLDEST:
        raise UnsupportedNova('it is too old')
    misfits = list(find_misfits())
    if misfits:
        raise UnsupportedNova('; '.join(misfits))
    if release is not None and release > NEWEST:
        LOG.warning('Nova %s is newer than what nova-quiesce was tested '
                    'with: %s. What it touches of Nova is there',
                    installed(), supported())


def _release() -> int | None:
    number = (installed() or '').partition('.')[0]
    return int(number) if number.isdecimal() else None


def find_misfits() -> abc.Iterator[str]:
    """Find where the installed Nova is not as the seams say.

    :returns: what is wrong with each
    """
    for name, method in vars(seams.LibvirtDriver).items():
        if inspect.isfunction(method):
            yield from _compare(
                '%s:LibvirtDriver.%s' % (_NOVA_DRIVER, name),
                _arguments(method), not _takes_rest(method))
    for path, arguments in seams.CALLED.items():
        yield from _compare(path, arguments, False)


def _compare(path: str, ours: tuple[str, ...] | None,
             are_all: bool) -> abc.Iterator[str]:
    try:
        found = _find(path)
    except (AttributeError, ImportError) as error:
        if isinstance(error, ImportError) and not _is_of_nova(error):
            raise
        yield '%s is missing' % path
        return
    if ours is None:
        return
    theirs = _arguments(found)
    if not theirs and _takes_rest(found):
        # A decorator hides them, oslo.privsep's of 2024.1 for one.
        return
    if theirs != ours if are_all else theirs[:len(ours)] != ours:
        yield '%s takes %s instead of %s' % (
            path, ', '.join(theirs), ', '.join(ours))


def _find(path: str) -> typing.Any:
    module, _, names = path.partition(':')
    found: typing.Any = importlib.import_module(module)
    for name in names.split('.'):
        found = getattr(found, name)
    return found


def _is_of_nova(error: ImportError) -> bool:
    return (error.name or '').partition('.')[0] == 'nova'


def _arguments(called: abc.Callable[..., object]) -> tuple[str, ...]:
    parameters = inspect.signature(called).parameters.values()
    return tuple(one.name for one in parameters if one.kind is _BY_NAME)


def _takes_rest(called: abc.Callable[..., object]) -> bool:
    parameters = inspect.signature(called).parameters.values()
    return any(one.kind is one.VAR_POSITIONAL for one in parameters)
