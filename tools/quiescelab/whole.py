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

"""Sees that the cloud is whole: each part does its work for the others.

That a process runs and listens tells little, least of all after a test that
has stopped or killed something: it may stand still, wait for an answer that
got lost, or for a row of the database that another one keeps. So each part is
asked for something that it cannot answer alone.
"""

from collections.abc import Callable, Iterator
import concurrent.futures
import contextlib
import datetime
import pathlib
import time

from quiescelab import backends
from quiescelab import catalogue
from quiescelab import errors
from quiescelab import rest
from quiescelab.services import mariadb
from quiescelab.services import nova
from quiescelab.services import wsgi
from quiescelab import site
from quiescelab import system

#: Seconds that the cloud gets to become whole, and each part to answer.
PATIENCE = 90
ANSWER = 10
POLL_SECONDS = 0.2
PING = pathlib.Path(__file__).with_name('ping.py')

#: The name of a part, and what raises a LabError where it is not as it should
#: be, with its arguments.
Check = tuple[str, Callable[..., object], tuple[object, ...]]


def wait(lab: site.Site) -> None:
    """Wait until each part of the cloud does its work.

    :param lab: a lab that was up, and is to be again
    :raises LabError: names those that do not, and says why
    """
    since = time.time()
    deadline = time.monotonic() + PATIENCE
    # The others would wait for who stands still, and all need Keystone.
    _wait_for([('the lab', _look_for_idle, (lab,))], deadline)
    clients: list[rest.Client] = []
    _wait_for([('keystone-api', _sign_in, (lab, clients))], deadline)
    cloud, = clients
    _wait_for([*_alone(lab, cloud, since), *_by_apis(cloud)], deadline)


def _wait_for(checks: list[Check], deadline: float) -> None:
    # At once: some last, and one worker of an API could answer all in turn.
    with concurrent.futures.ThreadPoolExecutor(len(checks)) as pool:
        tried = [(check[0], pool.submit(_try, check, deadline))
                 for check in checks]
    failures = {name: why for name, done in tried if (why := done.result())}
    if failures:
        raise errors.LabError(
            f'the cloud is not whole after {PATIENCE} s: ' + '; '.join(
                f'{name} {why}' for name, why in failures.items()))


def _try(check: Check, deadline: float) -> str:
    """Return why it is not so at the deadline; empty where it is."""
    name, ask, arguments = check
    while True:
        try:
            ask(*arguments)
        except errors.LabError as error:
            if time.monotonic() > deadline:
                return str(error)
        else:
            return ''
        time.sleep(POLL_SECONDS)


def _alone(lab: site.Site, cloud: rest.Client,
           since: float) -> Iterator[Check]:
    yield 'mariadb', _ask_mariadb, (lab,)
    yield 'libvirtd', _ask_libvirtd, (lab,)
    yield 'rabbitmq', _ping, (lab,)
    yield nova.COMPUTE, _look_for_reports, (cloud, since)
    for name, backend in backends.ALL.items():
        yield name, backend.try_to_write, (lab,)


def _by_apis(cloud: rest.Client) -> Iterator[Check]:
    yield 'glance-api', cloud.get, ('glance', '/v2/images?limit=1')
    yield 'placement-api', cloud.get, ('placement', '/resource_providers')
    # As many as there are workers, at least.
    for _ in range(wsgi.PROCESSES):
        yield 'nova-api', _ask_nova_compute, (cloud,)
    yield 'cinder-api', _ask_cinder_scheduler, (cloud,)
    for name in backends.ALL:
        path = f'/v3/{cloud.project}/capabilities/{nova.HOST}@{name}'
        yield f'cinder-volume@{name}', cloud.get, ('cinder', path)


def _look_for_idle(lab: site.Site) -> None:
    idle = lab.supervisor.idle(one.name for one in catalogue.daemons(lab))
    if idle:
        raise errors.LabError('has services that can do nothing: ' + ', '.join(
            f'{name} {why}' for name, why in idle.items()))


def _sign_in(lab: site.Site, clients: list[rest.Client]) -> None:
    clients.append(rest.Client(lab, 'admin', ANSWER))


def _ask_mariadb(lab: site.Site) -> None:
    for one in mariadb.transactions(lab, seconds=ANSWER):
        raise errors.LabError(f'has a transaction of {one.owner} that does '
                              'not end')


def _ask_libvirtd(lab: site.Site) -> None:
    if system.output(['virsh', '--connect', lab.paths.libvirt_uri, 'list'],
                     ANSWER) is None:
        raise errors.LabError('does not list its domains')


def _ping(lab: site.Site) -> None:
    answer = system.output([
        lab.paths.bin('python3'), '-P', str(PING), str(ANSWER),
        str(lab.paths.etc('nova') / 'nova.conf'), 'nova',
        'conductor', 'scheduler'], 3 * ANSWER)
    if answer is None:
        raise errors.LabError('takes no pings')
    if answer:
        raise errors.LabError(f'brings no answer from {answer}')


def _look_for_reports(cloud: rest.Client, since: float) -> None:
    answer = cloud.get('nova', f'/v2.1/os-services?binary={nova.COMPUTE}')
    for service in answer['services']:
        if service['status'] != 'enabled':
            _have_libvirtd_used(cloud)
            raise errors.LabError(f'is disabled: {service["disabled_reason"]}')
        # It reports through nova-conductor, which writes full seconds.
        if _seconds(service['updated_at']) < int(since):
            raise errors.LabError('does not reach nova-conductor')


def _seconds(told: str | None) -> float:
    """Return a time that Nova tells, in seconds of the epoch."""
    if told is None:
        return 0.0
    return datetime.datetime.fromisoformat(told).replace(
        tzinfo=datetime.UTC).timestamp()


def _have_libvirtd_used(cloud: rest.Client) -> None:
    # nova-compute is disabled from the end of its connection to libvirtd until
    # it makes another, as soon as it needs one: in a minute at most.
    servers = cloud.get('nova', '/v2.1/servers?all_tenants=1')['servers']
    for server in servers:
        with contextlib.suppress(errors.LabError):
            cloud.get('nova', f'/v2.1/servers/{server["id"]}/diagnostics')


def _ask_nova_compute(cloud: rest.Client) -> None:
    hosts = cloud.get('nova', '/v2.1/os-hypervisors')['hypervisors']
    if not hosts:
        raise errors.LabError('knows no compute host')
    for host in hosts:
        shown = cloud.get('nova', f'/v2.1/os-hypervisors/{host["id"]}')
        if not shown['hypervisor']['uptime']:
            raise errors.LabError(f'gets no answer from {nova.COMPUTE}')


def _ask_cinder_scheduler(cloud: rest.Client) -> None:
    answer = cloud.get(
        'cinder', f'/v3/{cloud.project}/scheduler-stats/get_pools')
    known = {pool['name'] for pool in answer['pools']}
    for name in backends.ALL:
        if f'{nova.HOST}@{name}#{name}' not in known:
            raise errors.LabError('has a scheduler that knows nothing of '
                                  f'back end {name}')
