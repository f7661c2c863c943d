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

"""The screen of a person who waits for the lab: one line per event."""

import sys
import threading
import time


class Console:
    """Prints lines that start with the seconds since the command began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    @property
    def elapsed(self) -> float:
        """The seconds since the command began."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print one line, whole, from whichever thread.

        :param text: the line
        """
        with self._lock:
            print(f'[{self.elapsed:4.0f} s] {text}', flush=True)

    def complain(self, text: str) -> None:
        """Print what went wrong, where errors belong.

        :param text: the line or lines
        """
        with self._lock:
            print(text, file=sys.stderr, flush=True)
