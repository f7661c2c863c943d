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

"""What an instance asks of its snapshots: require, prefer or skip.

Pure: image properties in, a policy out.
"""

from collections import abc
import enum

from oslo_utils import strutils

AGENT_PROPERTY = 'hw_qemu_guest_agent'
REQUIRE_PROPERTY = 'os_require_quiesce'


class Policy(enum.Enum):
    """How a snapshot treats a guest that cannot be quiesced."""

    #: The snapshot fails.
    REQUIRE = 'require'
    #: The snapshot is taken all the same, and labelled for what it is.
    PREFER = 'prefer'
    #: Nothing is tried.
    SKIP = 'skip'


def decide(properties: abc.Mapping[str, object]) -> Policy:
    """Read the policy from an instance's image properties.

    Nova reads an unknown boolean as false. A misspelt ``os_require_quiesce``
    would then silently give up the guarantee that its owner asked for, so
    any value that does not clearly say no means ``require`` here. A misspelt
    ``hw_qemu_guest_agent`` has no such reading: Nova gave the instance no
    agent channel then.

    :param properties: the image properties, with values as Glance has them
    :returns: the policy
    """
    if _required(properties.get(REQUIRE_PROPERTY)):
        return Policy.REQUIRE
    if strutils.bool_from_string(properties.get(AGENT_PROPERTY)):
        return Policy.PREFER
    return Policy.SKIP


def _required(value: object) -> bool:
    if value is None:
        return False
    try:
        return bool(strutils.bool_from_string(value, strict=True))
    except ValueError:
        return True
