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

"""Nova's fake of Cinder, with what its own tests do not need."""

from collections import abc
import datetime

import fixtures
from nova.tests import fixtures as nova_fixtures

#: Of a second disk.
DATA_VOLUME = '7d1c2f0e-52c3-4c35-8e1b-3c1f6d0b7a10'


class CinderFixture(nova_fixtures.CinderFixture):  # type: ignore[misc]
    """Cinder, with what the driver reads, and with faults.

    :ivar image_properties: of the image that each volume was made of
    :ivar on_snapshot: called as Cinder is asked for a snapshot
    :ivar is_stuck: whether snapshots stay in state creating
    """

    def __init__(self, test: object) -> None:
        super().__init__(test)
        self.image_properties: dict[str, str] = {}
        self.on_snapshot: abc.Callable[[], None] = lambda: None
        self.is_stuck = False

    def fake_get(self, *args: object, **kwargs: object) -> dict[str, object]:
        """Show a volume."""
        volume: dict[str, object] = super().fake_get(*args, **kwargs)
        volume['display_description'] = ''
        volume['volume_image_metadata'] = dict(self.image_properties)
        return volume

    def fake_create_snapshot_force(self, *args: object) -> dict[str, object]:
        """Start a snapshot."""
        self.on_snapshot()
        snapshot: dict[str, object] = super().fake_create_snapshot_force(*args)
        # Cinder tells UTC, and does not say so.
        snapshot['created_at'] = datetime.datetime.now(
            datetime.UTC).replace(tzinfo=None).isoformat()
        return snapshot

    def setUp(self) -> None:
        super().setUp()
        self.labels: dict[str, dict[str, str]] = {}
        self.useFixture(fixtures.MonkeyPatch(
            'nova_quiesce.record.volume_snapshots.record',
            lambda context, snapshot_id, properties:
            self.labels.update({snapshot_id: properties})))

    def fake_get_snapshot(self, context: object,
                          snapshot_id: str) -> dict[str, object]:
        """Show a snapshot, which is available as soon as it is looked at."""
        if not self.is_stuck:
            super().fake_get_snapshot(context, snapshot_id)
        snapshot: dict[str, object] = self.volume_snapshots[snapshot_id]
        return snapshot
