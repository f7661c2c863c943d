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

"""Loads the compute driver as nova-compute does, and tells what it found.

Run by the tests with the Python of a layout; takes nova-compute's arguments.
"""

import json
import sys

from nova.cmd import compute  # noqa: F401  (chooses the concurrency mode)
from nova import config
from nova import objects
from nova.virt import driver
from nova.virt import virtapi

config.parse_args(sys.argv)
objects.register_all()
loaded = driver.load_compute_driver(virtapi.VirtAPI())
module = sys.modules['nova.virt.quiesce']
json.dump({
    'class': type(loaded).__name__,
    'bases': [f'{base.__module__}.{base.__qualname__}'
              for base in type(loaded).__mro__],
    'alias': module.__file__,
    'nova': sys.modules['nova'].__file__,
    'eventlet': 'eventlet' in sys.modules,
}, sys.stdout)
