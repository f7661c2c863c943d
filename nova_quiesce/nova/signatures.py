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

"""The signatures of overrides, which are Nova's.

An override names the arguments that it needs and passes the others on, so that
it fits each release. Who asks for its signature, as Nova's own test of drivers
does, is shown that of the method under it.
"""

import inspect
import typing

_Class = typing.TypeVar('_Class', bound=type)


def as_in_base(overriding: _Class) -> _Class:
    """Show the overrides of a class with the signatures of its base.

    :param overriding: the class
    :returns: the same class
    """
    (base,) = overriding.__bases__
    for name, method in vars(overriding).items():
        overridden = getattr(base, name, None)
        if inspect.isfunction(method) and inspect.isfunction(overridden):
            method.__signature__ = (  # type: ignore[attr-defined]
                inspect.signature(overridden))
    return overriding
