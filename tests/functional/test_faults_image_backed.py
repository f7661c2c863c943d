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

"""Faults of Nova's live snapshot while a guest is frozen, or about to be.

The policy makes no difference to them: Nova gives the snapshot up.
"""

from collections import abc
import typing
from unittest import mock

import fixtures
import libvirt
from nova import context
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import host

from tests.functional import base

DOMAIN = 'nova.tests.fixtures.libvirt.Domain.%s'
NO_JOB = "disk 'vda' does not have an active block job"
CALLS = ['fsInfo', 'fsFreeze', 'fsThaw']


def error_of(code: int, text: str) -> Exception:
    """Make an error of Nova's fake of libvirt, as its code sees it."""
    error: Exception = fakelibvirt.make_libvirtError(
        fakelibvirt.libvirtError, text, error_code=code,
        error_message=text)
    return error


class ImageBackedFaultTest(base.QuiesceTestBase):

    def setUp(self) -> None:
        super().setUp()
        self.server = self.boot(base.QUIESCED)

    def _assert_given_up(self, reason: str) -> None:
        image_id = self.create_image(self.server)
        self.assertNotIn(image_id, self.glance.images)
        self.assertEqual('ACTIVE', self.api.get_server(
            self.server['id'])['status'])
        self.assertIn(reason, self._instance_fault())
        self.assertEqual(1, self.persistent_domains())
        self.assert_released()

    def _instance_fault(self) -> str:
        """Read what an administrator is told."""
        cell = self.cell_mappings['cell1']
        with context.target_cell(context.get_admin_context(), cell) as admin:
            fault = objects.InstanceFault.get_latest_for_instance(
                admin, self.server['id'])
        return str(fault.details)

    def _fail_abort(self, error: Exception,
                    condition: abc.Callable[[], bool]) -> None:
        def fail() -> None:
            if condition():
                raise error

        self.on_abort = fail

    def _replace(self, name: str, answer: abc.Callable[..., object]) -> None:
        self.useFixture(fixtures.MonkeyPatch(DOMAIN % name, answer))

    def test_failing_abort(self) -> None:
        """E1: the mirror cannot be ended."""
        self._fail_abort(
            error_of(libvirt.VIR_ERR_OPERATION_TIMEOUT,
                     'cannot acquire state change lock'),
            lambda: self.guest.frozen)
        self._assert_given_up('cannot acquire state change lock')
        self.assertEqual([False, True], self.frozen_at_cut)
        self.assertEqual(CALLS, self.guest.calls)

    def test_failing_rebase(self) -> None:
        """E2: the mirror cannot be started."""
        self._replace('blockRebase', mock.Mock(side_effect=error_of(
            libvirt.VIR_ERR_OPERATION_FAILED, 'no space for a mirror')))
        self._fail_abort(error_of(libvirt.VIR_ERR_INVALID_ARG, NO_JOB),
                         lambda: True)
        self._assert_given_up('no space for a mirror')
        # There was nothing to cut, so nothing was frozen for it.
        self.assertEqual([False, False], self.frozen_at_cut)
        self.assertEqual(['fsInfo'], self.guest.calls)

    def test_job_that_dies_silently(self) -> None:
        """E3: the mirror ends half-way, and libvirt forgets it."""
        running = {'type': 2, 'bandwidth': 0, 'cur': 1, 'end': 2}
        answers: list[object] = []
        self._replace('blockRebase',
                      lambda *args, **kwargs: answers.append(running))
        self._replace('blockJobInfo', lambda domain, disk, flags:
                      answers.pop() if answers else {})
        self._fail_abort(error_of(libvirt.VIR_ERR_INVALID_ARG, NO_JOB),
                         lambda: self.guest.frozen)
        self._assert_given_up(NO_JOB)
        self.assertEqual([False, True], self.frozen_at_cut)
        self.assertEqual(CALLS, self.guest.calls)

    def _fail(self, name: str) -> list[bool]:
        """Have a step of Nova's fail, and note what guest it met."""
        met: list[bool] = []

        def fail(*args: object, **kwargs: object) -> typing.NoReturn:
            met.append(self.guest.frozen)
            raise OSError('%s failed as planned' % name)

        self.useFixture(fixtures.MonkeyPatch(name, fail))
        return met

    def test_failing_chown(self) -> None:
        """E4: the mirror's file cannot be taken over."""
        met = self._fail('nova.privsep.path.chown')
        self._assert_given_up('chown failed as planned')
        self.assertEqual([False], met)
        self.assertEqual(CALLS, self.guest.calls)

    def test_failing_definition(self) -> None:
        """E5: the domain cannot be defined again at once."""
        define = host.Host.write_instance_config
        met: list[bool] = []

        def fail_once(*args: object) -> object:
            met.append(self.guest.frozen)
            if len(met) == 1:
                raise OSError('write_instance_config failed as planned')
            return define(*args)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.host.Host.write_instance_config', fail_once))
        self._assert_given_up('write_instance_config failed as planned')
        self.assertEqual([False, False], met)
        self.assertEqual(CALLS, self.guest.calls)

    def test_instance_that_vanishes(self) -> None:
        """The instance is gone by the time that the mirror is ended."""
        def vanish() -> None:
            if self.guest.frozen:
                self.guest.frozen = False
                self.guest.defined = False
                raise error_of(libvirt.VIR_ERR_NO_DOMAIN, 'no domain')

        self.on_abort = vanish
        # Nova leaves the task state of an instance that disappeared.
        image_id = self.ask_for_image(self.server)
        self.wait_until(lambda: image_id not in self.glance.images,
                        'the image is still there')
        self.assertFalse(self.leases.read_all()[0])
