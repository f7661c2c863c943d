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

"""The evidence that a guest which is off had shut itself down.

Only then is its disk whole without a freeze, and its snapshot ``offline``.
What tells of the end of a guest belongs in here, and nothing that ends one.
Imports :mod:`nova_quiesce.freeze`, and from Nova what opens a disk.

``shutdowns``
    The judgement: whether a guest that is off had shut itself down.
``domain_events``
    The events of libvirt's domains, kept in order until they are handled.
``notes``
    The files that outlast libvirtd's and nova-compute's memory.
``traces``
    The trace that a write leaves on a disk; a kind of disk is added here.
"""
