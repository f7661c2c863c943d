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

"""The command line of ``tools/lab``."""

import argparse
from collections.abc import Sequence
import importlib
import os
import pathlib
import signal
import sys

from quiescelab import console
from quiescelab import down
from quiescelab import errors
from quiescelab import lab as running
from quiescelab import layout
from quiescelab import python
from quiescelab import site
from quiescelab import status
from quiescelab import tempest
from quiescelab import up

FAILED = 1


def main(argv: Sequence[str]) -> int:
    """Do what the command line says.

    :param argv: the arguments
    :returns: the exit code
    """
    arguments = _parser().parse_args(argv)
    paths = layout.Layout.find(arguments.dir)
    os.environ[layout.ROOT_VARIABLE] = str(paths.root)
    screen = console.Console()
    # As Ctrl-C does: what is under way is put back in order first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code: int = arguments.run(arguments, paths, screen)
        return code
    except errors.LabError as failure:
        screen.complain(f'lab: {failure.explain()}')
        return FAILED
    except KeyboardInterrupt:
        screen.complain('lab: interrupted; "up" goes on where this ended, '
                        '"down" takes it back')
        return FAILED
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python's own last flush
        # would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='lab', description='A real OpenStack on this machine, private '
        'to one directory.')
    parser.add_argument(
        '--dir', help=f'the directory; else ${layout.ROOT_VARIABLE}, else '
        f'{layout.DEFAULT_ROOT}')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    command = commands.add_parser('up', help='install and start everything')
    command.add_argument('--driver', default=site.OUR_DRIVER,
                         help="Nova's compute_driver (%(default)s); "
                         'libvirt.LibvirtDriver for stock Nova')
    command.add_argument('--nova', metavar='RELEASE',
                         choices=python.NOVA_RELEASES,
                         help='an older release of Nova: %(choices)s')
    command.set_defaults(run=_up)
    command = commands.add_parser('down', help='stop and remove everything')
    command.add_argument('--keep', action='store_true', help='keep the '
                         'virtualenv, the downloads and the guest image')
    command.set_defaults(run=_down)
    command = commands.add_parser('status', help='what runs, and its logs')
    command.set_defaults(run=_status)
    command = commands.add_parser('shell', help='a shell with the clients')
    command.add_argument('--admin', action='store_true',
                         help='as admin instead of as the tenant demo')
    command.add_argument('-c', dest='command', metavar='COMMAND',
                         help='run this command instead')
    command.set_defaults(run=_shell)
    command = commands.add_parser('tempest', help="tempest's scenarios, "
                                  'which suit the lab')
    command.add_argument('regex', nargs='?', help='run those instead whose '
                         'name this matches')
    command.set_defaults(run=_tempest)
    command = commands.add_parser('demo', help='up, and two quiesced '
                                  'snapshots of guests that write')
    command.set_defaults(run=_demo, driver=site.OUR_DRIVER, nova=None)
    command = commands.add_parser('bench', help='freeze windows and images '
                                  'beside stock Nova')
    command.add_argument('--count', type=int, default=30,
                         help='snapshots of each row, with each driver '
                         '(%(default)s)')
    command.add_argument('--only', help='of the rows with this in their name')
    command.add_argument('--table', type=pathlib.Path, metavar='FILE',
                         help='write the table as CSV')
    command.set_defaults(run=_bench)
    command = commands.add_parser('faults', help='each thing fails at each '
                                  'moment of a snapshot')
    command.add_argument('only', nargs='*', help='try those alone in whose '
                         'row of the table all of these are')
    command.add_argument('--table', type=pathlib.Path, metavar='FILE',
                         help='write what came of it as CSV')
    command.set_defaults(run=_faults)
    command = commands.add_parser('hostile', help='a guest agent that means '
                                  'harm, beside a server that is well')
    command.add_argument('--answers', type=int, default=500,
                         help='that it gives at least (%(default)s)')
    command.add_argument('--seed', type=int, default=0,
                         help='the number of its first one (%(default)s)')
    command.set_defaults(run=_hostile)
    command = commands.add_parser('soak', help='many snapshots of several '
                                  'servers, while things fail at random')
    command.add_argument('--snapshots', type=int, default=1000,
                         help='how many at least (%(default)s)')
    command.add_argument('--seed', type=int, default=1,
                         help='of what fails, and when (%(default)s)')
    command.add_argument('--seconds', type=float, default=float('inf'),
                         help='begin no more rounds after these')
    command.set_defaults(run=_soak)
    return parser


def _up(arguments: argparse.Namespace, paths: layout.Layout,
        screen: console.Console) -> int:
    up.prepare_root(paths)
    with running.locked(paths):
        lab = site.Site.at(paths, screen)
        if not up.run(lab, arguments.driver, arguments.nova):
            raise errors.LabError('not up; "up" goes on from here, and '
                                  '"down" takes it back')
    screen.say(f'the lab is up in {paths.root}')
    return 0


def _down(arguments: argparse.Namespace, paths: layout.Layout,
          screen: console.Console) -> int:
    if not paths.marker.exists() and not down.leftovers(paths):
        screen.say(f'there is no lab in {paths.root}')
        return 0
    # A lab whose directory somebody removed still runs, and can still go.
    up.prepare_root(paths)
    with running.locked(paths):
        down.run(site.Site.at(paths, screen), arguments.keep)
    screen.say('the lab is down; the packages that it installed stay')
    return 0


def _status(arguments: argparse.Namespace, paths: layout.Layout,
            screen: console.Console) -> int:
    if not paths.marker.exists():
        raise errors.NotRunning(f'there is no lab in {paths.root}')
    return 0 if status.show(site.Site.at(paths, screen)) else FAILED


def _shell(arguments: argparse.Namespace, paths: layout.Layout,
           screen: console.Console) -> int:
    cloud = 'admin' if arguments.admin else 'demo'
    environment = running.Lab.from_env().env(cloud)
    command = ['-c', arguments.command] if arguments.command else []
    os.execve('/bin/bash', ['bash', '--norc', *command], environment | {
        'PS1': f'(lab {cloud}) \\w \\$ '})


def _tempest(arguments: argparse.Namespace, paths: layout.Layout,
             screen: console.Console) -> int:
    running.Lab.from_env()  # It has to be up.
    return tempest.run(site.Site.at(paths, screen), arguments.regex)


def _demo(arguments: argparse.Namespace, paths: layout.Layout,
          screen: console.Console) -> int:
    code = _up(arguments, paths, screen)
    if code:
        return code
    demo = importlib.import_module('quiescelab.demo')
    result: int = demo.run(running.Lab.from_env())
    return result


def _bench(arguments: argparse.Namespace, paths: layout.Layout,
           screen: console.Console) -> int:
    bench = importlib.import_module('quiescelab.bench.run')
    result: int = bench.run(running.Lab.from_env(), arguments.count,
                            arguments.only, arguments.table)
    return result


def _faults(arguments: argparse.Namespace, paths: layout.Layout,
            screen: console.Console) -> int:
    matrix = importlib.import_module('quiescelab.campaign.matrix')
    result: int = matrix.run(running.Lab.from_env(), arguments.only,
                             arguments.table)
    return result


def _hostile(arguments: argparse.Namespace, paths: layout.Layout,
             screen: console.Console) -> int:
    hostile = importlib.import_module('quiescelab.campaign.hostile')
    result: int = hostile.run(running.Lab.from_env(), arguments.answers,
                              arguments.seed)
    return result


def _soak(arguments: argparse.Namespace, paths: layout.Layout,
          screen: console.Console) -> int:
    soak = importlib.import_module('quiescelab.campaign.soak')
    result: int = soak.run(running.Lab.from_env(), arguments.snapshots,
                           arguments.seed, arguments.seconds)
    return result


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
