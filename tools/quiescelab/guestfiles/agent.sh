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

# Runs the guest agent for init, unless it is held down, or the kernel was
# told quiesce.agent=off.
#
# usage: agent run | hold SECONDS | release

hold=/run/quiesce/agent-hold
port=org.qemu.guest_agent.0

uptime_seconds() {
    read -r up _ < /proc/uptime
    echo "${up%.*}"
}

held() {
    [ -f "$hold" ] || return 1
    read -r deadline < "$hold"
    [ "$(uptime_seconds)" -lt "$deadline" ]
}

# Without udev nobody names the ports.
link_port() {
    for name in /sys/class/virtio-ports/*/name; do
        [ "$(cat "$name" 2> /dev/null)" = "$port" ] || continue
        device=${name%/name}
        ln -sf "/dev/${device##*/}" "/dev/virtio-ports/$port"
        return 0
    done
    return 1
}

run() {
    while grep -qw quiesce.agent=off /proc/cmdline; do
        sleep 3600
    done
    while held; do
        usleep 200000
    done
    rm -f "$hold"
    until link_port; do
        sleep 1
    done
    # Its state belongs on tmpfs: it writes it while the root is frozen. What
    # stands in the file with options is meant to be split.
    # shellcheck disable=SC2046
    exec /usr/sbin/qemu-ga -m virtio-serial -p "/dev/virtio-ports/$port" \
        -t /run -F/etc/qemu/fsfreeze-hook \
        $(cat /run/quiesce/agent-options 2> /dev/null)
}

case "$1" in
    run)
        run
        ;;
    hold)
        # A limit in any case: a test that dies leaves no dead guest behind.
        echo "$(($(uptime_seconds) + $2))" > "$hold.new"
        mv "$hold.new" "$hold"
        killall -9 qemu-ga
        ;;
    release)
        rm -f "$hold"
        ;;
    *)
        echo "usage: agent run | hold SECONDS | release" >&2
        exit 2
        ;;
esac
