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

"""The checks of ``nova-quiesce check`` on a compute host.

It reads the configuration as nova-compute would, and looks at the files,
sockets and modules that the options name. It changes nothing.
"""

from collections import abc
import difflib
import importlib.util
import os
import pathlib
import pwd
import socket
import tempfile
import warnings

from oslo_config import cfg

from nova_quiesce import conf
from nova_quiesce import conf_checks
from nova_quiesce import consistency
from nova_quiesce.freeze import files
from nova_quiesce.freeze.guard import guard_client
from nova_quiesce.freeze.guard import wire
from nova_quiesce.nova import releases
from nova_quiesce import policy

DRIVER = 'quiesce.QuiesceLibvirtDriver'
_NOVAS = [
    cfg.StrOpt('compute_driver'),
    cfg.ListOpt('non_inheritable_image_properties',
                default=['cache_in_nova', 'bittorrent']),
    # In nova-compute, oslo.messaging does so.
    cfg.IntOpt('rpc_response_timeout', default=60),
]
_KNOWN = [option.dest for option in conf.OPTS]
#: Those whose name no option of Nova's has.
_OURS_ALONE = [name for name in _KNOWN if '_' in name]


def load(paths: list[str] | None) -> cfg.ConfigOpts:
    """Read the configuration.

    :param paths: the files given to nova-compute; None to look where it would
    :returns: the configuration, in which single values may be wrong
    :raises Error: they cannot be read
    """
    options = cfg.ConfigOpts()
    conf.register_opts(options)
    options.register_opts(_NOVAS)
    options([], project='nova', prog='nova-compute',
            default_config_files=paths)
    return options


def facts(options: cfg.ConfigOpts) -> abc.Iterator[str]:
    """Give the facts: the files, the options in force, and Nova's version.

    :param options: the configuration
    :returns: a line for each
    """
    yield 'read as user %s: %s' % (_user(), ', '.join(_files(options)) or
                                   'no file')
    for option in conf.OPTS:
        try:
            yield '[quiesce] %s = %s' % (
                option.dest, getattr(options.quiesce, option.dest))
        except ValueError:
            # It is among the problems.
            continue
    yield 'Nova %s is installed; %s are supported' % (
        releases.installed() or 'of an unknown version', releases.supported())


def remarks(options: cfg.ConfigOpts) -> abc.Iterator[str]:
    """Find settings that can work, and may not be meant.

    :param options: the configuration
    :returns: a sentence for each
    """
    if not list(conf.wrong_values(options)):
        for risk in conf_checks.risks(options):
            yield '[quiesce] %s' % risk
        yield from _on_leases(options.quiesce.lease_directory)
    missing = [name for name in consistency.PROPERTIES
               if name not in options.non_inheritable_image_properties]
    if missing:
        yield ('[DEFAULT] non_inheritable_image_properties lacks %s; '
               'nova-api reads it, so if this is its configuration, too, add '
               'them, or images can inherit the record of another'
               % ', '.join(missing))


def problems(options: cfg.ConfigOpts) -> abc.Iterator[str]:
    """Find the problems that keep this host from quiescing as it should.

    :param options: the configuration
    :returns: a sentence for each
    """
    wrong = list(conf.wrong_values(options))
    for problem in wrong or conf_checks.problems(options):
        yield '[quiesce] %s' % problem
    for path in _files(options):
        yield from _misspelt(path)
    if options.compute_driver != DRIVER:
        yield ('[DEFAULT] compute_driver is %s: nova-compute does not load '
               'this driver; set it to %s'
               % (options.compute_driver or 'not set', DRIVER))
    yield from _installation()
    if not wrong:
        yield from _guard(options.quiesce)
        yield from _leases(options.quiesce.lease_directory)


def _files(options: cfg.ConfigOpts) -> list[str]:
    found = list(options.config_file)
    for directory in options.config_dir:
        found += sorted(str(path) for path in
                        pathlib.Path(directory).glob('*.conf'))
    return found


def _misspelt(path: str) -> abc.Iterator[str]:
    # oslo.config ignores what nobody registered.
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(path, sections).parse()
    for section, found in sections.items():
        if section.lower() == conf.GROUP.name:
            yield from ('[quiesce] %s in %s is no option%s' % (
                name, path, _nearest(name)) for name in found
                if name not in _KNOWN)
        elif section == 'DEFAULT':
            yield from ('[DEFAULT] %s in %s has no effect; it belongs into '
                        'the section [quiesce]' % (name, path)
                        for name in found if name in _OURS_ALONE)
        elif difflib.get_close_matches(
                section.lower(), [conf.GROUP.name], cutoff=0.7):
            yield ('[%s] in %s has no effect; do you mean [quiesce]?'
                   % (section, path))


def _nearest(name: str) -> str:
    nearest = difflib.get_close_matches(name.replace('-', '_'), _KNOWN, 1)
    return '; do you mean %s?' % nearest[0] if nearest else ''


def _installation() -> abc.Iterator[str]:
    if importlib.util.find_spec('nova.virt.quiesce') is None:
        yield ('nova-compute would not find the driver nova.virt.quiesce; '
               "reinstall nova-quiesce with Nova's own Python")
    try:
        with warnings.catch_warnings():
            # Of Nova's own modules, for those who write them.
            warnings.simplefilter('ignore')
            releases.check()
    except releases.UnsupportedNova as error:
        yield str(error)


def _guard(options: cfg.ConfigOpts.GroupAttr) -> abc.Iterator[str]:
    path = options.guard_socket
    if path is None or options.guard == policy.GUARD_OFF:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(guard_client.ANSWER_TIMEOUT)
            sock.connect(path)
            # One that is stopped takes connections, too.
            wire.MessageSocket(sock).ask(
                {'ping': True}, guard_client.ANSWER_TIMEOUT)
    except (OSError, wire.WireError) as error:
        yield ('[quiesce] guard_socket: no thaw guard answers user %s on %s '
               '(%s); start nova-quiesce-guard with this socket, or remove '
               'the option to have nova-compute start a guard itself'
               % (_user(), path, error))


def _leases(path: str) -> abc.Iterator[str]:
    if not os.path.isabs(path):
        # It is among the problems of the options.
        return
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        yield from _making(path)
        return
    except OSError as error:
        yield '[quiesce] lease_directory: user %s cannot look at it: %s' % (
            _user(), error)
        return
    # Root may look at what belongs to nova-compute's user.
    uid = status.st_uid if os.geteuid() == 0 else os.geteuid()
    reason = files.why_unsafe(status, uid)
    if reason:
        yield ('[quiesce] lease_directory: %s is not safe to use by user %s: '
               '%s' % (path, _user(uid), reason))


def _making(path: str) -> abc.Iterator[str]:
    # Only a try tells: some file systems take no directory from anybody.
    parent = _existing_parent(path)
    try:
        with tempfile.TemporaryDirectory(
                prefix='.nova-quiesce-check-', dir=parent):
            pass
    except OSError as error:
        yield ('[quiesce] lease_directory: user %s cannot make %s in %s (%s); '
               'if nova-compute runs as another user, check as that one'
               % (_user(), path, parent, error.strerror))


def _on_leases(path: str) -> abc.Iterator[str]:
    if os.geteuid() != 0 or not os.path.isabs(path):
        return
    if os.path.isdir(path):
        yield ('[quiesce] lease_directory: %s belongs to user %s; '
               'nova-compute has to run as that user'
               % (path, _user(os.stat(path).st_uid)))
    else:
        parent = _existing_parent(path)
        yield ('[quiesce] lease_directory: nova-compute has to be able to '
               'make %s in %s, which belongs to user %s; that root can says '
               'little' % (path, parent, _user(os.stat(parent).st_uid)))


def _existing_parent(path: str) -> str:
    return str(next(parent for parent in pathlib.Path(path).parents
                    if parent.exists()))


def _user(uid: int | None = None) -> str:
    number = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
