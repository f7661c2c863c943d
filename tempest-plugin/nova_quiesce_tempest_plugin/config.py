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

"""The ``[quiesce]`` options of ``tempest.conf``."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'quiesce',
    title='Quiesced snapshots',
    help="""
What the scenarios of nova-quiesce need to know of the cloud that they run
against.
""")

OPTS = [
    cfg.StrOpt(
        'image_ref',
        help="""
The ID of an image whose guest runs qemu-guest-agent, and writes.

The scenarios boot servers from private copies of it, with the properties that
each of them is about; other properties of the image that start with ``hw_``
are kept. The guest has to append to a file on its root filesystem all the
time, and to print on its serial console how far it is; see
``progress_pattern``. There is no default: the scenarios fail without it.
"""),
    cfg.StrOpt(
        'image_without_agent_ref',
        help="""
The ID of an image whose guest does not run qemu-guest-agent, and writes as
that of ``image_ref`` does.

It stands for a guest whose agent is dead: the server has a channel to an
agent, and nobody answers. There is no default: the scenarios fail without it.
"""),
    cfg.StrOpt(
        'flavor_ref',
        help="""
The ID of the flavor of the scenarios' servers, which the guests have to fit.
By default it is that of ``[compute] flavor_ref``, which may have less memory
than they need.
"""),
    cfg.BoolOpt(
        'volume_backed',
        default=True,
        help="""
Whether to snapshot servers whose root disk is a volume. If not, those
scenarios are skipped; so they are where ``[service_available] cinder`` is
off.
"""),
    cfg.StrOpt(
        'progress_pattern',
        default=r'quiesce-writer (\d+)\r?\n',
        help="""
What the guests print once a write is on their disk: a regular expression with
one group, which is a number that grows. The last match in a server's console
output counts. The default is what the guest image prints that nova-quiesce's
own tests use.
"""),
    cfg.IntOpt(
        'guest_timeout',
        default=300,
        min=1,
        help="""
How many seconds a guest may take until it writes, after its server is active
or after its snapshot. Without KVM, booting takes most of it.
"""),
    cfg.IntOpt(
        'agent_start_time',
        default=10,
        min=0,
        help="""
How many seconds after its first write a guest's agent answers at the latest.

No API tells a tenant whether an agent answers, so the scenarios wait as long
as this before the first snapshot of a healthy guest.
"""),
    cfg.IntOpt(
        'record_timeout',
        default=60,
        min=1,
        help="""
How many seconds the record of a volume-backed snapshot may take. It is
written to an image that is active already.
"""),
]
