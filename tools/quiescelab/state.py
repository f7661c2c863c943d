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

"""The lab's memory between commands, in one small JSON file."""

import json
import os
import pathlib
import secrets
import threading
import uuid


class State:
    """Passwords, choices and finished steps, kept on disk.

    :param path: the file; it need not exist yet
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._lock = threading.RLock()
        self._values: dict[str, str] = {}
        if path.exists():
            self._values = json.loads(path.read_text())

    def get(self, key: str) -> str | None:
        """Return what is kept under a key, or None."""
        with self._lock:
            return self._values.get(key)

    def set(self, key: str, value: str) -> None:
        """Keep a value, on disk before this returns."""
        with self._lock:
            if self._values.get(key) != value:
                self._values[key] = value
                self._save()

    def password(self, owner: str) -> str:
        """Return the owner's password, made up at the first call."""
        return self._once(f'password:{owner}', secrets.token_hex(12))

    def uuid(self, owner: str) -> str:
        """Return the owner's UUID, made up at the first call."""
        return self._once(f'uuid:{owner}', str(uuid.uuid4()))

    def done(self, step: str, version: str = 'yes') -> bool:
        """Tell whether a step was finished, for this very version."""
        return self.get(f'done:{step}') == version

    def mark(self, step: str, version: str = 'yes') -> None:
        """Remember that a step is finished."""
        self.set(f'done:{step}', version)

    def _once(self, key: str, fresh: str) -> str:
        with self._lock:
            if key not in self._values:
                self.set(key, fresh)
            return self._values[key]

    def _save(self) -> None:
        temporary = self._path.with_suffix('.new')
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                             0o600)
        with os.fdopen(descriptor, 'w') as stream:
            json.dump(self._values, stream, indent=1, sort_keys=True)
        temporary.replace(self._path)
