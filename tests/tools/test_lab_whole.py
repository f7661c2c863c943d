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

"""Whether the lab's cloud is whole, and services that stand still in it."""

from collections import abc
import dataclasses
import datetime
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import backends
from quiescelab import catalogue
from quiescelab import daemon
from quiescelab import errors
from quiescelab import lab as running
from quiescelab import layout
from quiescelab import proc
from quiescelab.services import mariadb
from quiescelab import whole

HYPERVISORS = '/v2.1/os-hypervisors'
SERVICES = '/v2.1/os-services?binary=nova-compute'
SERVERS = '/v2.1/servers?all_tenants=1'
DIAGNOSTICS = '/v2.1/servers/%s/diagnostics'
POOLS = '/v3/PROJECT/scheduler-stats/get_pools'
CAPABILITIES = '/v3/PROJECT/capabilities/quiesce-lab@%s'


def report(seconds: float = 60, **others: object) -> dict[str, object]:
    """What Nova tells of nova-compute."""
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(
        seconds=seconds)
    return {'services': [{
        'status': 'enabled', 'disabled_reason': None,
        'updated_at': when.strftime('%Y-%m-%dT%H:%M:%S.000000'), **others}]}


class WholeTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.lab = mock.Mock(paths=layout.Layout(pathlib.Path('/lab')))
        self.lab.supervisor.idle.return_value = {}
        self.answers: dict[str, Any] = {
            '/v2/images?limit=1': {}, '/resource_providers': {},
            HYPERVISORS: {'hypervisors': [{'id': 'H'}]},
            HYPERVISORS + '/H': {'hypervisor': {'uptime': 'up'}},
            SERVICES: report(),
            POOLS: {'pools': [{'name': 'quiesce-lab@rbd#rbd'},
                              {'name': 'quiesce-lab@nfs#nfs'}]},
            CAPABILITIES % 'rbd': {}, CAPABILITIES % 'nfs': {}}
        self.asked: list[str] = []
        client = self._patch('rest.Client').return_value
        client.project = 'PROJECT'
        client.get.side_effect = self._answer
        self.transactions = self._patch('mariadb.transactions',
                                        return_value=[])
        self.commands = self._patch('system.output', return_value='')
        self.backends = {'rbd': mock.Mock(), 'nfs': mock.Mock()}
        self.enterContext(mock.patch.object(
            backends, 'ALL', self.backends))
        self._patch('catalogue.daemons', return_value=[])
        self._set('PATIENCE', 0)

    def _patch(self, name: str, **how: Any) -> Any:
        patched = mock.patch('quiescelab.whole.%s' % name, autospec=True,
                             **how)
        self.addCleanup(patched.stop)
        return patched.start()

    def _set(self, name: str, value: object) -> None:
        self.enterContext(mock.patch.object(whole, name, value))

    def _answer(self, _service: str, path: str) -> object:
        self.asked.append(path)
        if isinstance(self.answers[path], Exception):
            raise self.answers[path]
        return self.answers[path]

    def _assert_broken(self, *told: str) -> None:
        with self.assertRaises(errors.LabError) as caught:
            whole.wait(self.lab)
        for words in told:
            self.assertIn(words, str(caught.exception))

    def test_whole(self) -> None:
        whole.wait(self.lab)
        # By each worker.
        self.assertEqual(2, self.asked.count(HYPERVISORS + '/H'))
        self.assertIn(CAPABILITIES % 'nfs', self.asked)
        for backend in self.backends.values():
            backend.try_to_write.assert_called_once_with(self.lab)

    def test_nobody_is_asked_while_one_stands_still(self) -> None:
        self.lab.supervisor.idle.return_value = {'rabbitmq': 'stands still'}
        self._assert_broken('rabbitmq stands still')
        self.assertEqual([], self.asked)

    def test_each_that_is_broken_is_named(self) -> None:
        self.answers[CAPABILITIES % 'rbd'] = errors.LabError('timed out')
        self.backends['nfs'].try_to_write.side_effect = errors.LabError(
            'is not mounted')
        self._assert_broken('cinder-volume@rbd timed out',
                            'nfs is not mounted')

    def test_nova_compute_that_does_not_answer(self) -> None:
        self.answers[HYPERVISORS + '/H'] = {'hypervisor': {'uptime': None}}
        self._assert_broken('nova-api gets no answer from nova-compute')

    def test_nova_compute_whose_report_is_old(self) -> None:
        self.answers[SERVICES] = report(-2)
        self._assert_broken('nova-compute does not reach nova-conductor')

    def test_nova_compute_that_lost_libvirtd(self) -> None:
        self.answers[SERVICES] = report(status='disabled',
                                        disabled_reason='AUTO: lost')
        self.answers.update({
            SERVERS: {'servers': [{'id': 'A'}, {'id': 'B'}]},
            DIAGNOSTICS % 'A': errors.LabError('409'),
            DIAGNOSTICS % 'B': {}})
        self._assert_broken('nova-compute is disabled: AUTO: lost')
        # It connects again as soon as it needs libvirtd.
        self.assertIn(DIAGNOSTICS % 'B', self.asked)

    def test_scheduler_that_did_not_hear_of_a_back_end(self) -> None:
        self.answers[POOLS]['pools'].pop()
        self._assert_broken('knows nothing of back end nfs')

    def test_transaction_that_does_not_end(self) -> None:
        self.transactions.return_value = [
            mariadb.Transaction('1', '2', 'cinder')]
        self._assert_broken('mariadb has a transaction of cinder')

    def test_command_that_fails(self) -> None:
        self.commands.return_value = None
        self._assert_broken('libvirtd does not list', 'rabbitmq takes no')

    def test_ping_without_an_answer(self) -> None:
        self.commands.return_value = 'scheduler: MessagingTimeout'
        self._assert_broken('rabbitmq brings no answer from scheduler')

    def test_it_is_waited_for(self) -> None:
        self._set('PATIENCE', 60)
        self._set('POLL_SECONDS', 0.001)
        self.transactions.side_effect = [errors.LabError('down'), []]
        whole.wait(self.lab)


class HoldTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.site = mock.Mock()
        self.process = mock.Mock(spec=proc.Process, alive=False)
        self.site.supervisor.family.return_value = [self.process]
        self.lab = running.Lab(self.site)
        self.open: abc.Iterator[list[mariadb.Transaction]] = iter([])
        self.enterContext(mock.patch.object(
            mariadb, 'transactions', autospec=True,
            side_effect=lambda site: next(self.open, [])))
        self.enterContext(mock.patch.object(
            catalogue, 'find', autospec=True))
        self.enterContext(mock.patch.object(running, 'LOOK', 0.001))
        self.wait = self.enterContext(mock.patch.object(
            whole, 'wait', autospec=True))

    def _sent(self) -> list[signal.Signals]:
        return [call.args[0] for call in self.process.signal.mock_calls]

    def test_service_in_no_transaction(self) -> None:
        self.lab.hold('cinder-volume')
        self.assertEqual([signal.SIGSTOP], self._sent())

    def test_service_in_a_transaction_is_stopped_after_it(self) -> None:
        held = [mariadb.Transaction('7', '1', 'cinder')]
        self.open = iter([held] * (running.LOOKS + 1))
        self.lab.hold('cinder-volume')
        self.assertEqual([signal.SIGSTOP, signal.SIGCONT, signal.SIGSTOP],
                         self._sent())

    def test_transactions_of_others_end(self) -> None:
        self.open = iter([[mariadb.Transaction('7', '1', 'cinder')],
                          [mariadb.Transaction('8', '1', 'cinder')]])
        self.lab.hold('cinder-volume')
        self.assertEqual([signal.SIGSTOP], self._sent())

    def test_transactions_of_other_services_do_not_count(self) -> None:
        self.open = iter([[mariadb.Transaction('7', '1', 'nova')]] * 99)
        self.lab.hold('cinder-volume')
        self.assertEqual([signal.SIGSTOP], self._sent())

    def test_undisturbed_lab_is_not_asked(self) -> None:
        self.lab.end_disturbance()
        self.wait.assert_not_called()

    def test_disturbed_lab_is_asked_once(self) -> None:
        for disturb in (self.lab.kill, self.lab.kill_all, self.lab.stop,
                        self.lab.hold):
            disturb('mariadb')
            self.wait.side_effect = errors.LabError('planned')
            with self.assertRaisesRegex(errors.LabError, 'planned'):
                self.lab.end_disturbance()
            self.lab.end_disturbance()
        self.assertEqual(4, self.wait.call_count)


class IdleTest(unittest.TestCase):
    """Processes that can do nothing, by what the kernel tells of them."""

    def setUp(self) -> None:
        super().setUp()
        paths = layout.Layout(pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory())))
        paths.pids.mkdir(parents=True)
        self.supervisor = daemon.Supervisor(paths)
        self.child = subprocess.Popen(['sleep', '60'], start_new_session=True)
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)
        found = proc.Process.of(self.child.pid)
        assert found is not None
        (paths.pids / 'sleeper.json').write_text(json.dumps(
            dataclasses.asdict(found)))

    def _assert_idle(self, **expected: str) -> None:
        deadline = time.monotonic() + 10
        while self.supervisor.idle(['sleeper']) != expected:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_none(self) -> None:
        self.assertEqual({}, self.supervisor.idle(['sleeper']))

    def test_stopped_by_a_signal(self) -> None:
        self.child.send_signal(signal.SIGSTOP)
        self._assert_idle(sleeper='stands still')
        self.child.send_signal(signal.SIGCONT)
        self._assert_idle()

    def test_killed(self) -> None:
        self.child.kill()
        self._assert_idle(sleeper='is down')

    def test_never_started(self) -> None:
        self.assertEqual({'another': 'is down'},
                         self.supervisor.idle(['another']))
