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
"""Reading a disk's export as an image, from its first byte to its last.

A process of its own, so that what it costs to go through a disk is not paid
by nova-compute. It needs the standard library and ``qemu-img``, knows nothing
of Nova, and tells what it is asked for on its standard output: how many bytes
the image has, as 8 bytes in network order, and the image.
"""
