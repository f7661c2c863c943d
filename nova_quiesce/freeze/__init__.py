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

"""The freeze: guests are frozen, and never left so, whatever dies.

Here is all that freezes and thaws a guest, and all that outlives this process
so that a thaw follows. What a frozen guest is good for (cuts, copies, records)
is not. It knows libvirt and nothing of Nova. It may import the standard
library and libvirt's Python module, and nothing else of ``nova_quiesce``.
Clocks and threads come from ``machines``, so that it can be simulated.

the way in
    ``freezer`` has the parts of one nova-compute, and makes agents and
    windows

the guest's agent
    ``guest_agent`` asks, freezes and thaws; ``agent_commands`` sends one
    command, with a limit of ``response_limits``; ``frozen_state`` asks whether
    the guest is frozen; ``replies`` classifies the answers; ``filesystems``
    compares what was frozen with what there is; ``agent_channel`` sees whether
    there can be an agent; ``texts`` makes the guest's texts fit to be shown

the freeze window
    ``windows`` freezes, keeps the deadline and thaws; ``window_thaw`` and
    ``thawing`` go on until the guest is proven to be thawed;
    ``spanning_windows`` keeps windows open from one call to a later one;
    ``proof`` is what a window shows

what outlives this process
    ``leases`` and ``lease_directory``, ``duties``, on ``files``;
    ``watched_lease`` joins a lease and the guard; ``guard`` is a process that
    thaws if this one cannot; ``recovery`` thaws at the next start

backup jobs
    ``jobs`` ends one; ``leased_jobs`` sees to it that each has an owner

libvirt, the machine, and what may fail
    ``domains``, ``finder``, ``machines``, ``errors``
"""
