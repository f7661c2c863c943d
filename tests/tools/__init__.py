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

"""Tests of what belongs to the project beside the driver.

The lab, DevStack's plugin and its container, tempest's plugin, what CI runs,
and the table of Nova's releases.
"""

# Some look at the installed Nova; it has to choose its concurrency mode first.
import nova.cmd.compute  # noqa: F401

import tests

tests.limit(600)
