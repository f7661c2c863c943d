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

"""The accelerator of guests: KVM where a guest boots with it.

Where ``/dev/kvm`` belongs to a machine that is virtual itself, it may open,
run the first thousand instructions, and fail at one that it cannot emulate:
only the lab's own guest, booted to its end, tells.
"""

import pathlib
import subprocess
import tempfile
import time

from quiescelab import site
from quiescelab import system

QEMU_USER = 'libvirt-qemu'
DEVICE = pathlib.Path('/dev/kvm')
TIMEOUT_SECONDS = 30
POLL_SECONDS = 0.2
STARTED = b'quiesce-guest: started'
BROKEN = b'KVM internal error'


def choose(lab: site.Site) -> None:
    """Decide on Nova's ``virt_type``, once."""
    lab.once('accelerator', lambda: _choose(lab), _boot_id())


def _choose(lab: site.Site) -> None:
    # The answer outlives a "down --keep", but not a boot of the machine.
    known = lab.paths.cache / f'virt_type.{_boot_id()}'
    if not known.exists():
        works = kvm_works(lab.paths.guest_image)
        known.write_text('kvm' if works else 'qemu')
        lab.screen.say(f'guests will run with virt_type={known.read_text()}')
    lab.state.set('virt_type', known.read_text())


def kvm_works(image: pathlib.Path) -> bool:
    """Tell whether the guest boots to its end with KVM."""
    if not DEVICE.exists():
        return False
    with tempfile.TemporaryDirectory(prefix='nova-quiesce-lab-') as directory:
        log = pathlib.Path(directory) / 'log'
        with log.open('wb') as stream, subprocess.Popen(
                _command(image), stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT) as qemu:
            try:
                return _started(qemu, log)
            finally:
                qemu.kill()


def _started(qemu: subprocess.Popen[bytes], log: pathlib.Path) -> bool:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while qemu.poll() is None and time.monotonic() < deadline:
        told = log.read_bytes()
        if STARTED in told or BROKEN in told:
            return STARTED in told
        time.sleep(POLL_SECONDS)
    return False


def _command(image: pathlib.Path) -> list[str]:
    # Also the user counts: the device may be root's alone.
    return system.as_user(QEMU_USER, [
        'qemu-system-x86_64', '-accel', 'kvm', '-m', '256', '-nodefaults',
        '-no-user-config', '-display', 'none', '-snapshot', '-drive',
        f'file={image},format=qcow2,if=virtio', '-serial', 'stdio'])


def _boot_id() -> str:
    return pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
