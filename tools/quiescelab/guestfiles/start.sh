#!/bin/sh
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

# Run once by init, before the services.

mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs tmpfs /tmp
# All that a restarted agent needs: mkdir would wait for a frozen root.
mkdir -p /run/quiesce /dev/virtio-ports /dev/pts
mount -t devpts devpts /dev/pts
hostname quiesce-guest

# Lets "echo j > /proc/sysrq-trigger" thaw a guest whose agent is gone.
echo 1 > /proc/sys/kernel/sysrq

if [ -b /dev/vdb ]; then
    mount -t ext4 -o noatime /dev/vdb /data 2> /dev/null ||
        echo "quiesce-guest: no ext4 on /dev/vdb, /data is not mounted"
fi
read -r up _ < /proc/uptime
echo "quiesce-guest: started after $up s"
