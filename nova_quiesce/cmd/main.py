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

"""``nova-quiesce``: what an operator does by hand.

It needs neither nova-compute nor Nova's database, only the hypervisor, and to
check, what is installed of Nova.
"""

import argparse
import contextlib
import importlib.util
import sys
import typing

import libvirt
from oslo_config import cfg

from nova_quiesce import agent
from nova_quiesce import conf
from nova_quiesce import exception
from nova_quiesce import releases


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    :param argv: its arguments; those of the process by default
    :returns: the exit code
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (cfg.Error, ValueError, exception.QuiesceError,
            releases.UnsupportedNova, libvirt.libvirtError) as error:
        print('nova-quiesce: %s' % error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='nova-quiesce', description='Quiesced snapshots, by hand.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    check = commands.add_parser(
        'check', help='show the options in force, and whether nova-compute '
        'would find the driver, and work with it')
    check.add_argument('--config-file', action='append', metavar='FILE',
                       help='as given to nova-compute (default: as '
                       'nova-compute would look for it)')
    check.set_defaults(run=_check)
    thaw = commands.add_parser(
        'thaw', help="thaw a guest's filesystems, whoever froze them")
    thaw.add_argument('domain', help="libvirt's name or UUID of the domain; "
                      'the UUID is that of the instance')
    thaw.add_argument('--uri', default='qemu:///system',
                      help="libvirt's connection URI (default: %(default)s)")
    thaw.add_argument('--timeout', type=int, default=10, metavar='SECONDS',
                      help='how long the agent may take (default: '
                      '%(default)s)')
    thaw.set_defaults(run=_thaw)
    return parser


def _check(arguments: argparse.Namespace) -> int:
    options = cfg.ConfigOpts()
    conf.register_opts(options)
    # In nova-compute, oslo.messaging does so.
    options.register_opt(cfg.IntOpt('rpc_response_timeout', default=60))
    options([], project='nova', prog='nova-compute',
            default_config_files=arguments.config_file)
    conf.validate(options)
    for option in conf.OPTS:
        print('[quiesce] %s = %s' % (
            option.dest, getattr(options.quiesce, option.dest)))
    found = importlib.util.find_spec('nova.virt.quiesce')
    if found is None:
        raise ValueError('nova-compute would not find the driver '
                         'nova.virt.quiesce; reinstall nova-quiesce with '
                         "Nova's own Python")
    print('compute_driver = quiesce.QuiesceLibvirtDriver is %s'
          % found.origin)
    releases.check()
    print('Nova %s fits; %s are supported' % (
        releases.installed() or 'of an unknown version',
        releases.supported()))
    return 0


def _thaw(arguments: argparse.Namespace) -> int:
    with contextlib.closing(libvirt.open(arguments.uri)) as connection:
        domain = _find(connection, arguments.domain)
        seconds = arguments.timeout
        count = agent.Agent(
            lambda: domain, agent.Timeouts(seconds, seconds, seconds)).thaw()
    print('%s: %d filesystems thawed' % (arguments.domain, count))
    return 0


def _find(connection: typing.Any, name: str) -> agent.Domain:
    # A name may look like a UUID, so the more exact of the two goes first.
    try:
        domain: agent.Domain = connection.lookupByUUIDString(name)
    except libvirt.libvirtError:
        domain = connection.lookupByName(name)
    return domain


if __name__ == '__main__':
    sys.exit(main())
