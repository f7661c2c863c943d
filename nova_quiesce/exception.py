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

"""The errors of snapshots, besides those that the freeze itself can meet.

These classes, and those of :mod:`nova_quiesce.freeze.errors`, stay inside this
package: an error that crosses Nova's RPC has to be one of Nova's own, or
nova-api answers 500 instead of 409 (it allows only its own modules).
"""

from nova_quiesce.freeze import errors


class NotRequested(errors.NotFrozen):
    """The policy asks for no quiesce; the text says why."""


class GivenUp(errors.NotFrozen):
    """nova-api does not wait for the freeze any more."""

    def __init__(self) -> None:
        super().__init__(
            'the request gave up before the filesystems were frozen; try '
            'again')


class JobUnderWay(errors.QuiesceError):
    """A job that libvirt does for others is in the way of the cut."""

    def __init__(self, job: str) -> None:
        super().__init__(
            "%s is under way on this instance's disk; try again when it has "
            'ended' % job)


class JobLeftBehind(errors.QuiesceError):
    """A job of an earlier snapshot is in the way, and does not end."""

    def __init__(self) -> None:
        super().__init__(
            'a backup job that an earlier snapshot of this instance left '
            'behind does not end; try again, or ask the operator, whose log '
            'tells why')


class DiskNotCopied(errors.QuiesceError):
    """The cut was made, and could not be copied into an image."""

    def __init__(self) -> None:
        super().__init__(
            "the instance's disk was not copied into an image; try again, or "
            'ask the operator, whose log tells why')
