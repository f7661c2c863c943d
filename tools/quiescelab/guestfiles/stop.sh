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

# Run once by init, before it powers off or reboots.

# Real systems record each shutdown (wtmp, random seed), and so cannot stop
# while frozen. The agent still runs here: a thaw lets the shutdown go on.
read -r up _ < /proc/uptime
echo "stopped after $up s" >> /var/log/shutdown
sync

# Everything but init and this shell, so that nothing holds a file open.
kill -TERM -1
usleep 200000
kill -KILL -1
umount /data 2> /dev/null
mount -o remount,ro / || echo "quiesce-guest: / is still in use"
