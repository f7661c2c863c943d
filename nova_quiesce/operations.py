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

"""Other operations on instances whose guests may be frozen.

While volumes are snapshotted, Nova sets no task state, so any other operation
can begin. A guest that is paused, migrated or asked to shut down while its
filesystems are frozen stays frozen, or is cut off hard. So it is thawed
first; the snapshot in progress loses its consistency, and says so. Where that
cannot be confirmed, or a freeze may still land, the guest does not leave this
host: nobody would own it there.
"""

from collections import abc

from nova import exception as nova_exception
from oslo_log import log as logging

from nova_quiesce.freeze import freezer
from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)

#: The object of those operations that a volume is the object of.
VOLUME = 'a volume of the instance'
_MAY_BE_FROZEN = (
    "the guest's filesystems may be frozen for a snapshot, and their thaw is "
    'not confirmed; try again in a minute, or restart qemu-guest-agent inside '
    'the instance')


class Operations:
    """Ends a freeze before, or with, what would meet it.

    :param freezer: knows which guests are frozen, or may be
    """

    def __init__(self, freezer: freezer.Freezer) -> None:
        self._freezer = freezer

    def lapse(self, instance: seams.Instance, operation: str,
              what: str = 'the instance') -> None:
        """End the freeze of a guest that another operation would meet.

        :param instance: whose guest
        :param operation: what ends it, as a participle, for the record
        :param what: what is operated on
        """
        self._freezer.spanning.lapse(
            instance.uuid,
            '%s was %s during the snapshot' % (what, operation))

    def check_may_leave(self, instance: seams.Instance) -> None:
        """See that an instance's guest can be migrated away.

        :param instance: which
        :raises MigrationPreCheckError: its guest may be frozen
        """
        self.lapse(instance, 'migrated')
        if self._freezer.may_be_frozen(instance.uuid):
            raise nova_exception.MigrationPreCheckError(reason=_MAY_BE_FROZEN)

    def migrate(self, instance: seams.Instance,
                go: abc.Callable[[], None],
                stay: abc.Callable[[], object]) -> None:
        """Migrate a running instance, unless its guest may be frozen.

        :param instance: which
        :param go: migrates it
        :param stay: puts all back as it was
        """
        with self._freezer.barred(instance.uuid, 'is being live-migrated'):
            self.lapse(instance, 'migrated')
            if not self._freezer.may_be_frozen(instance.uuid):
                go()
                return
            # It was frozen after the check. An error would put the instance
            # into an error state.
            LOG.error('The instance is not migrated: %s', _MAY_BE_FROZEN,
                      instance=instance)
            stay()

    def receive(self, instance: seams.Instance) -> None:
        """Thaw a guest that has come here frozen. Never raises.

        :param instance: whose guest
        """
        self._freezer.receive(instance.uuid, instance.name)
