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

"""The new file of a volume, as Nova has to know it."""

import json
import unittest
from unittest import mock

from nova import objects

from nova_quiesce import instances

NFS = {'driver_volume_type': 'nfs', 'serial': 'VOLUME', 'data': {
    'export': 'server:/export', 'name': 'volume-VOLUME', 'format': 'raw'}}


class NewFileTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        # Its methods are looked up by class, and called of one.
        self.bdm = mock.Mock(spec=['connection_info', 'save'])
        self.bdm.connection_info = json.dumps(NFS)
        self.bdm.save.side_effect = lambda: self.saved.append(
            json.loads(self.bdm.connection_info))
        self.saved: list[object] = []
        found = mock.patch.object(
            objects.BlockDeviceMapping, 'get_by_volume_and_instance',
            autospec=True, return_value=self.bdm)
        self.find = found.start()
        self.addCleanup(found.stop)
        self.instance = mock.Mock(uuid='INSTANCE')

    def _note(self) -> None:
        instances.set_volume_file(mock.sentinel.context, self.instance,
                                  'VOLUME', 'volume-VOLUME.SNAPSHOT')

    def test_the_rest_of_the_connection_stays(self) -> None:
        self._note()
        self.find.assert_called_once_with(
            mock.sentinel.context, 'VOLUME', 'INSTANCE')
        self.assertEqual([{**NFS, 'data': {
            'export': 'server:/export', 'name': 'volume-VOLUME.SNAPSHOT',
            'format': 'qcow2'}}], self.saved)

    def test_volume_that_is_no_file(self) -> None:
        self.bdm.connection_info = json.dumps({'data': {'target_lun': 1}})
        self._note()
        self.assertEqual([], self.saved)

    def test_nothing_is_raised(self) -> None:
        """The snapshot is made: Cinder has to be told of it."""
        self.find.side_effect = OSError('planned')
        with self.assertLogs(instances.LOG.logger, 'WARNING') as told:
            self._note()
        self.assertIn('planned', told.output[0])
