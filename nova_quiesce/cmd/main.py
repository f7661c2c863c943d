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

"""The command line of ``nova-quiesce``: check, list and thaw.

It needs neither nova-compute nor Nova's database. To thaw, it needs the
hypervisor; to check, the Nova that is installed.
"""

import argparse
import contextlib
import sys
import typing

import libvirt
from oslo_config import cfg

from nova_quiesce.cmd import check
from nova_quiesce.cmd import listing
from nova_quiesce.freeze import domains
from nova_quiesce.freeze import duties
from nova_quiesce.freeze import errors
from nova_quiesce.freeze import guest_agent


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    :param argv: its arguments; those of the process by default
    :returns: the exit code
    """
    arguments = _parser().parse_args(argv)
    # libvirt prints each error, also those that are told below.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        return int(arguments.run(arguments))
    except (cfg.Error, ValueError, duties.DutyError, errors.QuiesceError,
            libvirt.libvirtError) as error:
        print('nova-quiesce: %s' % error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='nova-quiesce', description='Quiesced snapshots, by hand.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    checking = commands.add_parser(
        'check', help='show the options in force, and what keeps nova-compute '
        'from working with them; best run as the user of nova-compute')
    checking.set_defaults(run=_check)
    listed = commands.add_parser(
        'list', help='list the guests that may be frozen, and the snapshots '
        'whose record is still owed, by the files of this host; run as the '
        'user of nova-compute, or as root')
    listed.set_defaults(run=_list)
    for one in checking, listed:
        one.add_argument('--config-file', action='append', metavar='FILE',
                         help='as given to nova-compute (default: as '
                         'nova-compute would look for it)')
    thaw = commands.add_parser(
        'thaw', help="thaw a guest's filesystems, whoever froze them; a "
        'snapshot or backup that is under way loses its consistency')
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
    options = check.load(arguments.config_file)
    for fact in check.facts(options):
        print(fact)
    for remark in check.remarks(options):
        print('remark: %s' % remark)
    found = list(check.problems(options))
    for problem in found:
        print('nova-quiesce: %s' % problem, file=sys.stderr)
    return 1 if found else 0


def _list(arguments: argparse.Namespace) -> int:
    options = check.load(arguments.config_file)
    listing.become_owner(options.quiesce.lease_directory)
    for line in listing.lines(options):
        print(line)
    return 0


def _thaw(arguments: argparse.Namespace) -> int:
    with contextlib.closing(libvirt.open(arguments.uri)) as connection:
        domain = _find(connection, arguments.domain)
        seconds = arguments.timeout
        count = guest_agent.Agent(
            lambda: domain,
            guest_agent.Timeouts(seconds, seconds, seconds)).thaw()
    print('%s: %d filesystems thawed' % (arguments.domain, count))
    return 0


def _find(connection: typing.Any, name: str) -> domains.Domain:
    # A name may look like a UUID, so the more exact of the two goes first.
    try:
        domain: domains.Domain = connection.lookupByUUIDString(name)
    except libvirt.libvirtError:
        domain = connection.lookupByName(name)
    return domain


if __name__ == '__main__':
    sys.exit(main())
