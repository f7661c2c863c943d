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

"""The command ``nova-quiesce``, for operators.

What an operator does or reads by hand on a compute host belongs in here, and
has to work while nova-compute is down. May import anything but the driver and
what takes its snapshots; nothing imports it.

``main``
    The command line, and ``nova-quiesce thaw``.
``check``
    ``nova-quiesce check``: the facts, remarks and problems of this host.
``listing``
    ``nova-quiesce list``: the leases and duties that are on its disk.
"""
