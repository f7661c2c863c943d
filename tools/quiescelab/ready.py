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

"""Ways to tell that a service answers."""

from collections.abc import Callable, Iterable
import http.client
import pathlib
import socket

from quiescelab import layout

TIMEOUT_SECONDS = 5
# Loading an API takes as long as its first answer: a short timeout would
# only pile up requests.
LOADING_SECONDS = 60


def tcp(port: int) -> Callable[[], bool]:
    """Return a check that something accepts connections on a port."""
    def check() -> bool:
        try:
            with socket.create_connection((layout.HOST, port),
                                          TIMEOUT_SECONDS):
                return True
        except OSError:
            return False
    return check


def unix(path: pathlib.Path) -> Callable[[], bool]:
    """Return a check that something accepts connections on a socket."""
    def check() -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(TIMEOUT_SECONDS)
                client.connect(str(path))
                return True
        except OSError:
            return False
    return check


def http_answer(port: int, path: str = '/') -> Callable[[], bool]:
    """Return a check that a web service answers without an error."""
    def check() -> bool:
        server = http.client.HTTPConnection(layout.HOST, port,
                                            timeout=LOADING_SECONDS)
        try:
            server.request('GET', path)
            return server.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            server.close()
    return check


def busy_ports(ports: Iterable[int]) -> list[int]:
    """Return those of the ports that somebody listens on."""
    return [port for port in ports if not _free(port)]


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((layout.HOST, port))
        except OSError:
            return False
    return True
