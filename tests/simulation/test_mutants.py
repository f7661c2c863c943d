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

"""Each slip is one that can still be made."""

import unittest

from tests.simulation import mutants


class MutantsTest(unittest.TestCase):

    def test_what_they_replace_is_there_once(self) -> None:
        for one in mutants.MUTANTS:
            with self.subTest(one.what):
                path = mutants.ROOT / 'nova_quiesce' / (one.module + '.py')
                self.assertEqual(1, path.read_text().count(one.right))
