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

"""Which releases of OpenStack the lab installs."""

import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import console
from quiescelab import errors
from quiescelab import layout
from quiescelab import packages
from quiescelab import python
from quiescelab import site
from quiescelab import tasks
from quiescelab import up


class ConstraintsTest(unittest.TestCase):

    def test_older_nova_is_all_that_differs(self) -> None:
        usual = python.constraints('').splitlines()
        for release in python.NOVA_RELEASES:
            older = python.constraints(release).splitlines()
            self.assertEqual(len(usual), len(older))
            differing = [line for line in older if line not in usual]
            self.assertEqual(1, len(differing), release)
            self.assertRegex(differing[0], r'^nova==\d+\.\d+\.\d+$')


class ChooseTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.lab = site.Site.at(
            layout.Layout(pathlib.Path(scratch)), console.Console())
        for where, name in ((packages, 'require_apt'), (up, '_check_ports'),
                            (tasks, 'Runner')):
            self.enterContext(mock.patch.object(
                where, name, autospec=True))

    def test_newest_unless_told_otherwise(self) -> None:
        up.run(self.lab, site.OUR_DRIVER)
        self.assertEqual('', self.lab.nova)

    def test_stays_until_the_lab_goes_down(self) -> None:
        up.run(self.lab, site.OUR_DRIVER, '2026.1')
        self.lab.state.mark('python', python.version(self.lab))
        up.run(self.lab, site.OUR_DRIVER)
        up.run(self.lab, site.OUR_DRIVER, '2026.1')
        with self.assertRaisesRegex(errors.LabError, 'down --keep'):
            up.run(self.lab, site.OUR_DRIVER, '2025.1')
        self.assertEqual('2026.1', self.lab.nova)

    def test_another_release_is_another_installation(self) -> None:
        newest = python.version(self.lab)
        up.run(self.lab, site.OUR_DRIVER, '2026.1')
        self.assertNotEqual(newest, python.version(self.lab))
