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

"""Keystone: fernet tokens, the catalog, and who may do what."""

import base64
import secrets

from quiescelab import daemon
from quiescelab import layout
from quiescelab import rest
from quiescelab.services import mariadb
from quiescelab.services import wsgi
from quiescelab import site
from quiescelab import system

PACKAGES: tuple[str, ...] = ()
USER = 'nq-keystone'
REGION = 'RegionOne'
ACCOUNTS = ('nova', 'glance', 'placement', 'cinder')
TENANT = 'demo'
KEYS = {
    'fernet_tokens': 'fernet-keys',
    'fernet_receipts': 'receipt-keys',
    'credential': 'credential-keys',
}
# name, type, path
CATALOG = (
    ('glance', 'image', ''),
    ('placement', 'placement', ''),
    ('nova', 'compute', '/v2.1'),
    ('cinder', 'volumev3', '/v3/$(project_id)s'),
    ('neutron', 'network', ''),
)


def account(lab: site.Site, user: str) -> dict[str, object]:
    """Return the options with which a service signs in."""
    return {
        'auth_type': 'password',
        'auth_url': layout.url('keystone', '/v3'),
        'username': user,
        'password': lab.state.password(user),
        'project_name': 'service',
        'user_domain_name': 'Default',
        'project_domain_name': 'Default',
        'region_name': REGION,
    }


def token_check(lab: site.Site, user: str) -> dict[str, object]:
    """Return the ``[keystone_authtoken]`` section of a service."""
    return account(lab, user) | {
        'www_authenticate_uri': layout.url('keystone', '/v3'),
        'service_token_roles': 'service',
        'service_token_roles_required': True,
    }


def configure(lab: site.Site) -> None:
    """Write the settings and make the directories."""
    data = lab.paths.data('keystone')
    for part in ('', *KEYS.values()):
        system.make_directory(data / part, USER, 0o700)
    lab.config('keystone', 'keystone.conf', system.ini({
        'DEFAULT': {'debug': True},
        'database': {
            'connection': mariadb.url(lab, 'keystone', 'keystone')},
        'token': {'provider': 'fernet'},
        # Nobody attacks the lab's passwords, and each log-in costs CPU.
        'identity': {'password_hash_rounds': 4},
        **{section: {'key_repository': data / directory}
           for section, directory in KEYS.items()},
    }), USER)


def prepare(lab: site.Site) -> None:
    """Make the keys, the tables and the administrator."""
    lab.once('keystone-keys', lambda: _make_keys(lab))
    lab.once('keystone-tables', lambda: _manage(lab, 'db_sync'),
             lab.software)
    lab.once('keystone-admin', lambda: _bootstrap(lab))


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the API."""
    etc = lab.paths.etc('keystone')
    return [wsgi.server(
        lab, 'keystone', 'keystone.wsgi.api', USER, etc / 'keystone.conf',
        env={'OS_KEYSTONE_CONFIG_DIR': str(etc)})]


def register(lab: site.Site) -> None:
    """Fill the catalog, and make the services' and the tenant's users."""
    lab.once('catalog', lambda: _register(rest.Identity(lab, 'admin'), lab))


def _register(identity: rest.Identity, lab: site.Site) -> None:
    identity.ensure_project('service')
    identity.ensure_project(TENANT)
    for name in ACCOUNTS:
        identity.ensure_user(name, lab.state.password(name))
        for role in ('admin', 'service'):
            identity.grant(name, 'service', role)
    identity.ensure_user(TENANT, lab.state.password(TENANT))
    identity.grant(TENANT, TENANT, 'member')
    for name, kind, path in CATALOG:
        identity.ensure_endpoint(name, kind, layout.url(name, path), REGION)


def _make_keys(lab: site.Site) -> None:
    # What keystone-manage's fernet_setup and credential_setup do, without
    # the seconds that each takes to load Keystone: a staged key and a first.
    for directory in KEYS.values():
        for name in ('0', '1'):
            key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            path = lab.paths.data('keystone') / directory / name
            system.write_file(path, key, group=USER, mode=0o640)


def _bootstrap(lab: site.Site) -> None:
    address = layout.url('keystone', '/v3')
    _manage(lab, 'bootstrap',
            '--bootstrap-public-url', address,
            '--bootstrap-internal-url', address,
            '--bootstrap-region-id', REGION)


def _manage(lab: site.Site, *arguments: str) -> None:
    config = lab.paths.etc('keystone') / 'keystone.conf'
    lab.run('keystone', [lab.paths.bin('keystone-manage'), '--config-file',
                         str(config), *arguments], user=USER,
            env={'OS_BOOTSTRAP_PASSWORD': lab.state.password('admin')})
