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

"""The filesystems that an agent lists, and those that a freeze reached.

Nothing here calls an agent. A freeze is answered with a count and no names:
QEMU's agent goes through what is mounted, skips what cannot be frozen or is
frozen already, and counts the rest. So the count is compared with what it
listed before, a filesystem once for each of its mounts. What it does not see
(ZFS, network filesystems, other mount namespaces) it neither lists nor
freezes.
"""

from collections import abc
import dataclasses

from nova_quiesce.freeze import texts

#: The most filesystems that are believed; more is not a guest, it is an
#: attack on this process's memory or on the log.
MAX_LISTED = 1024
#: The longest text of a listing that is believed, in characters.
_MAX_TEXT = 1024

# Linux freezes a filesystem if its superblock operations have freeze_fs or
# freeze_super; all others answer EOPNOTSUPP. Windows names its filesystems
# differently, and VSS holds whole volumes, whatever is on them.
_FREEZABLE = frozenset({
    'btrfs', 'ext2', 'ext3', 'ext4', 'f2fs', 'gfs2', 'jfs', 'nilfs2',
    'reiserfs', 'xfs'})
_UNFREEZABLE = frozenset({
    'exfat', 'fuseblk', 'hfsplus', 'msdos', 'ntfs', 'ntfs3', 'ocfs2', 'udf',
    'vfat', 'zonefs'})
#: Never written to by their guest. CDFS is what Windows calls ISO 9660.
_READ_ONLY = frozenset({
    'CDFS', 'cramfs', 'erofs', 'iso9660', 'romfs', 'squashfs'})

#: How long a sentence with names may be, how many it names at most, and how
#: much of a mount point and of a type it shows. Cinder stores 255 characters.
_SENTENCE, _NAMES, _MOUNTPOINT, _TYPE = 185, 4, 40, 12


@dataclasses.dataclass(frozen=True)
class Filesystem:
    """A filesystem as its guest's agent lists it: nothing of it is proven.

    :ivar mountpoint: where it is mounted
    :ivar device: the name of its device
    :ivar type: what kind it is
    """

    mountpoint: str
    device: str
    type: str

    def __str__(self) -> str:
        return '%s (%s)' % (_show(self.mountpoint, _MOUNTPOINT),
                            _show(self.type, _TYPE))


#: What an agent listed; None where it did not.
Listing = tuple[Filesystem, ...] | None


def parse(answer: object) -> Listing:
    """Understand libvirt's list of a guest's filesystems.

    :param answer: of ``virDomain.fsInfo()``, chosen inside the guest
    :returns: the filesystems; None where it is not such a list, or an entry
        is not what it has to be: the others then are not all
    """
    if not isinstance(answer, list) or len(answer) > MAX_LISTED:
        return None
    found = tuple(one for entry in answer if (one := _parse_one(entry)))
    return found if len(found) == len(answer) else None


def _parse_one(entry: object) -> Filesystem | None:
    # (mount point, device, type, disks)
    if not isinstance(entry, tuple) or len(entry) < 3:
        return None
    known = [text for text in entry[:3]
             if isinstance(text, str) and 0 < len(text) <= _MAX_TEXT]
    return Filesystem(*known) if len(known) == 3 else None


#: A part of a sentence, and the names that end it.
_Part = tuple[str, list[str]]


class Tally:
    """The count that answered a freeze, beside what was listed before it.

    :param listing: what the agent listed
    :param mountpoints: of the filesystems that were to be frozen; empty for
        all
    :param count: how many were frozen, by the agent
    """

    def __init__(self, listing: Listing, mountpoints: abc.Collection[str],
                 count: int) -> None:
        self._count = count
        self._is_limited = bool(mountpoints)
        self._asked = [one for one in listing or () if not mountpoints
                       or one.mountpoint in mountpoints]
        # Bind mounts, and subvolumes of btrfs, share a device.
        devices: dict[str, Filesystem] = {}
        for one in sorted(self._asked, key=lambda one: one.mountpoint):
            devices.setdefault(one.device, one)
        self._writable = [one for one in devices.values()
                          if one.type not in _READ_ONLY]
        self._is_all_writable = len(self._writable) == len(devices)

    def shortfall(self) -> str | None:
        """Tell why the count is too small, if it is.

        What somebody else has frozen is not counted, and does not count:
        its owner may thaw it at any time.

        :returns: a sentence; None where no filesystem is known to be missing
        """
        expected = self._of(_FREEZABLE)
        if self._count >= len(expected):
            return None
        return _sentence(
            ('the guest agent froze only %d of these %d filesystems: ' % (
                self._count, len(expected)), _texts(expected)),
            ('; look inside the instance for another freeze, or for a mount '
             'over one', []))

    def stayed_frozen(self) -> str:
        """Tell what stayed frozen, of a freeze that lasted and is not short.

        :returns: a sentence that claims nothing of what is not listed
        """
        unfreezable = self._of(_UNFREEZABLE)
        proven, uncertain = self._of(_FREEZABLE), self._of_unknown_type()
        if self._count >= len(proven) + len(uncertain):
            proven, uncertain = proven + uncertain, []
        return _sentence(
            self._claim(proven, not unfreezable and not uncertain),
            *_except('; not frozen, because %s cannot be: ' % (
                'its type' if len(unfreezable) == 1 else 'their types'),
                unfreezable),
            *_except('; not proven to be frozen: ', uncertain),
            *self._lacking_root())

    def _of(self, types: frozenset[str]) -> list[Filesystem]:
        return [one for one in self._writable if one.type in types]

    def _of_unknown_type(self) -> list[Filesystem]:
        return [one for one in self._writable
                if one.type not in _FREEZABLE | _UNFREEZABLE]

    def _claim(self, proven: list[Filesystem], is_all: bool) -> _Part:
        chosen = self._chosen({one.device for one in proven})
        if chosen:
            return ('these filesystems stayed frozen during the cut, as the '
                    'image asks: ', chosen)
        if proven and is_all:
            return ('all %sfilesystems that the guest agent lists stayed '
                    'frozen during the cut' % (
                        '' if self._is_all_writable else 'writable '), [])
        return ('%d filesystem%s stayed frozen during the cut%s' % (
            self._count, '' if self._count == 1 else 's',
            '' if self._writable else
            '; the guest agent does not list which'), [])

    def _chosen(self, devices: set[str]) -> list[str]:
        if not self._is_limited:
            return []
        return list(dict.fromkeys(
            _show(one.mountpoint, _MOUNTPOINT) for one in self._asked
            if one.device in devices))

    def _lacking_root(self) -> list[_Part]:
        paths = {one.mountpoint for one in self._asked
                 if one.mountpoint.startswith('/')}
        if not paths or '/' in paths or self._is_limited:
            return []
        return [('; the guest agent does not list /', [])]


def _except(text: str, filesystems: list[Filesystem]) -> list[_Part]:
    return [(text, _texts(filesystems))] if filesystems else []


def _texts(filesystems: list[Filesystem]) -> list[str]:
    return [str(one) for one in filesystems]


def _show(text: str, longest: int) -> str:
    return texts.shorten(texts.printable(text), longest)


def _sentence(*parts: _Part) -> str:
    room = _SENTENCE - sum(len(text) for text, _names in parts)
    lists = sum(1 for _text, names in parts if names) or 1
    return ''.join(text + _enumerate(names, room // lists)
                   for text, names in parts)


def _enumerate(names: list[str], room: int) -> str:
    """Join the names that there is room for, and the number of the rest."""
    for count in range(min(len(names), _NAMES), 0, -1):
        more = len(names) - count
        text = ', '.join(names[:count]) + (
            ' and %d more' % more if more else '')
        if len(text) <= room:
            return text
    return '%d of them' % len(names) if names else ''
