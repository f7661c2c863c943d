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

"""How Sphinx builds the documentation."""

from nova_quiesce.nova import releases

extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxext',
    'sphinx.ext.graphviz',
]
graphviz_output_format = 'svg'

project = 'nova-quiesce'
copyright = 'nova-quiesce contributors'

openstackdocs_repo_name = 'nova-quiesce'
# The project has no release on docs.openstack.org to name.
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_use_storyboard = False

# What the pages name, but do not know.
rst_epilog = '.. |supported| replace:: %s' % releases.supported()

html_theme = 'openstackdocs'
pygments_style = 'native'
