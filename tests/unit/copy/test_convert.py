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

import os
import pathlib
import tempfile
import unittest
from unittest import mock

from nova_quiesce.copy import convert
from nova_quiesce.copy import errors

QEMU_IMG = """#!/bin/sh
echo $$ > {0}/pid
echo "$*" > {0}/arguments
echo "$LC_ALL" > {0}/language
{1}
"""


class CopyStopped(Exception):
    """What a watch raises here."""


class ConvertTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.dict(os.environ, {
            'PATH': '%s:%s' % (self.directory, os.environ['PATH'])}))
        self.enterContext(mock.patch.object(
            convert, 'LOOK_INTERVAL', 0.01))
        self.seen: list[float] = []

    def _qemu_img(self, body: str) -> None:
        program = self.directory / 'qemu-img'
        program.write_text(QEMU_IMG.format(self.directory, body))
        program.chmod(0o755)

    def _told(self, name: str) -> str:
        return (self.directory / name).read_text().strip()

    def _convert(self, image_format: str = 'qcow2',
                 is_compressed: bool = False, is_direct: bool = True,
                 watch: convert.OnProgress | None = None) -> None:
        convert.convert('nbd:source', 'target', image_format, is_compressed,
                        is_direct, watch or self.seen.append)

    def _assert_dead(self) -> None:
        # The process was waited for, so that its id is nobody's.
        with self.assertRaises(ProcessLookupError):
            os.kill(int(self._told('pid')), 0)

    def test_command(self) -> None:
        self._qemu_img('')
        self._convert()
        self.assertEqual(
            'convert -p -f raw -t none -O qcow2 nbd:source target',
            self._told('arguments'))
        self.assertEqual('C', self._told('language'))

    def test_compressed_through_the_page_cache(self) -> None:
        self._qemu_img('')
        self._convert(is_compressed=True, is_direct=False)
        self.assertEqual(
            'convert -p -f raw -t writeback -O qcow2 -c nbd:source target',
            self._told('arguments'))

    def test_formats_that_qemu_calls_otherwise(self) -> None:
        self._qemu_img('')
        for theirs, ours in (('iso', 'raw'), ('ploop', 'parallels'),
                             ('vmdk', 'vmdk')):
            self._convert(theirs)
            self.assertIn('-O %s ' % ours, self._told('arguments'))

    def test_progress(self) -> None:
        # It ends when the watch has seen it.
        self._qemu_img(
            "printf '    (0.00/100%%%%)\\r    (42.50/100%%%%)\\r'\n"
            'until [ -e %s/seen ]; do sleep 0.01; done' % self.directory)

        def watch(percent: float) -> None:
            self.seen.append(percent)
            if percent == 42.5:
                (self.directory / 'seen').touch()

        self._convert(watch=watch)
        self.assertEqual(42.5, self.seen[-1])
        self.assertEqual({0, 42.5}, {0, *self.seen})

    def test_failure_is_told_within_bounds(self) -> None:
        self._qemu_img(
            'head -c 1000000 /dev/zero | tr "\\0" x >&2; exit 1')
        with self.assertRaises(errors.CopyError) as caught:
            self._convert()
        self.assertTrue(str(caught.exception).startswith('qemu-img: xxx'))
        self.assertLess(len(str(caught.exception)), 300)

    def test_failure_on_several_lines_becomes_one(self) -> None:
        self._qemu_img("printf 'one\\ntwo\\033[1m\\377\\n' >&2; exit 1")
        with self.assertRaises(errors.CopyError) as caught:
            self._convert()
        self.assertTrue(str(caught.exception).isprintable())
        self.assertIn('one', str(caught.exception))

    def test_killed_from_outside(self) -> None:
        self._qemu_img('kill -9 $$')
        with self.assertRaises(errors.CopyError):
            self._convert()

    def test_watch_that_raises_ends_it(self) -> None:
        self._qemu_img('exec sleep 600')

        def watch(percent: float) -> None:
            if (self.directory / 'language').exists():
                raise CopyStopped()

        with self.assertRaises(CopyStopped):
            self._convert(watch=watch)
        self._assert_dead()

    def test_program_that_is_missing(self) -> None:
        with mock.patch.dict(os.environ, {'PATH': str(self.directory)}):
            with self.assertRaises(errors.CopyError):
                self._convert()

    def test_export_url(self) -> None:
        self.assertEqual('nbd+unix:///vda?socket=/a%20b/nbd',
                         convert.export_url('/a b/nbd', 'vda'))
