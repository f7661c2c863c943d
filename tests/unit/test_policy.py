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

"""The policy: one test per row of the documented table."""

import unittest

from nova_quiesce import policy


class DecideTest(unittest.TestCase):

    def _decide(self, **properties: object) -> policy.Policy:
        return policy.decide(properties)

    def test_nothing_set_skips(self) -> None:
        self.assertIs(policy.Policy.SKIP, self._decide())

    def test_agent_alone_prefers(self) -> None:
        self.assertIs(policy.Policy.PREFER,
                      self._decide(hw_qemu_guest_agent='yes'))

    def test_agent_and_required(self) -> None:
        self.assertIs(policy.Policy.REQUIRE,
                      self._decide(hw_qemu_guest_agent='yes',
                                   os_require_quiesce='yes'))

    def test_required_without_agent_is_still_required(self) -> None:
        self.assertIs(policy.Policy.REQUIRE,
                      self._decide(os_require_quiesce='true'))

    def test_not_required_is_what_no_says(self) -> None:
        for no in ('no', 'false', '0', 'off', 'False'):
            self.assertIs(policy.Policy.PREFER,
                          self._decide(hw_qemu_guest_agent='true',
                                       os_require_quiesce=no), no)

    def test_unknown_requirement_requires(self) -> None:
        for value in ('ture', '', 'maybe', '2'):
            self.assertIs(policy.Policy.REQUIRE,
                          self._decide(os_require_quiesce=value), value)

    def test_unknown_agent_value_is_no_agent_as_in_nova(self) -> None:
        self.assertIs(policy.Policy.SKIP,
                      self._decide(hw_qemu_guest_agent='banana'))
