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
"""Image-backed snapshots that are uploaded while their disk is read.

The disk and its export are real, and so is what makes an image of it.
"""

from collections import abc
import os
import pathlib
from unittest import mock
from xml.etree import ElementTree

import fixtures
from nova import exception as nova_exception

from nova_quiesce import fixture
from tests.functional import base
from tests import nbd_server

MIB = 1 << 20


class DirectUploadTest(base.QuiesceTestBase):

    has_backup_jobs = True

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.useFixture(fixtures.TempDir()).path
        self.flags(snapshots_directory=self.directory, group='libvirt')
        self.disk = self.useFixture(nbd_server.DiskFixture(
            4 * MIB, (1, 0, MIB), (2, 3 * MIB, 512)))
        self.uploads: list[bytes] = []
        self.on_read: abc.Callable[[], None] = lambda: None
        self._export_with_job(self.guest)
        self._read_what_is_uploaded()
        self.addCleanup(self._assert_no_job)

    def _assert_no_job(self) -> None:
        self.assertIsNone(self.guest.backup)
        self.assertEqual([], os.listdir(self.directory))

    def _export_with_job(self, guest: fixture.FakeDomain) -> None:
        begin, abort = guest.backupBegin, guest.abortJob

        def begin_and_export(xml: str, *others: object) -> int:
            result = begin(xml, *others)  # type: ignore[arg-type]
            server = ElementTree.fromstring(xml).find('server')
            assert server is not None
            self.disk.start(str(server.get('socket')))
            return result

        def abort_and_end() -> int:
            self.disk.stop()
            return abort()

        guest.backupBegin = begin_and_export  # type: ignore
        guest.abortJob = abort_and_end  # type: ignore[method-assign]

    def _read_what_is_uploaded(self) -> None:
        update = self.glance.update

        def read_and_update(context: object, image_id: str, info: object,
                            data: mock.Mock | None = None,
                            **kwargs: object) -> object:
            if data is not None:
                self.uploads.append(self._read(data))
            updated = update(context, image_id, info, **kwargs)
            return {**updated, 'size': sum(map(len, self.uploads[-1:]))}

        self.useFixture(fixtures.MockPatchObject(
            self.glance, 'update', side_effect=read_and_update))

    def _read(self, data: mock.Mock) -> bytes:
        found = b''
        while part := data.read(MIB):
            self.on_read()
            found += part
        return found

    def _assert_uploaded(self, image_format: str) -> None:
        upload, = self.uploads
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path, 'image')
        path.write_bytes(upload)
        self.assertEqual('', self.disk.differs_from(str(path), image_format))

    def test_qcow2(self) -> None:
        server = self.boot(base.QUIESCED)
        record = self.properties_of(self.create_image(server))
        self.assertEqual('filesystem', record['quiesce_consistency'])
        self._assert_uploaded('qcow2')
        self.assertEqual(['fsInfo', 'fsFreeze', 'fsThaw'], self.guest.calls)

    def test_raw(self) -> None:
        self.flags(snapshot_image_format='raw', group='libvirt')
        self.create_image(self.boot(base.QUIESCED))
        self._assert_uploaded('raw')

    def test_the_disk_is_not_frozen_meanwhile(self) -> None:
        frozen: list[bool] = []
        self.on_read = lambda: frozen.append(self.guest.frozen)
        self.create_image(self.boot(base.QUIESCED))
        self.assertEqual({False}, {*frozen})

    def test_export_that_breaks(self) -> None:
        self.flags(snapshot_image_format='raw', group='libvirt')
        self.useFixture(fixtures.MockPatch(
            'nova_quiesce.copy.streamed.command', return_value=[
                'sh', '-c', r"printf '\0\0\0\0\0\0\0\4ab'; echo broken >&2"]))
        server = self.boot(base.QUIESCED)
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'not copied')
        self.assertNotIn('broken', self.fault_of(server))
        self.assertIn('there were 2 bytes of 4, and the program ended with '
                      'status 0: broken', self.stdlog.logger.output)

    def test_upload_that_was_begun_anew(self) -> None:
        """Nova repeats a request, with what is left of the image."""
        server = self.boot(base.QUIESCED)
        read = self._read

        def read_in_two_requests(data: mock.Mock) -> bytes:
            data.read(MIB)
            return read(data)

        self.useFixture(fixtures.MockPatchObject(
            self, '_read', side_effect=read_in_two_requests))
        image_id = self.create_image(server)
        self.assert_failed(server, image_id, 'not copied')
        self.assertIn('bytes of an image of', self.stdlog.logger.output)

    def test_glance_that_fails(self) -> None:
        server = self.boot(base.QUIESCED)
        self.on_read = mock.Mock(
            side_effect=nova_exception.GlanceConnectionFailed(
                server='glance', reason='gone'))
        image_id = self.create_image(server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertFalse(self.guest.frozen)

    def test_guest_that_is_stuck_while_glance_stands_still(self) -> None:
        server = self.boot(base.QUIESCED)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_quiesce.copy.convert.LOOK_INTERVAL', 0.01))
        resume = self.useFixture(fixtures.MockPatch(
            'nova.tests.fixtures.libvirt.Domain.resume',
            side_effect=lambda: self.guest.resume())).mock

        def get_stuck() -> None:
            self.on_read = lambda: None
            self.guest.stuck = True
            self.wait_until(lambda: resume.called, 'it was not resumed')

        self.on_read = get_stuck
        image_id = self.create_image(server)
        self.assertFalse(self.guest.stuck)
        self.assertNotIn(image_id, self.glance.images)
