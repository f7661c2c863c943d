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

"""A bootable test guest, built from the distribution's packages alone.

The image is a qcow2 with an MBR, syslinux and the kernel on a small FAT
partition, and an ext4 root with busybox, the guest agent and a writer. Any
user can build it, in a container too. What the guest does is told in
``guestfiles/``.
"""

import argparse
from collections.abc import Callable
import gzip
import lzma
import pathlib
import platform
import re
import shutil
import sys
import tempfile

from quiescelab import guestdebs
from quiescelab import guestdisk
from quiescelab import gueststep
from quiescelab import oracle

PACKAGES = gueststep.PACKAGES
GuestError = gueststep.GuestError

FILES = pathlib.Path(__file__).parent / 'guestfiles'

#: Ends with the kernel's options, to which one may be added.
BOOT_OPTIONS = 'syslinux.cfg'
NO_AGENT = 'quiesce.agent=off'

#: Sources in guestfiles/ and where they go on the root filesystem.
ROOT_FILES = {
    'start.sh': 'usr/lib/quiesce/start',
    'stop.sh': 'usr/lib/quiesce/stop',
    'agent.sh': 'usr/lib/quiesce/agent',
    'fsfreeze-hook.sh': 'etc/qemu/fsfreeze-hook',
    'shutdown.sh': 'bin/shutdown',
    'power-button.sh': 'etc/acpi/PWRF/00000080',
    'inittab': 'etc/inittab',
}

ROOT_DIRECTORIES = ('bin', 'data', 'dev', 'proc', 'root', 'run', 'sys', 'tmp',
                    'var/lib/writer', 'var/log')

#: What the guest needs of the kernel, where it is not built in. A second
#: filesystem is a file's, or the boot partition's, which cannot be frozen.
MODULES = ('virtio_pci', 'virtio_blk', 'virtio_console', 'ext4', 'button',
           'evdev', 'loop', 'nls_cp437', 'nls_iso8859_1', 'vfat')


def build(dest: pathlib.Path, workdir: pathlib.Path,
          progress: Callable[[str], None]) -> None:
    """Build the guest's image.

    :param dest: the qcow2 to write; it is replaced once it is complete
    :param workdir: a directory for the downloads, which are kept for the next
        build, and for what is made on the way (about 200 MB), which is not
    :param progress: told of each step
    :raises GuestError: a command fails
    """
    if platform.machine() != 'x86_64':
        raise GuestError('the guest is made for x86_64, this machine is '
                         f'{platform.machine()}')
    try:
        debs = _download(workdir, progress)
        with tempfile.TemporaryDirectory(dir=workdir) as scratch:
            _assemble(debs, dest, pathlib.Path(scratch), progress)
    except OSError as e:
        raise GuestError(f'build the guest: {e}') from e


def without_agent(image: pathlib.Path, dest: pathlib.Path) -> None:
    """Make an image of the same guest, which never starts its agent.

    :param image: the guest's
    :param dest: the qcow2 to write; it is replaced once it is complete
    :raises GuestError: a command fails
    """
    with tempfile.TemporaryDirectory(dir=dest.parent) as name:
        scratch = pathlib.Path(name)
        guestdisk.unpack(image, scratch / 'disk')
        options = (FILES / BOOT_OPTIONS).read_text().rstrip()
        (scratch / BOOT_OPTIONS).write_text(f'{options} {NO_AGENT}\n')
        guestdisk.replace_boot_file(scratch / 'disk', scratch / BOOT_OPTIONS)
        guestdisk.pack(scratch / 'disk', scratch / 'qcow2')
        shutil.move(scratch / 'qcow2', dest)


def _download(workdir: pathlib.Path,
              progress: Callable[[str], None]) -> list[pathlib.Path]:
    downloads = workdir / 'debs'
    downloads.mkdir(parents=True, exist_ok=True)
    names = guestdebs.find()
    progress(f'downloading the {len(names)} packages of the guest')
    return guestdebs.download(names, downloads)


def _assemble(debs: list[pathlib.Path], dest: pathlib.Path,
              scratch: pathlib.Path, progress: Callable[[str], None]) -> None:
    unpacked = scratch / 'unpacked'
    progress('unpacking the packages of the guest')
    guestdebs.unpack(debs, unpacked)
    progress('laying out the guest')
    _boot_tree(unpacked, scratch / 'boot', scratch / 'initramfs')
    _root_tree(unpacked, scratch / 'root')
    progress('writing the disk of the guest')
    guestdisk.make(scratch / 'disk', scratch / 'boot', scratch / 'root')
    guestdisk.pack(scratch / 'disk', scratch / 'qcow2')
    dest.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(scratch / 'qcow2', dest)


def _boot_tree(unpacked: pathlib.Path, boot: pathlib.Path,
               initramfs: pathlib.Path) -> None:
    boot.mkdir()
    shutil.copy(FILES / BOOT_OPTIONS, boot)
    shutil.copyfile(_one(unpacked, 'boot/vmlinuz-*'), boot / 'vmlinuz')
    _initramfs_tree(unpacked, initramfs)
    names = '\0'.join(str(path.relative_to(initramfs))
                      for path in sorted(initramfs.rglob('*')))
    archive = gueststep.run(
        'pack the initramfs',
        ('cpio', '--null', '-o', '-H', 'newc', '-R', '0:0', '--quiet'),
        cwd=initramfs, stdin=names.encode())
    (boot / 'initrd.gz').write_bytes(gzip.compress(archive, mtime=0))


def _initramfs_tree(unpacked: pathlib.Path, tree: pathlib.Path) -> None:
    modules = _one(unpacked, 'lib/modules/*')
    (tree / 'modules').mkdir(parents=True)
    order = _load_order(modules)
    for path in order:
        (tree / 'modules' / _module_name(path)).write_bytes(_module(path))
    (tree / 'modules/order').write_text(
        ''.join(f'{_module_name(path)}\n' for path in order))
    _install(_one(unpacked, 'bin/busybox'), tree, 'bin/busybox')
    _install(FILES / 'initramfs.sh', tree, 'init')


def _load_order(modules: pathlib.Path) -> list[pathlib.Path]:
    """Sort the guest's modules so that each follows those it needs."""
    files = {_module_name(path): path for path in modules.rglob('*.ko*')}
    built_in = {_module_name(pathlib.Path(line)) for line in
                (modules / 'modules.builtin').read_text().splitlines()}
    order: list[pathlib.Path] = []

    def add(name: str) -> None:
        if name in built_in or (files.get(name) in order):
            return
        if name not in files:
            raise GuestError(f'lay out the guest: {modules.name} has no '
                             f'module {name}')
        for needed in _needs(_module(files[name])):
            add(needed)
        order.append(files[name])

    for name in MODULES:
        add(name)
    return order


def _module_name(path: pathlib.Path) -> str:
    return path.name.partition('.')[0].replace('-', '_')


def _module(path: pathlib.Path) -> bytes:
    """Read a module; busybox loads none that is compressed."""
    if path.suffix == '.zst':
        return gueststep.run('unpack a module', ('zstd', '-dcq', path))
    if path.suffix == '.xz':
        return lzma.decompress(path.read_bytes())
    return path.read_bytes()


def _needs(module: bytes) -> list[str]:
    # modinfo's own source: the section .modinfo. Saves depmod on the host.
    found = re.search(rb'\0depends=([^\0]*)\0', module)
    names = found.group(1).decode() if found else ''
    return [name.replace('-', '_') for name in names.split(',') if name]


def _root_tree(unpacked: pathlib.Path, tree: pathlib.Path) -> None:
    for name in ROOT_DIRECTORIES:
        (tree / name).mkdir(parents=True)
    (tree / 'sbin').symlink_to('bin')
    (tree / 'var/run').symlink_to('/run')
    # From the start: a copy of a running guest may lack what is new.
    (tree / oracle.WRITER_FILE.lstrip('/')).touch()
    for source, target in ROOT_FILES.items():
        _install(FILES / source, tree, target)
    _install_busybox(_one(unpacked, 'bin/busybox'), tree)
    _install_agent(unpacked, tree)
    gueststep.run('compile the writer', (
        'gcc', '-Os', '-static', '-s', '-o', tree / 'usr/lib/quiesce/writer',
        FILES / 'writer.c'))


def _install_busybox(busybox: pathlib.Path, tree: pathlib.Path) -> None:
    _install(busybox, tree, 'bin/busybox')
    applets = gueststep.run('list the commands of busybox',
                            (busybox, '--list')).decode().split()
    for name in applets:
        if name != 'busybox':
            (tree / 'bin' / name).symlink_to('busybox')


def _install_agent(unpacked: pathlib.Path, tree: pathlib.Path) -> None:
    agent = _one(unpacked, 'sbin/qemu-ga')
    loader = _one(unpacked, 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2')
    _install(agent, tree, 'usr/sbin/qemu-ga')
    _install(loader, tree, 'lib64/ld-linux-x86-64.so.2')
    for name, path in _libraries(agent, loader, unpacked).items():
        _install(path, tree, f'lib/x86_64-linux-gnu/{name}')


def _libraries(program: pathlib.Path, loader: pathlib.Path,
               unpacked: pathlib.Path) -> dict[str, pathlib.Path]:
    """Ask the guest's own loader for the libraries that a program links."""
    directories = ':'.join(str(path) for path in (
        *unpacked.glob('lib/*-linux-gnu'),
        *unpacked.glob('usr/lib/*-linux-gnu')))
    listed = gueststep.run('find the libraries of the agent', (
        loader, '--inhibit-cache', '--library-path', directories, '--list',
        program)).decode()
    # Not the loader: it is listed by its absolute path.
    found = dict(re.findall(r'^\s*([^/\s]+) => (.+?)(?: \(0x\w+\))?$',
                            listed, re.MULTILINE))
    for name, path in found.items():
        if not pathlib.Path(path).is_relative_to(unpacked):
            raise GuestError(f'find the libraries of the agent: {name} is in '
                             'none of the downloaded packages')
    return {name: pathlib.Path(path) for name, path in found.items()}


def _one(tree: pathlib.Path, pattern: str) -> pathlib.Path:
    """Find the one file of a pattern, in / or in /usr."""
    found = [path for prefix in ('', 'usr/')
             for path in tree.glob(prefix + pattern)]
    if not found:
        raise GuestError(f'lay out the guest: no {pattern} in the packages')
    return found[0]


def _install(source: pathlib.Path, tree: pathlib.Path, name: str) -> None:
    """Copy an executable into a tree.

    :param name: the path in the tree; it must not lead out of it
    :raises GuestError: a command fails
    """
    target = tree / name
    # An absolute name, or a link in the tree, would write to this machine.
    if not target.parent.resolve().is_relative_to(tree.resolve()):
        raise GuestError(f'lay out the guest: {name} leads out of the tree')
    if target.is_symlink() or target.exists():
        raise GuestError(f'lay out the guest: {name} is there twice')
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def main() -> int:
    """Build the image that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('dest', type=pathlib.Path, help='the qcow2 to write')
    parser.add_argument('--workdir', type=pathlib.Path,
                        help='keep the downloads here for the next build')
    parser.add_argument('--without-agent', type=pathlib.Path, metavar='DEST',
                        help='write the same guest here, without its agent')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workdir = arguments.workdir or pathlib.Path(scratch)
        try:
            build(arguments.dest, workdir, print)
            if arguments.without_agent:
                without_agent(arguments.dest, arguments.without_agent)
        except GuestError as e:
            print(f'guest: {e}', file=sys.stderr)
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
