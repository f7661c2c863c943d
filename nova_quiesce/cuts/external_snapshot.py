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

"""The cut of an assisted volume snapshot: libvirt's external snapshot.

Cinder has Nova snapshot volumes that are files (NFS and the like) while they
are in use. Nova leaves the freeze to libvirt, whose own has no time limit and
fails where the guest is frozen already. Here, Nova's code gets a wrapped
guest, so that the freeze is this package's.
"""

import functools
import typing

from oslo_log import log as logging

from nova_quiesce.cuts import cutter
from nova_quiesce.nova import wrapper

LOG = logging.getLogger(__name__)


class Guest(typing.Protocol):
    """The part of Nova's libvirt ``Guest`` that is replaced here."""

    def snapshot(self, *args: object, **kwargs: object) -> None:
        """Have the guest go on in new files, based on the present ones."""


class SnapshottedGuest(wrapper.Wrapper[Guest]):
    """A guest whose volumes are snapshotted by a cutter.

    Once libvirt has made a snapshot, the guest writes to its new files. Cinder
    has to know them as the active ones, so nothing is raised from then on.

    :param guest: Nova's guest, which answers everything else
    :param cut: called with libvirt's snapshot, without a freeze in it
    """

    def __init__(self, guest: Guest, cut: cutter.Cutter) -> None:
        super().__init__(guest)
        self._cut = cut
        self._is_made = False
        self._failure: Exception | None = None

    def snapshot(self, *args: object, **kwargs: object) -> None:
        """Snapshot the volume, once."""
        if self._failure is not None:
            # Nova tries again without a freeze, which is not what failed.
            raise self._failure
        try:
            self._cut(functools.partial(
                self._make, *args, **{**kwargs, 'quiesce': False}))
        except Exception as error:
            if not self._is_made:
                self._failure = error
                raise
            LOG.exception('A volume snapshot is kept, because libvirt made '
                          'it before this error')

    def _make(self, *args: object, **kwargs: object) -> None:
        self._wrapped.snapshot(*args, **kwargs)
        self._is_made = True
