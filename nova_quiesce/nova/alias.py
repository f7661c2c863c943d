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

"""Makes ``compute_driver = quiesce.QuiesceLibvirtDriver`` resolve.

Nova imports ``nova.virt.<compute_driver>`` and nothing else. A module that is
shipped into ``nova/virt/`` is found only where Nova lives in the same
directory: not beside an editable Nova, where it would even hide Nova, and not
beside the Nova of a distribution.

So ``nova_quiesce.pth`` imports this module in each Python process, and it
registers a finder that answers for one name. It comes last in the path of
finders, and is asked only for what no other finder knows. As all processes
pay for it, nothing is imported here but what Python has loaded anyway.
"""

import sys

# Type checkers know the name; importing typing would cost milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import abc
    from importlib import machinery
    import types

#: The name that Nova imports.
NAME = 'nova.virt.quiesce'


class Finder:
    """Finds :data:`NAME`, and nothing else."""

    @staticmethod
    def find_spec(
            fullname: str,
            path: 'abc.Sequence[str] | None' = None,
            target: 'types.ModuleType | None' = None,
    ) -> 'machinery.ModuleSpec | None':
        """Locate a module, as :class:`importlib.abc.MetaPathFinder` has it.

        :param fullname: the module's absolute name
        :param path: where its parent package looks for modules; not used
        :param target: the module that is reloaded; not used
        :returns: where the alias is, or None for any other module
        """
        if fullname != NAME:
            return None
        import importlib.util
        import os.path
        return importlib.util.spec_from_file_location(
            fullname, os.path.join(os.path.dirname(__file__),
                                   'compute_driver.py'))


sys.meta_path.append(Finder)
