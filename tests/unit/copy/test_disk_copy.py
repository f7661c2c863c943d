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
"""Which disks are uploaded without a file."""

import unittest

from nova import conf
from oslo_config import fixture

from nova_quiesce import conf as quiesce_conf
from nova_quiesce.copy import disk_copy


class CanUploadTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        quiesce_conf.register_opts(conf.CONF)
        self.conf = fixture.Config(conf.CONF)
        self.conf.setUp()
        self.addCleanup(self.conf.cleanUp)

    def test_formats(self) -> None:
        found = [name for name in ('raw', 'qcow2', 'vmdk', 'iso', 'ploop')
                 if disk_copy.can_upload(name)]
        self.assertEqual(['raw', 'qcow2'], found)

    def test_compressed(self) -> None:
        self.conf.config(snapshot_compression=True, group='libvirt')
        self.assertFalse(disk_copy.can_upload('qcow2'))
        # Nova has no compression for it.
        self.assertTrue(disk_copy.can_upload('raw'))

    def test_where_disks_wait_for_each_other(self) -> None:
        self.conf.config(max_concurrent_disk_ops=2, group='compute')
        self.assertFalse(disk_copy.can_upload('raw'))

    def test_switched_off(self) -> None:
        self.conf.config(direct_upload=False, group='quiesce')
        self.assertFalse(disk_copy.can_upload('raw'))
