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

# A program in place of the guest agent, which answers as a tenant might who
# means harm. It freezes nothing. It prints the number of its answers on the
# console.
#
# usage: hostile-agent SEED, which is the number of its first answer

number=$1
port=/dev/virtio-ports/org.qemu.guest_agent.0
# An answer is one line.
ROOT='{"return": [{"name": "vda2", "mountpoint": "/", "type": "ext4",'\
' "disk": []}]}'

say() {
    printf '%s\n' "$1" >&3
}

# One process at a time has the port; the one before may be about to end. A
# shell ends where this fails.
open_port() {
    until (exec 3<>"$port") 2> /dev/null; do
        usleep 100000
    done
    exec 3<>"$port"
}

# As many bytes of one letter.
flood() {
    head -c "$1" /dev/zero | tr '\0' x >&3
}

# After what it takes for an error, libvirt asks nothing more, until this end
# was closed and opened.
reopen() {
    exec 3>&-
    open_port
}

deep() {
    head -c "$1" /dev/zero | tr '\0' '[' >&3
}

# What libvirt sends first, to find out whether the agent is in step.
synchronize() {
    id=${1##*\"id\":}
    id=${id%%[!0-9]*}
    case $((number % 23)) in
        7) say "{\"return\": $((id + 1))}"; return 1 ;;
        13) say '{"return": "in step"}'; return 1 ;;
        19) sleep 6; return 1 ;;
        *)
            # libvirt takes the byte for garbage where it did not ask for it.
            case $1 in *guest-sync-delimited*) printf '\377' >&3 ;; esac
            say "{\"return\": $id}"
            ;;
    esac
}

# Each kind of question has its own right answer, which is one of many.
right() {
    case $1 in
        *fsfreeze-freeze*) say '{"return": 1}' ;;
        *fsfreeze-thaw*) say '{"return": 1}' ;;
        *fsfreeze-status*) say '{"return": "thawed"}' ;;
        *get-fsinfo*)
            say "$ROOT"
            ;;
        *) say '{"return": {}}' ;;
    esac
}

answer() {
    case $((number * 7 % 29)) in
        0) say '{"return": -1}' ;;
        1) say '{"return": 99999999999999999999}' ;;
        2) say '{"return": 2147483647}' ;;
        3) say '{"return": []}' ;;
        4) say '{"return": {"a": null}}' ;;
        5) say '{"return": "1"}' ;;
        6) say '{"error": {"class": "GenericError", "desc": ""}}' ;;
        7) say '{"error": "no"}' ;;
        8) say '{"error": {"class": "GenericError", "desc":
            "QEMU guest agent is not connected"}}' ;;
        9) say '{"error": {"class": "CommandNotFound", "desc":
            "The command guest-fsfreeze-freeze has been disabled"}}' ;;
        10)
            printf '{"error": {"class": "GenericError", "desc": "' >&3
            flood 4194304
            say '"}}'
            ;;
        11)
            printf '{"return": [' >&3
            flood 10485760
            say ']}'
            ;;
        12) deep 100000; say '' ;;
        13) printf '{"return":' >&3 ;;
        14) sleep 4 ;;
        15) head -c 4096 /dev/urandom >&3; say '' ;;
        16) right "$1"; right "$1"; right "$1" ;;
        17) sleep 3; right "$1" ;;
        18) say '{"event": "RESET"}'; right "$1" ;;
        19) flood 20971520 ;;
        20) say '{"return": [{"name": "\u0000\u001b[2J", "mountpoint":
            "/\n/x", "type": "ext4", "disk": [{"dev": "../../x"}]}]}' ;;
        21) say '{"return": 0}' ;;
        *) right "$1"; return 0 ;;
    esac
    return 1
}

# Answer, and tell whether that was as it should be.
respond() {
    case $1 in
        *guest-sync*) synchronize "$1" ;;
        *) answer "$1" ;;
    esac
}

# Do the same, for some seconds at most: where libvirt reads no more, nobody
# can write all of a flood.
respond_in_time() {
    respond "$1" &
    answer=$!
    (
        sleep 8
        # Once the answer has ended, this does not go on.
        killall -9 head tr
        kill -9 "$answer"
    ) > /dev/null 2>&1 3>&- &
    limit=$!
    wait "$answer"
    result=$?
    kill -9 "$limit" 2> /dev/null
    return $result
}

open_port
while :; do
    # The guest's shell is busybox's.
    # shellcheck disable=SC3045
    if ! read -r -t 5 line <&3; then
        # Nobody is at the other end, or they gave up at the rest of an answer
        # from before this was opened.
        sleep 1
        reopen
        continue
    fi
    number=$((number + 1))
    respond_in_time "$line" || reopen
    echo "quiesce-hostile $number" > /dev/console
done
