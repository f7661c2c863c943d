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

"""Waits until a new cloud is ready for its first server."""

import time
from typing import Any

from quiescelab import errors
from quiescelab import rest
from quiescelab.services import nova
from quiescelab import site

PATIENCE_SECONDS = 120
POLL_SECONDS = 1.0


def wait(lab: site.Site) -> None:
    """Wait until a server could be built, with a volume too.

    :param lab: the lab
    :raises LabError: that does not come, with what is missing
    """
    cloud = rest.Client(lab, 'admin')
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (missing := _missing(lab, cloud)) is not None:
        what, service = missing
        if lab.supervisor.find(service) is None:
            raise errors.LabError(f'{service} ended', lab.paths.log(service))
        if time.monotonic() > deadline:
            raise errors.LabError(
                f'{what}, after {PATIENCE_SECONDS} s',
                lab.paths.log(service))
        time.sleep(POLL_SECONDS)


def _missing(lab: site.Site, cloud: rest.Client) -> tuple[str, str] | None:
    """Name what is not there yet, and the service that has to say why."""
    if not _up(cloud.get('nova', '/v2.1/os-services'), nova.COMPUTE):
        return 'nova-compute does not report up', nova.COMPUTE
    if not cloud.get('placement', '/resource_providers')[
            'resource_providers']:
        return 'nova-compute reports no resources', nova.COMPUTE
    if not cloud.get('nova', '/v2.1/os-hypervisors')['hypervisors']:
        return 'the scheduler does not know the host', 'nova-scheduler'
    volumes = f'/v3/{cloud.project}/os-services'
    for name in ('cinder-scheduler', 'cinder-volume'):
        if not _up(cloud.get('cinder', volumes), name):
            return f'{name} does not report up', name
    return None


def _up(answer: dict[str, list[dict[str, Any]]], binary: str) -> bool:
    return any(one['binary'] == binary and one['state'] == 'up'
               for one in answer['services'])
