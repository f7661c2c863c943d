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

"""A hostile agent: the real freeze code, and answers that a tenant chose.

A guest's agent answers what its tenant likes, when its tenant likes. Here it
answers at random, by a seed, with all that was ever thought of: floods,
stalls, texts of 10 MiB, any characters, counts that lie, errors although it
did what it was asked for, and success although it did not. The code that asks
it is the real one, up to the record of a snapshot; time is virtual.

Whatever it answers, at the end of each run:

* the guest is not frozen, once its agent tells the truth; and as long as it
  does not, its lease stays, and its thaw goes on, at a pace that is bounded
* no record claims that the filesystems were frozen during the cut, unless they
  were, or the agent vouched for that by false counts
* each snapshot ended in time, as itself or with one of this package's errors
* each text of the guest's is short, one line and printable, wherever it went
* memory is bounded
* the snapshot of another instance took as long as it does alone

An agent is the tenant's own. One that says that it is not frozen, and is, is
believed: it can freeze its guest at any time, and nobody could tell. One that
counts what it did not freeze is believed, too: the record says that the
filesystems are those that the agent told of.

Nothing here depends on Nova, so it is run with one release of it.
"""

import tests

tests.limit(1800)
