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

"""The table of the lab's processes."""

from quiescelab import catalogue
from quiescelab import daemon
from quiescelab import site

COLUMNS = '{:<18} {:>8} {:<5} {:>6}  {}'


def show(lab: site.Site) -> bool:
    """Print one line for each process.

    :returns: whether all of them are up
    """
    print(COLUMNS.format('service', 'pid', 'state', 'port', 'log'))
    states = [_show(lab, one) for one in catalogue.daemons(lab)]
    return all(states)


def _show(lab: site.Site, one: daemon.Daemon) -> bool:
    process = lab.supervisor.find(one.name)
    print(COLUMNS.format(
        one.name, process.pid if process else '-',
        'up' if process else 'down', one.port or '-',
        lab.paths.log(one.name)))
    return process is not None
