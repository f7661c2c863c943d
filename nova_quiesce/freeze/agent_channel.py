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

"""The channel of a domain that a guest agent can listen on."""

from xml.etree import ElementTree

_TARGET = './devices/channel/target'
# libvirt takes the channel of this type and name for its own.
_AGENT = ('virtio', 'org.qemu.guest_agent.0')


def has_agent_channel(domain_xml: str) -> bool | None:
    """Tell whether a domain has a guest agent channel.

    A property of its image tells only what Nova was asked for; the domain
    was defined when the instance was booted last, and may be older.

    :param domain_xml: libvirt's description of the domain
    :returns: None where the description cannot be read
    """
    try:
        domain = ElementTree.fromstring(domain_xml)
    except ElementTree.ParseError:
        return None
    return any((target.get('type'), target.get('name')) == _AGENT
               for target in domain.iterfind(_TARGET))
