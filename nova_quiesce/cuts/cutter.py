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

"""The type that stands between a path and the cuts that Nova's code makes."""

from collections import abc

#: Makes the cut that it is handed, at most once, or refuses to. Some cuts are
#: made deep inside Nova's code: what it works with there is wrapped, and hands
#: the cut to one of these, which freezes the guest around it.
Cutter = abc.Callable[[abc.Callable[[], None]], None]
