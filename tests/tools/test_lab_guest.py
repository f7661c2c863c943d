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

"""The parts of the lab's guest that need neither packages nor a hypervisor."""

from collections.abc import Sequence
import lzma
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'tools'))

from quiescelab import guest
from quiescelab import guestctl
from quiescelab import gueststep


class TreeCase(unittest.TestCase):

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.source = self.scratch / 'source'
        self.source.write_text('new')
        self.tree = self.scratch / 'tree'
        self.tree.mkdir()


class InstallTest(TreeCase):
    """A build never writes to the machine that it runs on."""

    def setUp(self) -> None:
        super().setUp()
        self.outside = self.scratch / 'outside' / 'file'
        self.outside.parent.mkdir()
        self.outside.write_text('old')

    def _assert_refused(self, name: str) -> None:
        with self.assertRaises(guest.GuestError):
            guest._install(self.source, self.tree, name)
        self.assertEqual('old', self.outside.read_text())

    def test_into_the_tree(self) -> None:
        guest._install(self.source, self.tree, 'usr/bin/new')
        self.assertEqual('new', (self.tree / 'usr/bin/new').read_text())

    def test_absolute_name(self) -> None:
        self._assert_refused(str(self.outside))

    def test_name_with_dots(self) -> None:
        self._assert_refused('../outside/file')

    def test_through_a_linked_directory(self) -> None:
        (self.tree / 'lib').symlink_to(self.outside.parent)
        self._assert_refused('lib/file')

    def test_through_a_linked_file(self) -> None:
        (self.tree / 'file').symlink_to(self.outside)
        self._assert_refused('file')


class LibrariesTest(TreeCase):

    def _libraries(self, listed: str) -> dict[str, pathlib.Path]:
        with mock.patch.object(gueststep, 'run', autospec=True,
                               return_value=listed.encode()):
            return guest._libraries(self.source, self.source, self.tree)

    def test_the_loader_is_no_library(self) -> None:
        path = self.tree / 'lib/libc.so.6'
        found = self._libraries(
            '\tlinux-vdso.so.1 (0x00007ffd)\n'
            f'\tlibc.so.6 => {path} (0x00007f00)\n'
            f'\t/lib64/ld-linux-x86-64.so.2 => {self.tree}/ld.so (0x00007f)\n')
        self.assertEqual({'libc.so.6': path}, found)

    def test_a_library_of_this_machine(self) -> None:
        with self.assertRaisesRegex(guest.GuestError, 'libglib-2.0.so.0'):
            self._libraries('\tlibglib-2.0.so.0 => /lib/libg.so (0x7f00)\n')

    def test_a_library_that_is_nowhere(self) -> None:
        with self.assertRaisesRegex(guest.GuestError, 'libglib-2.0.so.0'):
            self._libraries('\tlibglib-2.0.so.0 => not found\n')


class ModulesTest(TreeCase):

    def _module(self, name: str, depends: str) -> None:
        (self.tree / name).write_bytes(
            b'\x7fELF\0license=GPL\0depends=' + depends.encode() + b'\0')

    def _order(self, *wanted: str) -> list[str]:
        with mock.patch.object(guest, 'MODULES', wanted):
            return [path.name for path in guest._load_order(self.tree)]

    def setUp(self) -> None:
        super().setUp()
        (self.tree / 'modules.builtin').write_text('kernel/fs/ext4/ext4.ko\n')
        self._module('virtio.ko', '')
        self._module('virtio-ring.ko', 'virtio')
        self._module('virtio_pci.ko', 'virtio,virtio-ring')

    def test_each_follows_what_it_needs(self) -> None:
        self.assertEqual(['virtio.ko', 'virtio-ring.ko', 'virtio_pci.ko'],
                         self._order('virtio_pci', 'virtio_ring'))

    def test_built_in(self) -> None:
        self.assertEqual([], self._order('ext4'))

    def test_missing(self) -> None:
        with self.assertRaisesRegex(guest.GuestError, 'evdev'):
            self._order('evdev')

    def test_compressed(self) -> None:
        path = self.tree / 'a.ko.xz'
        path.write_bytes(lzma.compress(b'module'))
        self.assertEqual(b'module', guest._module(path))


class WithoutAgentTest(TreeCase):
    """The same guest, but for one option of its kernel."""

    def setUp(self) -> None:
        super().setUp()
        self.options = ''
        self.dest = self.scratch / 'agentless.qcow2'
        self.enterContext(mock.patch.object(
            gueststep, 'run', autospec=True, side_effect=self._run))

    def _run(self, step: str, command: Sequence[str | pathlib.Path]) -> bytes:
        if command[0] == 'mcopy':
            self.assertEqual('::/', command[-1])
            self.options = pathlib.Path(command[-2]).read_text()
        else:
            pathlib.Path(command[-1]).touch()
        return b''

    def test_one_option_more(self) -> None:
        guest.without_agent(self.source, self.dest)
        usual = (guest.FILES / guest.BOOT_OPTIONS).read_text()
        self.assertEqual(f'{usual[:-1]} quiesce.agent=off\n', self.options)
        self.assertEqual([self.dest, self.source, self.tree],
                         sorted(self.scratch.iterdir()))

    def test_the_guest_knows_it(self) -> None:
        self.assertIn(f'grep -qw {guest.NO_AGENT} /proc/cmdline',
                      (guest.FILES / 'agent.sh').read_text())


class ConsoleProgressTest(TreeCase):

    def _progress(self, log: str) -> int:
        self.source.write_bytes(log.encode())
        return guestctl.console_progress(self.source)

    def test_nothing_yet(self) -> None:
        self.assertEqual(0, self._progress('Linux version 6.1\r\n'))

    def test_last_complete_line(self) -> None:
        self.assertEqual(41, self._progress(
            'quiesce-writer 40\r\n/ # quiesce-writer 41\r\nls\r\n'
            'quiesce-writer 4'))
