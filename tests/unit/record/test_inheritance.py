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

"""The record of the image that an instance came from, and its end."""

import pathlib
import sys
import types
import typing
import unittest
from unittest import mock

from nova.conf import compute
from nova import exception as nova_exception

from nova_quiesce import consistency
from nova_quiesce.record import inheritance

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / 'tools'))

from quiescelab.services import cinder
from quiescelab.services import nova

ROOT = pathlib.Path(__file__).parents[3]

OWN = {'image_hw_qemu_guest_agent': 'yes', 'image_os_require_quiesce': 'yes',
       'quiesce_of_somebody_else': 'x'}
COPY = {'image_' + name: 'parent' for name in consistency.PROPERTIES}


def an_instance(**metadata: str) -> typing.Any:
    """Make an instance that notes whether it was saved."""
    return types.SimpleNamespace(
        uuid='an-instance', system_metadata=dict(metadata), save=mock.Mock())


class ForgetTest(unittest.TestCase):

    def test_copy_is_dropped_and_nothing_else(self) -> None:
        instance = an_instance(**OWN, **COPY)
        inheritance.forget_parents_record(instance)
        self.assertEqual(OWN, instance.system_metadata)
        instance.save.assert_called_once_with()

    def test_property_of_a_later_release(self) -> None:
        instance = an_instance(image_quiesce_later='x')
        inheritance.forget_parents_record(instance)
        self.assertEqual({}, instance.system_metadata)

    def test_nothing_to_drop(self) -> None:
        instance = an_instance(**OWN)
        inheritance.forget_parents_record(instance)
        instance.save.assert_not_called()

    def test_database_does_not_answer(self) -> None:
        instance = an_instance(**COPY)
        instance.save.side_effect = nova_exception.InstanceNotFound(
            instance_id='an-instance')
        with self.assertLogs(inheritance.__name__, 'ERROR') as logs:
            inheritance.forget_parents_record(instance)
        self.assertIn('was not dropped', logs.output[0])
        # Nova's next change of the instance saves it.
        self.assertEqual({}, instance.system_metadata)

    def test_all_of_a_host(self) -> None:
        instances = [an_instance(**COPY), an_instance(**OWN)]
        with mock.patch('nova.objects.InstanceList.get_by_host',
                        autospec=True, return_value=instances) as find:
            inheritance.forget_on_host('compute1')
        find.assert_called_once_with(
            mock.ANY, 'compute1', expected_attrs=['system_metadata'])
        self.assertEqual([{}, OWN], [
            instance.system_metadata for instance in instances])

    def test_hosts_instances_are_not_known(self) -> None:
        with mock.patch('nova.objects.InstanceList.get_by_host',
                        autospec=True, side_effect=TimeoutError('database')):
            with self.assertLogs(inheritance.__name__, 'ERROR') as logs:
                inheritance.forget_on_host('compute1')
        self.assertIn('database', logs.output[0])


class PropertiesTest(unittest.TestCase):
    """The places where all properties of a record are listed."""

    def test_are_those_of_a_record(self) -> None:
        self.assertEqual(set(consistency.offline().properties()),
                         set(consistency.PROPERTIES))

    def test_novas_own_list_is_kept(self) -> None:
        shipped = next(option.default for option in compute.compute_opts
                       if option.name == 'non_inheritable_image_properties')
        self.assertEqual((*shipped, *nova.RECORD), nova.NON_INHERITABLE)

    def test_lab(self) -> None:
        self.assertLessEqual(
            set(consistency.PROPERTIES), set(nova.RECORD))

    def test_guide(self) -> None:
        guide = (ROOT / 'doc/source/admin/index.rst').read_text()
        self.assertIn('    non_inheritable_image_properties = %s\n'
                      % ','.join(nova.NON_INHERITABLE), guide)
        self.assertIn('    glance_core_properties = %s\n'
                      % ','.join(cinder.CORE_PROPERTIES), guide)
