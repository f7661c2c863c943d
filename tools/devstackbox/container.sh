#!/bin/bash
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
#
# The container of tools/devstack-container, which sources this: how it is
# made, started and stopped.

# --- Making it --------------------------------------------------------------

create() {
    need_mirrors
    install_on_host mmdebstrap systemd-container
    mkdir -p "$ROOT"
    mmdebstrap --quiet --variant=apt --include="$(included)" bookworm \
        "$ROOT/root" /etc/apt/sources.list.d/debian.sources
    copy_host_settings
    keep_our_mount
    cp --recursive --no-preserve=ownership --no-target-directory \
        "$BOX/root" "$ROOT/root"
    keep_units_down
    name_host
    make_user
    git clone --quiet --bare "$CHECKOUT" "$ROOT/root$INNER_PROJECT"
}

need_mirrors() {
    if [[ ! -d $MIRRORS/openstack/devstack.git ]]; then
        echo "devstack-container: --mirrors has to name a directory with" \
            "openstack/devstack.git and so on" >&2
        exit 2
    fi
}

install_on_host() {
    dpkg --status "$@" >/dev/null 2>&1 && return
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
        --no-install-recommends install "$@" >/dev/null
}

included() {
    local names=(systemd systemd-sysv dbus udev sudo git ca-certificates
        locales iproute2 procps lsb-release less python3 python3-venv)
    (IFS=,; echo "${names[*]}")
}

# What this machine needs to reach Debian and PyPI, the container needs, too.
copy_host_settings() {
    local file
    for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt \
        /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/*registry*; do
        [[ ! -e $file ]] || cp "$file" "$ROOT/root$file"
    done
    cp --recursive /usr/local/share/ca-certificates \
        "$ROOT/root/usr/local/share/"
}

keep_our_mount() {
    in_root dpkg-divert --quiet --local --no-rename \
        --divert /sbin/mount.nfs.debian --add /sbin/mount.nfs
}

# What packages would start, and nothing here needs; some would be reachable
# from without. As the container stops, libvirt-guests would wait five minutes
# for each guest that a failed scenario left, and without a limit of its own.
keep_units_down() {
    in_root systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer \
        chrony.service dnsmasq.service haproxy.service \
        libvirt-guests.service nfs-mountd.service \
        rpc-statd.service rpcbind.service rpcbind.socket rsync.service \
        ssh.service ssh.socket tgt.service
    ln --symbolic --force nfs-server.service \
        "$ROOT/root/etc/systemd/system/nfs-kernel-server.service"
}

name_host() {
    echo devstack >"$ROOT/root/etc/hostname"
    echo '127.0.0.1 localhost devstack' >"$ROOT/root/etc/hosts"
    echo 'en_US.UTF-8 UTF-8' >"$ROOT/root/etc/locale.gen"
    echo 'LANG=en_US.UTF-8' >"$ROOT/root/etc/default/locale"
    in_root locale-gen >/dev/null
}

make_user() {
    in_root useradd --shell /bin/bash --home-dir "$DEST" --create-home stack
    # Other users' services pass through it.
    in_root chmod 755 "$DEST"
}

in_root() {
    chroot "$ROOT/root" "$@"
}

remove() {
    stop
    rm -rf --one-file-system "$ROOT"
}

# --- Running it -------------------------------------------------------------

start() {
    local nspawn
    need_mirrors
    mount_export
    setsid systemd-nspawn --quiet --register=no --keep-unit --boot \
        --directory="$ROOT/root" --capability=all --resolv-conf=copy-host \
        --tmpfs=/sys/kernel/mm/ksm --bind-ro="$MIRRORS:$INNER_MIRRORS" \
        --bind="$ROOT/export:$EXPORT" \
        >"$ROOT/console.log" 2>&1 </dev/null &
    nspawn=$!
    echo "$nspawn $(began_at "$nspawn")" >"$ROOT/pid"
    wait_for 5 "systemd-nspawn" is_running
    wait_for "$BOOT_SECONDS" "the container to boot" is_booted
}

# A filesystem of its own: Cinder asks whether its "share" is mounted.
mount_export() {
    mountpoint --quiet "$ROOT/export" && return
    if [[ ! -e $ROOT/export.img ]]; then
        truncate --size="$EXPORT_SIZE" "$ROOT/export.img"
        mkfs.ext4 -q -m 0 "$ROOT/export.img"
    fi
    mkdir -p "$ROOT/export"
    mount -o loop "$ROOT/export.img" "$ROOT/export"
}

is_booted() {
    is_running || fail "the container ended; see $ROOT/console.log"
    as_root systemctl is-active --quiet multi-user.target 2>/dev/null
}

is_running() {
    [[ -n $(nspawn_pid) ]]
}

# Print the number of the systemd-nspawn that "start" started, if it runs. The
# kernel may have given the number to another process since.
nspawn_pid() {
    local pid began
    [[ -e $ROOT/pid ]] && read -r pid began <"$ROOT/pid" || return 0
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == systemd-nspawn ]] || return 0
    [[ $(began_at "$pid") != "$began" ]] || echo "$pid"
}

# Print when a process began, in clock ticks since the boot of the machine;
# nothing where there is none, or one that ended and is not yet waited for.
began_at() {
    [[ ! -e /proc/$1/stat ]] ||
        sed 's/.*) //' "/proc/$1/stat" | awk '$1 != "Z" { print $20 }'
}

stop() {
    if is_running; then
        power_off || kill_container
    fi
    rm -f "$ROOT/pid"
    if mountpoint --quiet "$ROOT/export"; then
        within 10 umount "$ROOT/export" || fail "$ROOT/export is in use"
    fi
}

# Whatever a failed scenario left may hold it up: DevStack's units have five
# minutes each to stop.
power_off() {
    as_root timeout 20 systemctl poweroff ||
        echo "The container does not take the order to power off."
    within "$POWEROFF_SECONDS" is_ended || return
    echo "The container powered off."
}

kill_container() {
    local nspawn
    nspawn=$(nspawn_pid)
    echo "It did not within $POWEROFF_SECONDS s, so it is killed."
    # The kernel ends all of a container with its PID 1, and systemd-nspawn
    # then ends by itself.
    kill_if_there "$(init_of "$nspawn")"
    if [[ -n $nspawn ]] && ! within 10 is_ended; then
        kill_if_there "$(nspawn_pid)"
    fi
    wait_for 10 "systemd-nspawn to be gone" is_ended
}

kill_if_there() {
    # shellcheck disable=SC2086 # no word where there is no process
    [[ -z $1 ]] || kill -KILL $1 || true
}

is_ended() {
    ! is_running
}

# Print the container's PID 1, which is the only child of systemd-nspawn.
init_of() {
    [[ -z $1 ]] || pgrep --parent "$1" || true
}

as_root() {
    nsenter --target "$(init_of "$(nspawn_pid)")" --all -- \
        env --ignore-environment HOME=/root LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin "$@"
}

as_stack() {
    as_root runuser --login stack --command "$1"
}
