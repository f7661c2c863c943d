#!/bin/busybox sh
# shellcheck shell=sh
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

# The initramfs: loads the drivers and hands over to the root filesystem.

export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /newroot
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do
    insmod "/modules/$module"
done < /modules/order

# The disk's driver probes in the background.
tries=0
until [ -b /dev/vda2 ] || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1))
    usleep 100000
done

# noatime: a read must never wait for a frozen filesystem.
if ! mount -t ext4 -o noatime /dev/vda2 /newroot; then
    echo "quiesce-guest: no ext4 on /dev/vda2, a shell instead"
    exec sh
fi
mount --move /dev /newroot/dev
mount --move /proc /newroot/proc
mount --move /sys /newroot/sys
exec switch_root /newroot /sbin/init
