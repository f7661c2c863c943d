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

"""Run the checks that the command line names, as root."""

import sys

from devstackbox import guard
from devstackbox import snapshots
from quiescelab import errors

CHECKS = {'snapshots': snapshots.run, 'guard': guard.run}


def main() -> int:
    """Run the checks; the exit status."""
    try:
        for name in sys.argv[1:]:
            CHECKS[name]()
    except errors.LabError as error:
        print(f'devstackbox: {error.explain()}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
