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

"""Whether a domain has an agent channel, from its description."""

import unittest
from unittest import mock

from nova.virt.libvirt import config
from nova.virt.libvirt import driver

from nova_quiesce.freeze import agent_channel

DOMAIN = '<domain><devices>%s</devices></domain>'
CHANNEL = ("<channel type='unix'><source mode='bind' path='/s'/>"
           "<target type='%s' name='%s'/></channel>")


class ChannelTest(unittest.TestCase):

    def _has(self, *channels: str) -> bool | None:
        return agent_channel.has_agent_channel(DOMAIN % ''.join(channels))

    def test_as_nova_defines_it(self) -> None:
        guest = config.LibvirtConfigGuest()
        guest.virt_type = 'kvm'
        instance = mock.Mock()
        instance.name = 'instance-1'
        driver.LibvirtDriver._add_qga_device(None, guest, instance)
        self.assertTrue(agent_channel.has_agent_channel(guest.to_xml()))

    def test_as_libvirt_tells_it(self) -> None:
        self.assertTrue(self._has(
            CHANNEL % ('virtio', 'com.redhat.spice.0'),
            "<channel type='unix'>"
            "<source mode='bind' path='/var/lib/libvirt/qemu/f16x86_64.a'/>"
            "<target type='virtio' name='org.qemu.guest_agent.0' "
            "state='connected'/><alias name='channel0'/>"
            "<address type='virtio-serial' controller='0' bus='0' port='1'/>"
            '</channel>'))

    def test_none(self) -> None:
        self.assertFalse(self._has())

    def test_channels_for_something_else(self) -> None:
        self.assertFalse(self._has(
            CHANNEL % ('virtio', 'com.redhat.spice.0'),
            CHANNEL % ('guestfwd', 'org.qemu.guest_agent.0'),
            CHANNEL % ('virtio', 'org.qemu.guest_agent.1')))

    def test_the_name_elsewhere(self) -> None:
        self.assertFalse(agent_channel.has_agent_channel(
            "<domain><metadata><devices><channel><target type='virtio' "
            "name='org.qemu.guest_agent.0'/></channel></devices></metadata>"
            '</domain>'))

    def test_what_is_no_description(self) -> None:
        for text in ('', 'banana', '<domain>'):
            self.assertIsNone(agent_channel.has_agent_channel(text))
