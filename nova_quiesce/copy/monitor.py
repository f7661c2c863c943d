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
"""Looks at the guest, the space and the image while a disk is copied.

A guest whose write the scratch file cannot take is paused by its hypervisor.
So the copy ends, and the guest goes on, before that happens, or at once after
it did.
"""

from collections import abc
import threading
import typing

from nova import exception as nova_exception
from oslo_log import log as logging

from nova_quiesce.copy import errors
from nova_quiesce.copy import workplace
from nova_quiesce.freeze import jobs

LOG = logging.getLogger(__name__)

#: Bytes that stay free where the scratch file is.
RESERVE = 64 << 20
#: Seconds between two questions whether the image is still there.
ASK_INTERVAL = 5
#: A copy's progress is told each time it has grown by so much, in percent.
STEP = 10


class CopyMonitor:
    """Watches one copy, from its beginning to its end.

    :param state: tells what the guest does, and why; None where it cannot
    :param place: where the scratch file is
    :param show_image: looks the image up
    :param instance: whose disk is copied, for the log
    """

    def __init__(self, state: abc.Callable[[], list[int] | None],
                 place: workplace.Workplace,
                 show_image: abc.Callable[[], object],
                 instance: object) -> None:
        self._state = state
        self._place = place
        self._show_image = show_image
        self._instance = instance
        self._told = 0.0
        self._deleted: nova_exception.ImageNotFound | None = None
        self._is_over = threading.Event()

    def __enter__(self) -> typing.Self:
        # A Glance that hangs must not keep anyone from looking at the guest.
        threading.Thread(target=self._ask, daemon=True,
                         name='watch-image').start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()

    def __call__(self, percent: float) -> None:
        """Look at everything once.

        :param percent: how much is copied
        :raises CopyError: it must not go on
        :raises ImageNotFound: nobody wants it any more
        """
        if percent - self._told >= STEP:
            self._told = percent
            LOG.info('%d percent of the disk are copied', percent,
                     instance=self._instance)
        if self._deleted is not None:
            raise self._deleted
        state = self._state()
        if state is not None and state[:2] == jobs.STUCK:
            raise errors.CopyError(
                'the guest was paused, because a write of it failed while '
                'its disk was copied')
        if self._place.free() < RESERVE:
            raise errors.CopyError(
                'no space is left for what the guest overwrites meanwhile')

    def _ask(self) -> None:
        while not self._is_over.wait(ASK_INTERVAL):
            try:
                self._show_image()
            except nova_exception.ImageNotFound as error:
                self._deleted = error
                return
            except Exception as error:
                LOG.debug('The image was not looked up: %s', error,
                          instance=self._instance)
