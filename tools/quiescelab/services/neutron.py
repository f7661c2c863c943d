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

"""The stand-in for Neutron, as a service of the lab."""

import pathlib

from quiescelab import daemon
from quiescelab import layout
from quiescelab import ready
from quiescelab import site

PACKAGES: tuple[str, ...] = ()
USER = 'nobody'
PYTHON = '/usr/bin/python3'
SOURCE = pathlib.Path(__file__).with_name('neutron_standin.py')


def configure(lab: site.Site) -> None:
    """Put the program where its user can read it."""
    lab.config('neutron', SOURCE.name, SOURCE.read_text(), USER)


def prepare(lab: site.Site) -> None:
    """Do nothing: it has no data."""


def daemons(lab: site.Site) -> list[daemon.Daemon]:
    """Return the stand-in."""
    program = lab.paths.etc('neutron') / SOURCE.name
    port = layout.port('neutron')
    return [daemon.Daemon(
        'neutron-standin', (PYTHON, str(program), layout.HOST, str(port)),
        USER, inputs=(program,), port=port, ready=ready.http_answer(port))]
