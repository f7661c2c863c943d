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

"""Waiting for what other processes do."""

from collections.abc import Callable
import time

from quiescelab import errors

POLL_SECONDS = 0.5


def wait(condition: Callable[[], bool], seconds: float, what: str,
         poll: float = POLL_SECONDS) -> float:
    """Wait for something to become true.

    :param what: what it is, for the error
    :param poll: seconds between two looks
    :returns: the seconds that it took
    :raises LabError: it does not in time
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + seconds:
            raise errors.LabError(f'waited {seconds:g} s for {what}')
        time.sleep(poll)
    return time.monotonic() - began
