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

"""OpenStack's APIs under uwsgi."""

from collections.abc import Mapping
import pathlib

from quiescelab import daemon
from quiescelab import layout
from quiescelab import ready
from quiescelab import site

#: How many workers an API has, each of which serves one request at a time.
PROCESSES = 2
OPTIONS = (
    '--master', '--die-on-term', '--no-orphans', '--need-app',
    '--lazy-apps', '--enable-threads', '--thunder-lock',
    '--buffer-size', '65535',
    # Without it a client that keeps a connection open blocks a worker.
    '--add-header', 'Connection: close',
    # glanceclient uploads images in chunks of 1 MiB, which with its frame is
    # just above the default limit.
    '--chunked-input-limit', str(4 << 20), '--chunked-input-timeout', '60',
    '--disable-logging', '--procname-prefix', 'lab-')


def server(lab: site.Site, service: str, module: str, user: str,
           config: pathlib.Path, env: Mapping[str, str] | None = None,
           extra: tuple[str, ...] = (),
           processes: int = PROCESSES) -> daemon.Daemon:
    """Describe an API's process.

    :param lab: the lab
    :param service: the name, which is that of the port too
    :param module: the Python module with the application
    :param user: who runs it
    :param config: its configuration file
    :param env: variables to set
    :param extra: more options of uwsgi
    :param processes: how many workers serve requests
    :returns: the daemon
    """
    port = layout.port(service)
    argv = (lab.paths.bin('uwsgi'), '--http-socket', f'{layout.HOST}:{port}',
            '--module', module, '--virtualenv', str(lab.paths.venv),
            '--processes', str(processes), *OPTIONS, *extra)
    return daemon.Daemon(
        f'{service}-api', argv, user, env=env or {},
        home=lab.paths.data(service), inputs=(config,),
        versions=(lab.software,), port=port, ready=ready.http_answer(port))
