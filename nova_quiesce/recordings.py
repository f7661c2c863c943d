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

"""The records of volume-backed snapshots that are being made."""

import threading

from oslo_log import log as logging

from nova_quiesce import volume_record

LOG = logging.getLogger(__name__)


class Recordings:
    """Records on volume-backed snapshots without making anyone wait.

    At most one of an instance: where a request failed and made no image, the
    image of the next one must not get its record.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._superseded: dict[str, threading.Event] = {}

    def supersede(self, instance_uuid: str) -> None:
        """Stop looking for the image of an earlier request.

        :param instance_uuid: whose
        """
        with self._lock:
            superseded = self._superseded.pop(instance_uuid, None)
        if superseded is not None:
            superseded.set()

    def start(self, instance_uuid: str, recorder: volume_record.Recorder,
              proven: volume_record.Proven, timeout: float) -> None:
        """Record in the background.

        :param instance_uuid: whose snapshot it is
        :param recorder: knows which image
        :param proven: what is proven
        :param timeout: seconds to look for the image; 0 records nothing
        """
        self.supersede(instance_uuid)
        superseded = threading.Event()
        with self._lock:
            self._superseded[instance_uuid] = superseded
        threading.Thread(
            target=self._run, daemon=True, name='record-%s' % instance_uuid,
            args=(instance_uuid, recorder, proven, timeout,
                  superseded)).start()

    def stop(self) -> None:
        """Stop looking for any image."""
        with self._lock:
            everything = list(self._superseded.values())
            self._superseded.clear()
        for superseded in everything:
            superseded.set()

    def _run(self, instance_uuid: str, recorder: volume_record.Recorder,
             proven: volume_record.Proven, timeout: float,
             superseded: threading.Event) -> None:
        try:
            written = recorder.record(proven, timeout, superseded)
        except Exception:
            LOG.exception('The consistency level %(level)s of a '
                          'volume-backed snapshot of instance %(uuid)s was '
                          'not recorded', {'level': proven.record.level.value,
                                           'uuid': instance_uuid})
            return
        finally:
            with self._lock:
                if self._superseded.get(instance_uuid) is superseded:
                    del self._superseded[instance_uuid]
        if written is None:
            LOG.info('No image of a volume-backed snapshot of instance %s '
                     'was found to record its consistency level on',
                     instance_uuid)
            return
        LOG.info('Volume-backed snapshot of instance %(uuid)s has '
                 'consistency level %(level)s: %(reason)s',
                 {'uuid': instance_uuid, 'level': written.level.value,
                  'reason': written.reason})
