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
# Stands in for DevStack's shell: its variables and its functions, as a real
# stack.sh, unstack.sh and clean.sh of stable/2026.1 had them when they sourced
# the plugin. Each call is noted in $CALLS as those scripts trace it. What
# changes files does so, below $SANDBOX.
#
# shellcheck disable=SC2034 # the plugin uses the variables

# --- Variables --------------------------------------------------------------

DEST=$SANDBOX/opt/stack
DATA_DIR=$DEST/data
DEVSTACK_VENV=$DATA_DIR/venv
GLOBAL_VENV=${GLOBAL_VENV:-True}
STACK_USER=stack
REGION_NAME=RegionOne
DATABASE_BACKENDS='mysql postgresql'
ENABLED_SERVICES=${ENABLED_SERVICES-key,mysql,g-api,n-api,n-cpu}
VIRT_DRIVER=${VIRT_DRIVER-libvirt}
LIBVIRT_GROUP=libvirt
NOVA_CONF=$SANDBOX/etc/nova/nova.conf
CINDER_CONF=$SANDBOX/etc/cinder/cinder.conf
NOVA_STATE_PATH=$DATA_DIR/nova
NOVA_BIN_DIR=$DEVSTACK_VENV/bin
SYSTEMD_DIR=$SANDBOX/etc/systemd/system
SYSTEMCTL='sudo systemctl'
# What the services have written by then.
for conf in "$NOVA_CONF" "$CINDER_CONF"; do
    mkdir -p "$(dirname "$conf")"
    touch "$conf"
done
# lib/tempest is not loaded where tempest is not enabled.
if [[ ,$ENABLED_SERVICES, == *,tempest,* ]]; then
    BUILD_TIMEOUT=${BUILD_TIMEOUT:-196}
    TEMPEST_PLUGINS=${TEMPEST_PLUGINS:-0}
    TEMPEST_CONFIG=$DEST/tempest/etc/tempest.conf
    mkdir -p "$DEST/tempest/.tox/tempest"
fi

# --- Functions --------------------------------------------------------------

note() {
    echo "$*" >>"$CALLS"
}

function die {
    shift
    note "die $*"
    exit 1
}

function trueorfalse {
    local default=$1 value=${!2:-}
    case ${value:-$default} in
        1 | [Yy]es | YES | [Tt]rue | TRUE) echo True ;;
        *) echo False ;;
    esac
}

function is_service_enabled {
    local service
    for service in "$@"; do
        [[ ,$ENABLED_SERVICES, =~ ,$service, ]] && return 0
        [[ $service == glance && ,$ENABLED_SERVICES =~ ,g- ]] && return 0
        [[ $service == cinder && ,$ENABLED_SERVICES =~ ,c- ]] && return 0
    done
    return 1
}

function is_ubuntu {
    [[ ${IS_UBUNTU:-yes} == yes ]]
}

function install_package {
    note "install_package $*"
}

# It finds the package's name in setup.cfg, or fails.
function setup_develop {
    local name
    name=$(awk '/^name.*=/ {print $3}' "$1/setup.cfg")
    [[ "$name" == nova-quiesce ]]
    note "setup_develop $1"
}

function async_wait {
    note "async_wait $*"
}

# Sets an option that is there, and else adds it: to its section or to a new
# one.
function iniset {
    note "iniset $*"
    if [[ $1 == -sudo ]]; then
        shift
    fi
    local file=$1 section=$2 option=$3 value=$4
    local range="/^\[$section\]/,/^\[/" key="^${option}[ \t]*="
    mkdir -p "$(dirname "$file")"
    touch "$file"
    if ! grep -q "^\[$section\]" "$file"; then
        printf '\n[%s]\n' "$section" >>"$file"
    fi
    if sed -n "$range p" "$file" | grep -q "$key"; then
        sed -i "$range s|$key.*$|$option = $value|" "$file"
    else
        sed -i "/^\[$section\]/ a $option = $value" "$file"
    fi
}

# Prints an option's value, without what is around it.
function iniget {
    local file=$1 section=$2 option=$3 line
    line=$(sed -n "/^\[$section\]/,/^\[/{/^${option}[ \t]*=/p}" "$file")
    # shellcheck disable=SC2086 # as DevStack has it
    echo ${line#*=}
}

# It asks itself whether there is such a service.
function stop_process {
    note "stop_process $1"
}

# It takes another pip where this variable names no directory.
function pip_uninstall {
    if [[ -n ${PIP_VIRTUAL_ENV:=} ]]; then
        note "PIP_VIRTUAL_ENV=$PIP_VIRTUAL_ENV"
    fi
    note "pip_uninstall $1"
}

# --- Commands ---------------------------------------------------------------

# It prints what the plugin asks for: an ID, and nothing for what is not there.
function openstack {
    note "openstack $*"
    case "$*" in
        *"image list --name ${NO_IMAGE:-no image} "*) ;;
        *"image list --name "*) echo "ID-of-$6" ;;
        *"flavor show "*) echo c1 ;;
    esac
}

# Nobody else's files are here, so there is no other owner to give them to.
function sudo {
    note "sudo $*"
    case $1 in
        install)
            shift
            local arguments=()
            while [[ $# -gt 0 ]]; do
                if [[ $1 == -o ]]; then
                    shift
                else
                    arguments+=("$1")
                fi
                shift
            done
            command install "${arguments[@]}"
            ;;
        rm)
            command "$@"
            ;;
    esac
}

# The build of the guests takes packages and a minute; see test_lab_guest.
function python3 {
    if [[ "$1 $2 ${3:-}" == '-m quiescelab.guest --without-agent' ]]; then
        note "python3 $*"
        echo guest | tee "$4" >"$5"
    else
        command python3 "$@"
    fi
}
