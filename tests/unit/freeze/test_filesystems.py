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

"""What is claimed of the filesystems that an agent lists."""

import unittest

from nova_quiesce.freeze import filesystems

Entry = tuple[str, str, str, list[str]]

ROOT: Entry = ('/', 'vda2', 'ext4', ['vda'])
DATA = ('/data', 'vdb', 'xfs', ['vdb'])
ESP = ('/boot/efi', 'vda1', 'vfat', ['vda'])
BIND = ('/var/lib/bind', 'vda2', 'ext4', ['vda'])
SNAP: Entry = ('/snap/core/1', 'loop0', 'squashfs', [])
ODD = ('/odd', 'vdc', 'oddfs', ['vdc'])
WINDOWS = ('C:\\', '\\\\?\\Volume{1}\\', 'NTFS', ['sda'])
SYSTEM = ('System Reserved', '\\\\?\\Volume{2}\\', 'FAT32', ['sda'])
ALL = 'all filesystems that the guest agent lists stayed frozen during the cut'
SOME = '%d filesystems stayed frozen during the cut'
ONE = '1 filesystem stayed frozen during the cut'
CHOSEN = ('these filesystems stayed frozen during the cut, as the image '
          'asks: ')


def tally(count: int, *listed: Entry,
          mountpoints: tuple[str, ...] = ()) -> filesystems.Tally:
    """A freeze's count, beside a list as libvirt gives it."""
    return filesystems.Tally(
        filesystems.parse(list(listed)), mountpoints, count)


class ParseTest(unittest.TestCase):

    def test_list(self) -> None:
        found = filesystems.parse([ROOT, ESP])
        assert found is not None
        self.assertEqual(('/', 'vda2', 'ext4'), (
            found[0].mountpoint, found[0].device, found[0].type))
        self.assertEqual('/boot/efi (vfat)', str(found[1]))

    def test_nothing_mounted(self) -> None:
        self.assertEqual((), filesystems.parse([]))

    def test_what_is_no_list_of_filesystems(self) -> None:
        answers: tuple[object, ...] = (
            None, -1, 'ROOT', {'a': 1}, (ROOT,), [None], [ROOT, 3],
            [[*ROOT]], [('/', 'vda')], [('/', 'vda', None, [])],
            [(b'/', 'vda', 'ext4', [])], [('', 'vda', 'ext4', [])],
            [('/', '', 'ext4', [])], [('/', 'vda', '', [])],
            [(1, 'vda', 'ext4', [])], [ROOT, ()],
            [('/' + 'x' * 2000, 'vda', 'ext4', [])],
            [ROOT] * (filesystems.MAX_LISTED + 1))
        for answer in answers:
            with self.subTest(answer=str(answer)[:60]):
                self.assertIsNone(filesystems.parse(answer))

    def test_what_is_shown_is_short_and_printable(self) -> None:
        found = filesystems.parse([(
            '/a\nERROR forged\x1b[31m\U0001f600\ud800' + 'y' * 900,
            'vda', 'z' * 900, [])])
        assert found is not None
        shown = str(found[0])
        self.assertTrue(shown.isprintable(), shown)
        self.assertLess(len(shown), 60)
        self.assertLessEqual(max(shown), '\uffff')


class ShortfallTest(unittest.TestCase):

    def _assert_short(self, found: filesystems.Tally, *texts: str) -> None:
        shortfall = found.shortfall()
        assert shortfall is not None
        for text in texts:
            self.assertIn(text, shortfall)

    def test_none(self) -> None:
        for found in (
                tally(1), tally(1, ROOT), tally(2, ROOT, DATA),
                tally(1, ROOT, BIND), tally(1, ROOT, ESP),
                tally(1, ROOT, SNAP), tally(1, ROOT, ODD),
                # Mounted since: nobody expects it.
                tally(3, ROOT, DATA),
                tally(1, WINDOWS, SYSTEM, ('D:\\', 'e', 'NTFS', [])),
                tally(1, ROOT, DATA, mountpoints=('/data',)),
                filesystems.Tally(None, (), 1)):
            self.assertIsNone(found.shortfall())

    def test_one_is_missing(self) -> None:
        self._assert_short(tally(1, ROOT, DATA, ESP, SNAP, BIND),
                           'only 1 of these 2 filesystems',
                           '/ (ext4), /data (xfs);', 'another freeze')

    def test_shadowed_by_another_mount(self) -> None:
        self._assert_short(tally(2, ROOT, DATA, ('/data', 'vdc', 'ext4', [])),
                           'only 2 of these 3')

    def test_each_btrfs_is_counted_once(self) -> None:
        # Whatever its devices and subvolumes, Linux names one of them.
        one: list[Entry] = [
            ('/', 'vda2', 'btrfs', []), ('/home', 'vda2', 'btrfs', [])]
        self.assertIsNone(tally(1, *one).shortfall())
        self._assert_short(tally(1, *one, ('/srv', 'vdb', 'btrfs', [])),
                           'only 1 of these 2')

    def test_asked_for_and_missing(self) -> None:
        self._assert_short(
            tally(1, ROOT, DATA, mountpoints=('/', '/data')), 'only 1 of')


class HeldTest(unittest.TestCase):

    def test_claims(self) -> None:
        for expected, found in (
                (ALL, tally(1, ROOT)),
                (ALL, tally(2, ROOT, DATA, BIND)),
                (ALL, tally(3, ROOT, DATA)),
                (ALL, tally(2, ROOT, ODD)),
                (ALL, tally(2, WINDOWS, SYSTEM)),
                (ALL.replace('all ', 'all writable '), tally(1, ROOT, SNAP)),
                (ONE + '; not frozen, because its type cannot be: /boot/efi '
                 '(vfat)', tally(1, ROOT, ESP)),
                # Whatever the count: it may be of one mounted since.
                (SOME % 2 + '; not frozen, because its type cannot be: '
                 '/boot/efi (vfat)', tally(2, ROOT, ESP)),
                (SOME % 2 + '; not frozen, because their types cannot be: '
                 '/boot/efi (vfat), /mnt (exfat)',
                 tally(2, ROOT, DATA, ESP, ('/mnt', 'sdb', 'exfat', []))),
                (ONE + '; not proven to be frozen: /odd (oddfs)',
                 tally(1, ROOT, ODD)),
                (ONE + '; not frozen, because its type cannot be: /boot/efi '
                 '(vfat); not proven to be frozen: /odd (oddfs)',
                 tally(1, ROOT, ESP, ODD)),
                (ONE + '; not proven to be frozen: C:\\ (NTFS), System '
                 'Reserved (FAT32)', tally(1, WINDOWS, SYSTEM)),
                (ALL + '; the guest agent does not list /', tally(1, DATA)),
                (ONE + '; not frozen, because its type cannot be: /boot/efi '
                 '(vfat); the guest agent does not list /', tally(1, DATA,
                                                                  ESP)),
                (CHOSEN + '/data', tally(
                    1, ROOT, DATA, mountpoints=('/data',))),
                (CHOSEN + '/data; not frozen, because its type cannot be: '
                 '/boot/efi (vfat)', tally(
                     1, ROOT, DATA, ESP, mountpoints=('/data', '/boot/efi'))),
                (CHOSEN + '/data; not proven to be frozen: /odd (oddfs)',
                 tally(1, ROOT, DATA, ODD, mountpoints=('/data', '/odd'))),
                (CHOSEN + '/, /var/lib/bind', tally(
                    1, ROOT, BIND, DATA, mountpoints=('/', '/var/lib/bind'))),
                (SOME % 2 + '; the guest agent does not list which',
                 filesystems.Tally(None, (), 2)),
                (ONE + '; the guest agent does not list which', tally(1)),
                (ONE + '; the guest agent does not list which',
                 filesystems.Tally(None, ('/data',), 1))):
            with self.subTest(expected=expected):
                self.assertEqual(expected, found.stayed_frozen())

    def test_some_are_named(self) -> None:
        sticks: list[Entry] = [
            ('/media/stick%d' % number, 'sd%d' % number, 'vfat', [])
            for number in range(9)]
        self.assertEqual(
            ONE + '; not frozen, because their types cannot be: /media/stick0 '
            '(vfat), /media/stick1 (vfat), /media/stick2 (vfat), '
            '/media/stick3 (vfat) and 5 more',
            tally(1, ROOT, *sticks).stayed_frozen())

    def test_no_listing_makes_it_long_or_unprintable(self) -> None:
        ends = ('', 'ext4', 'vfat', 'NTFS', 'squashfs', 'q' * 500, '\n\0')
        for mountpoint in ('/', '/m', '/' + 'm' * 500, '/\x1b\n\U0001f600'):
            for kind in ends[1:]:
                for number in (1, 2, 5, 100):
                    listed: list[Entry] = [
                        (mountpoint + str(one), str(one), kind, [])
                        for one in range(number)]
                    self._assert_sane(listed + [ROOT, ESP, ODD])

    def _assert_sane(self, listed: list[Entry]) -> None:
        asked = tuple(entry[0] for entry in listed)
        for count in (1, 2, 3, len(listed), filesystems.MAX_LISTED):
            for mountpoints in ((), asked[:1], asked[-3:], asked[:16]):
                found = tally(count, *listed, mountpoints=mountpoints)
                for text in (found.stayed_frozen(), found.shortfall() or ''):
                    self.assertLessEqual(len(text), 200, text)
                    self.assertTrue(text.isprintable(), text)
                self.assertIn('stayed frozen', found.stayed_frozen())
