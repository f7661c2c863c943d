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

"""Credentials for people and for OpenStack's clients."""

import dataclasses
import json

from quiescelab import layout
from quiescelab.services import keystone
from quiescelab import site
from quiescelab import system

CLOUDS = ('demo', 'admin')


@dataclasses.dataclass(frozen=True)
class Credentials:
    """The data with which a user signs in.

    :param auth_url: Keystone's address
    :param username: the user
    :param password: the password
    :param project_name: the project
    :param region_name: the region
    """

    auth_url: str
    username: str
    password: str
    project_name: str
    region_name: str

    def environment(self) -> dict[str, str]:
        """Return what OpenStack's clients read, ``OS_*``."""
        return {
            'OS_AUTH_TYPE': 'password',
            'OS_AUTH_URL': self.auth_url,
            'OS_USERNAME': self.username,
            'OS_PASSWORD': self.password,
            'OS_PROJECT_NAME': self.project_name,
            'OS_USER_DOMAIN_NAME': 'Default',
            'OS_PROJECT_DOMAIN_NAME': 'Default',
            'OS_REGION_NAME': self.region_name,
            'OS_IDENTITY_API_VERSION': '3',
        }


def credentials(lab: site.Site, cloud: str) -> Credentials:
    """Return what the user of that name signs in with."""
    return Credentials(layout.url('keystone', '/v3'), cloud,
                       lab.state.password(cloud), cloud, keystone.REGION)


def write(lab: site.Site) -> None:
    """Write clouds.yaml and one file of shell variables for each cloud."""
    system.write_file(lab.paths.clouds, json.dumps({'clouds': {
        cloud: _cloud(credentials(lab, cloud)) for cloud in CLOUDS}},
        indent=1), mode=0o600)
    for cloud in CLOUDS:
        variables = credentials(lab, cloud).environment()
        system.write_file(lab.paths.root / f'openrc-{cloud}', ''.join(
            f'export {name}={value}\n'
            for name, value in variables.items()), mode=0o600)


def _cloud(user: Credentials) -> dict[str, object]:
    auth = dataclasses.asdict(user) | {
        'user_domain_name': 'Default', 'project_domain_name': 'Default'}
    return {'region_name': auth.pop('region_name'), 'auth': auth}
