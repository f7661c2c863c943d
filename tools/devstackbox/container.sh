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
# from without.
keep_units_down() {
    in_root systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer \
        chrony.service dnsmasq.service haproxy.service nfs-mountd.service \
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
    echo "$nspawn" >"$ROOT/pid"
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
    [[ -e $ROOT/pid ]] && [[ $(cat "/proc/$(<"$ROOT/pid")/comm" \
        2>/dev/null) == systemd-nspawn ]]
}

stop() {
    if is_running; then
        as_root systemctl poweroff || true
        wait_for 120 "the container to end" is_ended
    fi
    rm -f "$ROOT/pid"
    if mountpoint --quiet "$ROOT/export"; then
        umount "$ROOT/export"
    fi
}

is_ended() {
    ! is_running
}

as_root() {
    # Its PID 1 is the only child of systemd-nspawn.
    nsenter --target "$(pgrep --parent "$(<"$ROOT/pid")")" --all -- \
        env --ignore-environment HOME=/root LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin "$@"
}

as_stack() {
    as_root runuser --login stack --command "$1"
}
