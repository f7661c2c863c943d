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
"""Images that are made as they are read."""

import os
import pathlib
import tempfile
import threading
import time
import unittest
from unittest import mock

from nova_quiesce.copy import convert
from nova_quiesce.copy import errors
from nova_quiesce.copy import streamed

SOON = 20
#: Four bytes are promised.
LENGTH = r"printf '\0\0\0\0\0\0\0\4'; "


class StreamedImageTest(unittest.TestCase):

    def setUp(self) -> None:
        super().setUp()
        self.directory = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(convert, 'LOOK_INTERVAL', 0.01))
        self.seen: list[float] = []
        self.released = threading.Event()

    def _open(self, script: str, watch: convert.OnProgress | None = None,
              ) -> streamed.StreamedImage:
        script = 'echo $$ > %s/pid; %s' % (self.directory, script)
        image = streamed.StreamedImage(
            ['sh', '-c', script], watch or self.seen.append,
            self.released.set)
        self.addCleanup(image.close)
        return image

    def _assert_ended(self) -> None:
        pid = int((self.directory / 'pid').read_text())
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)

    def test_all_of_it(self) -> None:
        image = self._open(LENGTH + 'printf abcd')
        self.assertEqual([b'abc', b'd'], [image.read(3), image.read(3)])
        self.assertFalse(self.released.is_set())
        self.assertEqual([b'', b''], [image.read(3), image.read(3)])
        # Whatever is done with it from now on, the disk is not needed.
        self.assertTrue(self.released.is_set())
        image.close()
        self._assert_ended()

    def test_nothing_is_read_beyond_the_length(self) -> None:
        image = self._open(LENGTH + 'printf abcdef')
        self.assertEqual([b'abcd', b''], [image.read(9), image.read(9)])

    def test_too_little(self) -> None:
        image = self._open(LENGTH + r"printf ab; printf 'gone\nfor good' >&2")
        self.assertEqual(b'ab', image.read(9))
        with self.assertRaisesRegex(errors.CopyError, 'gone for good'):
            image.read(9)

    def test_nothing_at_all(self) -> None:
        image = self._open('exit 1')
        with self.assertRaises(errors.CopyError):
            image.read(9)

    def test_what_it_complains_is_bounded(self) -> None:
        image = self._open('head -c 1000000 /dev/zero | tr "\\0" x >&2')
        with self.assertRaises(errors.CopyError) as caught:
            image.read(9)
        self.assertLess(len(str(caught.exception)), 300)

    def test_progress(self) -> None:
        image = self._open(LENGTH + 'printf abcd')
        image.read(3)
        deadline = time.monotonic() + SOON
        while 75 not in self.seen:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_watch_that_raises_ends_it_while_nobody_reads(self) -> None:
        error = errors.CopyError('the guest was paused')
        written = self.directory / 'written'

        def watch(_percent: float) -> None:
            if written.exists():
                raise error

        image = self._open(
            LENGTH + 'printf ab; touch %s; exec sleep 600' % written, watch)
        self.assertTrue(self.released.wait(SOON))
        image.read(9)
        with self.assertRaises(errors.CopyError) as caught:
            image.read(9)
        self.assertIs(error, caught.exception)

    def test_closed_halfway(self) -> None:
        image = self._open(LENGTH + 'printf ab; exec sleep 600')
        self.assertEqual(b'ab', image.read(2))
        image.close()
        image.close()
        self._assert_ended()

    def test_program_that_is_missing(self) -> None:
        with self.assertRaises(errors.CopyError):
            streamed.StreamedImage(
                ['/nowhere'], self.seen.append, self.released.set)
