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

"""The freeze knows libvirt, and nothing of Nova or of its neighbours."""

import ast
from collections import abc
import pathlib
import sys
import unittest

from nova_quiesce import freeze

ROOM = pathlib.Path(freeze.__path__[0])
MAY_BE_IMPORTED = {'libvirt', 'nova_quiesce.freeze', *sys.stdlib_module_names}


def _imports(path: pathlib.Path) -> abc.Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


class ArrowsTest(unittest.TestCase):

    def test_it_imports_nothing_of_its_neighbours(self) -> None:
        modules = list(ROOM.rglob('*.py'))
        self.assertLess(20, len(modules))
        for path in modules:
            for name in _imports(path):
                self.assertTrue(any(
                    name == one or name.startswith(one + '.')
                    for one in MAY_BE_IMPORTED), '%s: %s' % (path, name))

    def test_clocks_and_threads_come_from_outside(self) -> None:
        """Also in the guard, so that it can be simulated, too."""
        for path in ROOM.rglob('*.py'):
            if path.name != 'machines.py':
                self.assertFalse(
                    {'time', 'threading'} & set(_imports(path)), path)
