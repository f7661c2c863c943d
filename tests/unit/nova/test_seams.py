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

"""The contact with Nova, against the Nova that is installed."""

import inspect
import unittest

from nova.compute import manager
from nova.virt import driver as virt_driver
from nova.virt.libvirt import driver as libvirt_driver
from nova.volume import cinder

from nova_quiesce import driver
from nova_quiesce.nova import releases
from nova_quiesce.nova import seams

SEAMS = [name for name, member in vars(seams.LibvirtDriver).items()
         if inspect.isfunction(member)]


def _names(function: object) -> list[str]:
    parameters = inspect.signature(function).parameters  # type: ignore
    return [name for name, parameter in parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]


class SeamsTest(unittest.TestCase):

    def test_nova_still_has_what_is_touched(self) -> None:
        self.assertEqual([], list(releases.find_misfits()))

    def test_all_of_them_are_overridden(self) -> None:
        for name in SEAMS:
            self.assertIn(name, vars(driver.QuiesceLibvirtDriver))

    def test_nova_sets_the_attributes_that_are_read(self) -> None:
        source = ''.join(
            inspect.getsource(one.__init__) for one in (
                virt_driver.ComputeDriver, libvirt_driver.LibvirtDriver))
        for name in seams.LibvirtDriver.__annotations__:
            self.assertIn('self.%s =' % name, source)

    def test_novas_manager_is_where_thaws_are_observed(self) -> None:
        source = inspect.getsource(manager.ComputeVirtAPI.__init__)
        self.assertIn('self._compute = compute', source)

    def test_nova_still_cuts_where_the_mirror_expects_it(self) -> None:
        source = inspect.getsource(
            libvirt_driver.LibvirtDriver._live_snapshot)
        steps = [source.index(step) for step in (
            'guest.get_block_device', 'dev.abort_job()', 'dev.rebase(',
            'self.quiesce(', 'dev.abort_job()\n            nova')]
        self.assertEqual(sorted(steps), steps)

    def test_nova_still_snapshots_volumes_where_the_cut_is_expected(
            self) -> None:
        source = inspect.getsource(
            libvirt_driver.LibvirtDriver._volume_snapshot_create)
        steps = [source.index(step) for step in (
            'guest.get_xml_desc()', 'self._can_quiesce(',
            'guest.snapshot(', 'quiesce=True)\n                return',
            'except libvirt.libvirtError:', 'quiesce=False)')]
        self.assertEqual(sorted(steps), steps)
        self.assertEqual(2, source.count('guest.snapshot('))

    def test_volume_api(self) -> None:
        # Called by position: a decorator of Nova's renames the context.
        self.assertEqual(
            'snapshot_id', _names(cinder.API.get_snapshot)[2])
        self.assertEqual('volume_id', _names(cinder.API.get)[2])
