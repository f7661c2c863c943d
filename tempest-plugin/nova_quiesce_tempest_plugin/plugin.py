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

"""What tempest loads by its entry point."""

import pathlib

from oslo_config import cfg
from tempest.test_discover import plugins

from nova_quiesce_tempest_plugin import config

PACKAGE = pathlib.Path(__file__).parent


class QuiesceTempestPlugin(plugins.TempestPlugin):
    """Tells tempest of the scenarios and of their options."""

    def load_tests(self) -> tuple[str, str]:
        """Tell where the scenarios are.

        :returns: their directory, and the one that they are imported from
        """
        return str(PACKAGE / 'tests'), str(PACKAGE.parent)

    def register_opts(self, conf: cfg.ConfigOpts) -> None:
        """Make the options known.

        :param conf: tempest's configuration
        """
        conf.register_group(config.GROUP)
        conf.register_opts(config.OPTS, config.GROUP)

    def get_opt_lists(self) -> list[tuple[str, list[cfg.Opt]]]:
        """List the options, for a sample of the configuration.

        :returns: the name of each section, with its options
        """
        return [(config.GROUP.name, config.OPTS)]
