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

"""Inputs of any kind, for the tests of what has to hold for each.

The same few are tried each time, so that a test that passes goes on to pass.
With ``OS_TEST_EXAMPLES`` set, so many others are.
"""

import os

import hypothesis
from hypothesis import strategies

_EXAMPLES = os.environ.get('OS_TEST_EXAMPLES')

hypothesis.settings.register_profile(
    'unit', database=None, deadline=None, derandomize=_EXAMPLES is None,
    max_examples=int(_EXAMPLES or 50),
    suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.load_profile('unit')

#: Any text, with halves of characters, too.
TEXTS = strategies.text(strategies.characters(exclude_categories=()))

#: Any value that JSON has.
VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() |
    strategies.floats() | TEXTS,
    lambda inner: strategies.lists(inner) | strategies.dictionaries(
        TEXTS, inner), max_leaves=8)

#: What an agent's answer may be: other types than JSON's as well.
ANSWERS = VALUES | strategies.binary() | strategies.builds(object) | (
    strategies.lists(strategies.tuples(TEXTS, TEXTS, TEXTS, VALUES)))


def some(count: int) -> hypothesis.settings:
    """Have a test that takes long try fewer inputs.

    :param count: how many
    """
    return hypothesis.settings(
        max_examples=count if _EXAMPLES is None else int(_EXAMPLES))
