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

"""Tests: of units, of Nova's services in one process, and of a whole lab."""

import faulthandler


def limit(seconds: int) -> None:
    """End this process of tests where it hangs, and say where that is.

    The runner then counts the test that it was at as failed; otherwise it
    would wait for it without limit, and not even name it.

    :param seconds: from now; well above what all its tests take
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
