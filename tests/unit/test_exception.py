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

"""What a tenant is told: it fits, and following it does no harm."""

from collections import abc
import inspect
import typing
import unittest

from nova_quiesce import exception
from nova_quiesce.freeze import errors
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze import leases
from nova_quiesce.freeze import watched_lease
from nova_quiesce import policy
from nova_quiesce.record import action_events

#: What an argument may be at most.
MOUNTPOINT = '/' + 'x' * 60
#: What an agent refuses, as libvirt passes it on.
AGENT_SAID = ("internal error: unable to execute QEMU agent command "
              "'guest-fsfreeze-freeze': Command guest-fsfreeze-freeze has "
              'been disabled')
ARGUMENTS: dict[type, tuple[typing.Any, ...]] = {
    errors.AgentUnresponsive: (600,),
    errors.Barred: ('is being live-migrated',),
    errors.FreezeForbidden: (AGENT_SAID,),
    errors.FreezeRefused: (AGENT_SAID,),
    errors.TooFewFrozen: (185 * 'x', 1),
    errors.FreezeTimedOut: (600,),
    errors.UnknownMountpoint: (MOUNTPOINT,),
    errors.WindowBusy: ('req-' + 36 * 'x',),
    leases.LeaseHeld: (('req-' + 36 * 'x',),),
}
#: What costs a tenant data, or is not a tenant's to do.
HARMFUL = ('rebuild', 'nova-quiesce', 'reset', 'reboot', 'delete', 'recreate',
           'new server', 'fsfreeze -u', 'nova-manage')


def _with_a_text_of_their_own() -> abc.Iterator[type[Exception]]:
    for module in (errors, exception, guard_client, watched_lease, leases):
        for _, found in inspect.getmembers(module, inspect.isclass):
            if '__init__' in vars(found) and issubclass(
                    found, errors.NotFrozen | errors.MaybeFrozen |
                    exception.DiskNotCopied):
                yield found


class TextTest(unittest.TestCase):

    def _texts(self) -> abc.Iterator[str]:
        for found in _with_a_text_of_their_own():
            yield str(found(*ARGUMENTS.get(found, ())))
        yield from policy._STANDING_STILL.values()
        yield policy._NO_MOUNTPOINTS

    def test_all_are_looked_at(self) -> None:
        self.assertLess(15, len(list(self._texts())))

    def test_following_it_does_no_harm(self) -> None:
        for text in self._texts():
            for harmful in HARMFUL:
                self.assertNotIn(harmful, text)

    def test_is_whole_as_the_name_of_an_event(self) -> None:
        for text in self._texts():
            self.assertLess(len('quiesce_failed: ' + text),
                            action_events.LONGEST_NAME, text)
