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

# The agent calls this with "freeze" before it freezes and with "thaw" after
# it thawed. Knobs in /run/quiesce: {freeze,thaw}-delay (seconds) and
# {freeze,thaw}-fail (exit status). One line per call that came to its end:
# action, uptime at the begin and at the end in seconds, exit status.

knobs=/run/quiesce
action=$1
read -r begin _ < /proc/uptime

knob() {
    value=0
    if [ -f "$knobs/$action-$1" ]; then
        read -r value < "$knobs/$action-$1"
    fi
    echo "$value"
}

delay=$(knob delay)
status=$(knob fail)
[ "$delay" = 0 ] || sleep "$delay"
read -r end _ < /proc/uptime
echo "$action $begin $end $status" >> "$knobs/hook.log"
exit "$status"
