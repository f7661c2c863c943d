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

from nova_quiesce.cuts import cutter
from nova_quiesce.nova import wrapper


def intercept(disk: typing.Any, cut: cutter.Cutter) -> None:
    """Have the cut of a disk made inside a freeze.

    :param disk: of Nova's RBD image back end
    :param cut: called with what creates the snapshot
    """
    disk.driver = Driver(disk.driver, disk.rbd_name, cut)


class Driver(wrapper.Wrapper[typing.Any]):
    """Nova's RBD driver, with the cut of one image made inside a freeze.

    :param driver: Nova's
    :param image: the name of the instance's RBD image
    :param cut: called with what creates the snapshot
    """

    def __init__(self, driver: typing.Any, image: str,
                 cut: cutter.Cutter) -> None:
        super().__init__(driver)
        self._image = image
        self._cut = cut

    def create_snap(self, volume: str, name: str, pool: str | None = None,
                    protect: bool = False) -> None:
        """Create a snapshot of an RBD image."""
        if volume != self._image:
            self._wrapped.create_snap(volume, name, pool=pool, protect=protect)
            return
        with rbd_utils.RBDVolumeProxy(
                self._wrapped, str(volume), pool=pool) as image:
            self._create(image, name)
            if protect and not image.is_protected_snap(name):
                image.protect_snap(name)

    def _create(self, image: typing.Any, name: str) -> None:
        try:
            self._cut(functools.partial(image.create_snap, name))
        except BaseException:
            # Nova removes only what it was told of.
            self._wrapped.remove_snap(self._image, name, ignore_errors=True)
            raise
