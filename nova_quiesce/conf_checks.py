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

"""Checks of the ``[quiesce]`` options against each other and Nova's.

Each option's own limits stand beside it, in :mod:`nova_quiesce.conf`.
"""

from collections import abc
import os.path

from oslo_config import cfg

from nova_quiesce import policy
from nova_quiesce import properties

#: Seconds after which a Linux guest's kernel reports tasks that hang
#: (``kernel.hung_task_timeout_secs``).
HUNG_TASK = 120
#: Seconds after which Windows' volume shadow service lets writes go on
#: (kubevirt issue 16653).
SHADOW_SERVICE = 10
#: How long the path of a unix socket may be, in bytes (``sun_path``).
_SOCKET_PATH = 107


def problems(conf: cfg.ConfigOpts) -> abc.Iterator[str]:
    """Find the values that can never work.

    :param conf: a configuration whose ``[quiesce]`` options can be read
    :returns: a sentence for each problem, the option's name first
    """
    options = conf.quiesce
    for name in ('lease_directory', 'guard_socket'):
        path = getattr(options, name)
        if path is not None and not os.path.isabs(path):
            yield '%s: %s is not an absolute path' % (name, path)
    if len(os.fsencode(options.guard_socket or '')) > _SOCKET_PATH:
        yield ('guard_socket: the path of a unix socket has at most %d bytes'
               % _SOCKET_PATH)
    if options.thaw_retry_interval >= options.thaw_timeout:
        yield ('thaw_retry_interval: %g s is not shorter than thaw_timeout '
               '(%d s), so a thaw would never be tried again in time'
               % (options.thaw_retry_interval, options.thaw_timeout))


def risks(conf: cfg.ConfigOpts) -> abc.Iterator[str]:
    """Find the values that can work, and tell what they cost.

    :param conf: a configuration whose ``[quiesce]`` options can be read
    :returns: a sentence for each risk, the option's name first
    """
    options = conf.quiesce
    if options.mode == policy.MODE_OFF:
        yield ('mode = off: snapshots of running instances fail on this host '
               'where their image sets os_require_quiesce')
    if options.guard == policy.GUARD_OFF:
        yield ('guard = off: a guest that is frozen when nova-compute is '
               'killed stays frozen until nova-compute is started again')
        if options.guard_socket:
            yield 'guard_socket has no effect: guard = off'
    yield from _risky_times(conf)


def _risky_times(conf: cfg.ConfigOpts) -> abc.Iterator[str]:
    options = conf.quiesce
    longest = options.max_freeze_time
    if longest >= HUNG_TASK:
        yield ('max_freeze_time = %d: Linux guests report hung tasks after '
               '%d s' % (longest, HUNG_TASK))
    on_windows = min(longest, options.max_freeze_time_windows)
    if on_windows > SHADOW_SERVICE:
        yield ('max_freeze_time_windows = %d: Windows lets writes go on after '
               '%d s, and what is cut later is not consistent'
               % (options.max_freeze_time_windows, SHADOW_SERVICE))
    if options.freeze_timeout > longest:
        yield ('freeze_timeout = %d: a freeze has no longer than '
               'max_freeze_time (%d s)' % (options.freeze_timeout, longest))
    yield from _risky_sum(conf)


def _risky_sum(conf: cfg.ConfigOpts) -> abc.Iterator[str]:
    try:
        limit = conf.rpc_response_timeout
    except cfg.NoSuchOptError:
        # oslo.messaging registers it with nova-compute's first client, and
        # can be imported only after Nova chose its concurrency mode.
        return
    summands = ['agent_timeout', 'freeze_timeout', 'thaw_timeout']
    if conf.quiesce.properties_from != properties.INSTANCE:
        summands.insert(0, 'glance_timeout')
    longest = sum(getattr(conf.quiesce, name) for name in summands)
    if longest >= limit:
        yield ('%s = %d: nova-api gives up after rpc_response_timeout (%d s), '
               'so a slow freeze fails the snapshot of a volume-backed '
               'instance' % (' + '.join(summands), longest, limit))
