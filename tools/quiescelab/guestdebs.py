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

"""The distribution's packages that a guest is made of.

They are downloaded and unpacked, never installed.
"""

from collections.abc import Sequence
import pathlib
import platform
import re

from quiescelab import gueststep


def find() -> list[str]:
    """Name the guest's packages: kernel, busybox, the agent, its libraries.

    :raises GuestError: a command fails
    """
    return [*_kernel(), 'busybox-static', *_with_libraries('qemu-guest-agent')]


def download(names: Sequence[str], into: pathlib.Path) -> list[pathlib.Path]:
    """Fetch packages; those that are there already are kept.

    :returns: one file for each name
    :raises GuestError: a command fails
    """
    # As root, apt would complain that its own user cannot write here.
    command = ('apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download')
    listed = gueststep.run('find the packages',
                           (*command, '--print-uris', *names))
    gueststep.run('download the packages', (*command, *names), cwd=into)
    # 'URI' FILE SIZE HASH
    return [into / line.split()[1] for line in listed.decode().splitlines()
            if line.startswith("'")]


def unpack(debs: Sequence[pathlib.Path], into: pathlib.Path) -> None:
    """Unpack packages into one tree."""
    for deb in debs:
        gueststep.run('unpack the packages', ('dpkg-deb', '-x', deb, into))


def _kernel() -> list[str]:
    """Resolve the kernel's meta package to what carries the files.

    :returns: linux-image-VERSION and, where apart, linux-modules-VERSION
    """
    meta = _kernel_meta_package()
    images = _depends(meta, r'linux-image-\d\S*')[:1]
    if not images:
        raise gueststep.GuestError(
            f'find the packages: {meta} names no kernel')
    return images + _depends(images[0], r'linux-modules-\d\S*')[:1]


def _kernel_meta_package() -> str:
    release = platform.freedesktop_os_release()
    family = (release['ID'], *release.get('ID_LIKE', '').split())
    if 'ubuntu' in family:
        return 'linux-image-virtual'
    return 'linux-image-cloud-amd64'


def _depends(package: str, pattern: str) -> list[str]:
    output = _apt_depends(package)
    return re.findall(rf'^ *\|?Depends: ({pattern})$', output, re.MULTILINE)


def _with_libraries(package: str) -> list[str]:
    output = _apt_depends('--recurse', '--no-pre-depends', package)
    # Of other architectures there may be some too, named with a colon.
    names = re.findall(r'^(z?lib[^:\s]+)$', output, re.MULTILINE)
    return [package, *names]


def _apt_depends(*arguments: str) -> str:
    command = ('apt-cache', 'depends', '--important', *arguments)
    try:
        return gueststep.run('find the packages', command).decode()
    except gueststep.GuestError as e:
        raise gueststep.GuestError(f'{e}; try "apt-get update"') from e
