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

"""In-process tests with Nova's own API, conductor and compute."""

# Nova chooses its concurrency mode here, which has to be before any other of
# its modules is imported: of what is made of threading.local before,
# eventlet's threads would share one.
import nova.tests.functional

# In 2025.2, it does so here.
import nova.test  # noqa: F401

import tests

tests.limit(1800)
