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

"""Texts that a guest chose."""

import unittest

from nova_quiesce.freeze import texts


class PrintableTest(unittest.TestCase):

    def test_one_line(self) -> None:
        self.assertEqual('a ERROR forged [31m x', texts.printable(
            'a\nERROR forged\x1b[31m\0\u2028\ud800 x'))

    def test_what_glance_refuses_is_left_out(self) -> None:
        self.assertEqual('/größe /データ /', texts.printable(
            '/größe /データ /\U0001f600'))

    def test_length(self) -> None:
        self.assertEqual(texts.MAX_TEXT, len(texts.printable('x' * 10**6)))


class ShortenTest(unittest.TestCase):

    def test_short_enough(self) -> None:
        self.assertEqual('abcd', texts.shorten('abcd', 4))

    def test_too_long(self) -> None:
        self.assertEqual('a...', texts.shorten('abcde', 4))
