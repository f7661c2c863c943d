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

"""The base of what stands in for an object of Nova's."""

import typing

_Wrapped = typing.TypeVar('_Wrapped')


class Wrapper(typing.Generic[_Wrapped]):
    """An object of Nova's, of which a few methods are replaced.

    Subclasses define those; whatever else Nova asks for is the object's own.

    :param wrapped: the object
    """

    def __init__(self, wrapped: _Wrapped) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> object:
        if name == '_wrapped':
            # What copies an object looks at it before it is made.
            raise AttributeError(name)
        return getattr(self._wrapped, name)
