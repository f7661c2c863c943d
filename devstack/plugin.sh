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
# Dispatch DevStack's phases to the functions of lib/nova-quiesce.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/nova-quiesce"

case "$1 ${2:-}" in
    "stack pre-install")
        check_nova_quiesce
        install_nova_quiesce_packages
        ;;
    "stack install")
        install_nova_quiesce
        build_nova_quiesce_images
        ;;
    "stack post-config")
        configure_nova_quiesce
        start_nova_quiesce_guard
        ;;
    "stack extra")
        register_nova_quiesce_image
        register_nova_quiesce_agentless_image
        ;;
    "stack test-config")
        configure_nova_quiesce_tempest
        ;;
    "unstack ")
        stop_nova_quiesce_guard
        ;;
    "clean ")
        cleanup_nova_quiesce
        ;;
esac
