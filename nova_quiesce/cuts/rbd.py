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
"""The cut of a disk in Ceph: creating a snapshot of its RBD image.

Nova creates the snapshot, protects it, clones and flattens it, in this order.
Only the first is the cut. The connection to the cluster is made before the
guest is frozen.
"""

import functools
import typing

from nova.storage import rbd_utils

from nova_quiesce.cuts import backup_job


class Driver:
    """Nova's RBD driver, with the cut of one image handed to a cutter.

    :param driver: Nova's
    :param image: the name of the instance's RBD image
    :param cutter: called with what creates the snapshot
    """

    def __init__(self, driver: typing.Any, image: str,
                 cutter: backup_job.Cutter) -> None:
        self._driver = driver
        self._image = image
        self._cutter = cutter

    def create_snap(self, volume: str, name: str, pool: str | None = None,
                    protect: bool = False) -> None:
        """Create a snapshot of an RBD image."""
        if volume != self._image:
            self._driver.create_snap(volume, name, pool=pool, protect=protect)
            return
        with rbd_utils.RBDVolumeProxy(
                self._driver, str(volume), pool=pool) as image:
            self._cut(image, name)
            if protect and not image.is_protected_snap(name):
                image.protect_snap(name)

    def _cut(self, image: typing.Any, name: str) -> None:
        try:
            self._cutter(functools.partial(image.create_snap, name))
        except BaseException:
            # Nova removes only what it was told of.
            self._driver.remove_snap(self._image, name, ignore_errors=True)
            raise

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)
