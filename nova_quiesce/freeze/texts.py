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

"""Texts that somebody else chose, made fit to show and to store."""

#: The most text of a guest's answer that is passed on, in characters.
MAX_TEXT = 200
#: The last character that takes three bytes in UTF-8: Glance refuses a
#: property with a longer one.
_LAST = '\uffff'


def printable(text: str) -> str:
    """Make a text that somebody else chose fit to be shown.

    :param text: any text
    :returns: one line of at most :data:`MAX_TEXT` characters
    """
    shown = ''.join(c if c.isprintable() and c <= _LAST else ' '
                    for c in text[:MAX_TEXT * 4])
    return ' '.join(shown.split())[:MAX_TEXT].rstrip()


def shorten(text: str, longest: int) -> str:
    """Cut a text to a length.

    :param text: any text
    :param longest: how many characters it may have, at least 3
    :returns: the text, or its beginning and three dots
    """
    return text if len(text) <= longest else text[:longest - 3] + '...'
