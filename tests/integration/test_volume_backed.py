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

"""``nova image-create`` of volume-backed servers, on real parts."""

import time

from quiescelab import errors
from quiescelab import tenant

from tests.integration import base


#: A record that was written at once was lost in one of eight.
TRIES = 5


class RequiredTest(base.LabTestCase):
    """The volume's image sets both properties."""

    from_volume = True

    def test_healthy(self) -> None:
        taken = self.snapshot()
        record = self.record_of(taken)
        self.assertEqual('filesystem', record['consistency'], record)
        self.assertEqual('1', record['filesystems'])
        self.assertEqual(base.ONE_EACH, taken.sent)
        self.assertFalse(self.needs_recovery(taken))

    def test_dead_agent(self) -> None:
        self.guest.hold_agent(120)
        try:
            with self.assertRaises(errors.LabError) as caught:
                self.user.act(self.server, 'createImage', {'name': 'never'})
        finally:
            self.guest.release_agent()
        self.assertIn(': 409 ', str(caught.exception))
        self.assertIn('install and start qemu-guest-agent',
                      str(caught.exception))
        self.assertEqual([], self.user.images_named('never'))

    def test_failing_hook(self) -> None:
        self.guest.set_hook(freeze_fail=7)
        self.addCleanup(self.guest.set_hook)
        with self.assertRaises(errors.LabError) as caught:
            self.user.act(self.server, 'createImage', {'name': 'never'})
        self.assertIn(': 409 ', str(caught.exception))
        self.assertIn('status 7', str(caught.exception))
        self.assertEqual([], self.user.images_named('never'))

    def test_one_is_frozen_by_somebody_else(self) -> None:
        where = self.mount_another()
        self.guest.run('fsfreeze --freeze %s' % where)
        with self.assertRaises(errors.LabError) as caught:
            self.user.act(self.server, 'createImage', {'name': 'never'})
        self.assertIn(': 409 ', str(caught.exception))
        self.assertIn('froze only 1 of these 2', str(caught.exception))
        self.assertEqual([], self.user.images_named('never'))


class PreferredTest(base.LabTestCase):
    """The volume's image sets hw_qemu_guest_agent alone."""

    image = 'test-volume-preferred'
    from_volume = True

    @classmethod
    def setUpClass(cls) -> None:
        user = tenant.Tenant(cls.find_lab())
        user.upload(cls.image, hw_qemu_guest_agent='yes')
        cls.addClassCleanup(lambda: user.remove_image(
            user.image_named(cls.image)))
        super().setUpClass()

    def test_dead_agent(self) -> None:
        self.guest.hold_agent(120)
        try:
            taken = self.snapshot()
        finally:
            self.guest.release_agent()
        record = self.record_of(taken)
        self.assertEqual('crash', record['consistency'])
        self.assertIn('not connected', record['reason'])
        self.assertTrue(self.needs_recovery(taken))

    def test_record_stays_where_it_comes_early(self) -> None:
        """nova-api still ends its upload as the record could be written."""
        self.guest.hold_agent(120)
        self.addCleanup(self.guest.release_agent)
        for _ in range(TRIES):
            taken = self.snapshot()
            record = self.record_of(taken)
            assert taken.image is not None
            time.sleep(0.5)
            self.assertEqual(record, self.user.record(taken.image['id']))
