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

"""The plugin's calls in a real run, read from DevStack's traces.

The unit tests compare it with what the plugin calls of the doubles; see
tests/tools/test_devstack.py.
"""

import re
import sys

#: What is noted of all that is traced: DevStack's functions and the commands
#: that change something, not what only asks or computes.
CALLS = ('PIP_VIRTUAL_ENV=/', 'async_wait ', 'iniset ', 'install_package ',
         'oscwrap ', 'pip_uninstall ', 'python3 -m ', 'setup_develop ',
         'stop_process ', 'sudo ')
PHASE = re.compile(r':run_plugins:\d+ +: +source \S+/nova-quiesce/devstack/'
                   r'plugin\.sh (.+)$')
CALL = re.compile(r'/nova-quiesce/devstack/lib/nova-quiesce:\w+:\d+ +: +(.+)$')
#: Each run has others.
UUID = re.compile(r'\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b')


def main() -> None:
    """Print the calls of each phase in the traces of standard input."""
    phases: dict[str, list[str]] = {}
    calls: list[str] = []
    for line in sys.stdin:
        if phase := PHASE.search(line):
            # clean.sh runs unstack.sh again.
            calls = phases[phase.group(1).strip()] = []
        elif (call := CALL.search(line)) and call.group(1).startswith(CALLS):
            calls.append(_as_typed(call.group(1)))
    for name, found in phases.items():
        print(f'[{name}]', *found, sep='\n')


def _as_typed(call: str) -> str:
    # The trace quotes, and oscwrap is what "openstack" stands for there.
    text = UUID.sub('UUID', call.replace("'", '').rstrip())
    return re.sub('^oscwrap', 'openstack', text)


if __name__ == '__main__':
    main()
