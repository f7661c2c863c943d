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

"""Tempest's scenarios on the lab: this project's, and some of its own."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from quiescelab import access
from quiescelab import checkout
from quiescelab import images
from quiescelab import python
from quiescelab import rest
from quiescelab import site
from quiescelab import system

REQUIREMENTS = ('tempest', *checkout.BUILD)
PLUGIN = checkout.ROOT / 'tempest-plugin'
CONSTRAINTS = python.CONSTRAINTS.with_name('tempest-constraints.txt')

# This project's, and those of tempest that make a server's image or a
# snapshot of its volume: the driver must do no harm to them.
SCENARIOS = (
    r'nova_quiesce_tempest_plugin\.',
    r'\.test_images_oneserver\.',
    r'\.test_images\.ImagesTestJSON\.test_create_',
    r'\.ServerActionsTestOtherB\.test_create_backup\b',
    r'\.test_shelve_unshelve_server\b',
    r'\.test_snapshot_create_delete_with_volume_in_use\b',
)
# Without KVM, and beside other work.
BOOT_SECONDS = 600
ANSWER_SECONDS = 180
POLL_SECONDS = 1


def run(lab: site.Site, regex: str | None = None) -> int:
    """Run scenarios against the lab, one after another.

    :param lab: the lab, which is up.
    :param regex: which ones; None for all that suit the lab.
    :returns: tempest's exit code.
    :raises LabError: when it cannot be installed.
    """
    install(lab)
    config = configure(lab)
    workspace = lab.paths.tempest
    return subprocess.run(
        [program(lab, 'tempest'), 'run', '--config-file', config, '--serial',
         '--regex', regex or '|'.join(SCENARIOS)],
        cwd=workspace, check=False,
        # Its memory of workspaces would go to the home directory.
        env=system.environment() | {'HOME': str(workspace)}).returncode


def program(lab: site.Site, name: str) -> str:
    """:returns: the path of a program of tempest's virtualenv."""
    return str(lab.paths.tempest_venv / 'bin' / name)


def install(lab: site.Site) -> None:
    """Make the virtualenv, which has no Nova, and put the scenarios into it.

    :param lab: the lab.
    :raises LabError: when pip fails.
    """
    log = lab.paths.log('setup-tempest')
    marker = lab.paths.tempest_venv / 'nova-quiesce-lab.version'
    if not marker.exists() or marker.read_text() != _version():
        lab.screen.say('installing tempest into a virtualenv')
        system.run([python.PYTHON, '-m', 'venv', '--clear',
                    str(lab.paths.tempest_venv)], log=log)
        system.run([program(lab, 'pip'), 'install', '--no-cache-dir',
                    '--disable-pip-version-check', '--constraint',
                    str(CONSTRAINTS), *REQUIREMENTS], log=log)
        system.write_file(marker, _version())
    _install_plugin(lab, log)


def _install_plugin(lab: site.Site, log: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(prefix='nova-quiesce-lab-') as directory:
        # A build leaves files in its source tree, and takes up stale ones.
        copy = pathlib.Path(directory) / PLUGIN.name
        shutil.copytree(PLUGIN, copy, ignore=shutil.ignore_patterns(
            *checkout.LEFT_OUT))
        # pip installs a directory whatever version is there.
        system.run([program(lab, 'pip'), 'install', '--no-cache-dir',
                    '--no-build-isolation', '--disable-pip-version-check',
                    '--constraint', str(CONSTRAINTS), str(copy)], log=log,
                   # The copy has no history to tell one.
                   env={'PBR_VERSION': '0.0.0+lab'})


def configure(lab: site.Site) -> os.PathLike[str]:
    """Write ``tempest.conf``.

    :param lab: the lab.
    :returns: its path.
    """
    workspace = lab.paths.tempest
    workspace.mkdir(exist_ok=True)
    path = workspace / 'tempest.conf'
    system.write_file(path, system.ini(_cloud(lab) | _servers(lab) | {
        'DEFAULT': {'log_dir': workspace, 'log_file': 'tempest.log'},
        'oslo_concurrency': {'lock_path': workspace / 'locks'},
    }), mode=0o600)
    return path


def _cloud(lab: site.Site) -> dict[str, dict[str, object]]:
    """:returns: what the lab has, and who may use it."""
    admin = access.credentials(lab, 'admin')
    return {
        'identity': {
            'uri_v3': admin.auth_url,
            'auth_version': 'v3',
            'region': admin.region_name,
        },
        'auth': {
            'use_dynamic_credentials': True,
            'admin_username': admin.username,
            'admin_password': admin.password,
            'admin_project_name': admin.project_name,
            'admin_domain_name': 'Default',
            'tempest_roles': 'member',
            # The stand-in for Neutron has none, and makes none.
            'create_isolated_networks': False,
        },
        'service_available': {
            'cinder': True, 'glance': True, 'nova': True,
            # Without it tempest leaves out each scenario that may have a
            # network, though those that run here need none.
            'neutron': True,
            'horizon': False, 'swift': False,
        },
        'service-clients': {'http_timeout': ANSWER_SECONDS},
        'validation': {'run_validation': False},
    }


def _servers(lab: site.Site) -> dict[str, dict[str, object]]:
    """:returns: what servers are made from, and how long they may take."""
    cloud = rest.Client(lab, 'admin')
    image = {one['name']: one['id'] for one in
             cloud.get('glance', '/v2/images')['images']}
    flavor, = (one['id'] for one in
               cloud.get('nova', '/v2.1/flavors')['flavors']
               if one['name'] == images.FLAVOR)
    patience = {'build_timeout': BOOT_SECONDS, 'build_interval': POLL_SECONDS}
    return {
        'compute': {
            'image_ref': image[images.PREFERRED],
            'image_ref_alt': image[images.PREFERRED],
            'flavor_ref': flavor,
            'flavor_ref_alt': flavor,
            'max_microversion': 'latest',
        } | patience,
        'volume': {
            'catalog_type': 'volumev3',
            'volume_size': images.DISK_GIB,
        } | patience,
        'image': patience,
        'quiesce': {
            'image_ref': image[images.PLAIN],
            'image_without_agent_ref': image[images.AGENTLESS],
        },
    }


def _version() -> str:
    told = (sys.version, *REQUIREMENTS, CONSTRAINTS.read_text())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]
