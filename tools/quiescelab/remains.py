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

"""What a compute host has on its disk of snapshots that are not over."""

import os
import pathlib

from quiescelab import lab as running


def leases(host: running.Host) -> list[str]:
    """Return the ids of the instances that may be frozen, by their leases."""
    return [name.partition('.')[0] for name in os.listdir(notes(host))
            if name.endswith('.lease')]


def duties(host: running.Host) -> list[str]:
    """Return what requests still owe, by their files."""
    return os.listdir(notes(host) / 'duties')


def scratch(host: running.Host) -> list[pathlib.Path]:
    """Return the directories of backup jobs."""
    return list(snapshots(host).glob('quiesce-*'))


def snapshots(host: running.Host) -> pathlib.Path:
    """Return the directory in which snapshots are made."""
    return host.paths.data('nova') / 'instances' / 'snapshots'


def notes(host: running.Host) -> pathlib.Path:
    """Return the directory of leases and duties."""
    return host.paths.data('nova') / 'quiesce'
