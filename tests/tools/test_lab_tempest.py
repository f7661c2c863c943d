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

"""How the lab runs tempest."""

import configparser
import pathlib
import re
import subprocess
import sys
import tempfile
import typing
import unittest
from unittest import mock

from tempest import config

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import access
from quiescelab import images
from quiescelab import layout
from quiescelab import rest
from quiescelab import tempest

from tests.tools import test_tempest_plugin

ANSWERS = {
    '/v2/images': {'images': [{'name': name, 'id': 'id of %s' % name}
                              for name in images.IMAGES]},
    '/v2.1/flavors': {'flavors': [{'name': images.FLAVOR, 'id': '7'}]},
}


class TempestCase(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.lab = mock.Mock(paths=layout.Layout(pathlib.Path(scratch.name)))
        self._patch(access, 'credentials', return_value=access.Credentials(
            'http://127.0.0.1:1/v3', 'admin', 'secret', 'admin', 'One'))
        client = self._patch(rest, 'Client')
        client.return_value.get.side_effect = (
            lambda service, path: ANSWERS[path])

    def _patch(self, where: object, name: str, **how: typing.Any
               ) -> typing.Any:
        return self.enterContext(
            mock.patch.object(where, name, autospec=True, **how))


class ConfigureTest(TempestCase):

    def setUp(self) -> None:
        super().setUp()
        self.path = pathlib.Path(tempest.configure(self.lab))
        self.written = configparser.ConfigParser(interpolation=None)
        self.written.read(self.path)

    def test_each_option_exists(self) -> None:
        # Neither tempest nor oslo.config complains about one that does not.
        # Those of plugins have the name of a group, others have the group.
        known = {getattr(group, 'name', group):
                 {option.dest for option in options}
                 for group, options in config.list_opts()}
        # oslo.concurrency's own.
        known['oslo_concurrency'] = {'lock_path'}
        for section in self.written.sections():
            with self.subTest(section):
                options = set(self.written.options(section))
                self.assertLessEqual(options - set(self.written.defaults()),
                                     known[section])

    def test_guests(self) -> None:
        told = self.written['quiesce']
        self.assertEqual('id of quiesce-control', told['image_ref'])
        self.assertEqual('id of quiesce-agentless',
                         told['image_without_agent_ref'])

    def test_nobody_else_reads_the_password(self) -> None:
        self.assertIn('secret', self.path.read_text())
        self.assertEqual(0o600, self.path.stat().st_mode & 0o777)


class RunTest(TempestCase):

    def _run(self, *arguments: str) -> list[str]:
        self._patch(tempest, 'install')
        runs = self._patch(subprocess, 'run')
        runs.return_value.returncode = 3
        self.assertEqual(3, tempest.run(self.lab, *arguments))
        command: list[str] = runs.call_args.args[0]
        return command

    def test_each_scenario_of_the_plugin(self) -> None:
        regex = re.compile(self._run()[-1])
        for scenario in test_tempest_plugin.scenarios():
            self.assertTrue(regex.search(scenario), scenario)

    def test_those_that_are_chosen(self) -> None:
        command = self._run('test_required$')
        self.assertEqual(['--regex', 'test_required$'], command[-2:])
        # A lab has room for few guests at a time.
        self.assertIn('--serial', command)
