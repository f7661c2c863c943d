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

"""The ``[quiesce]`` options."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'quiesce',
    title='Quiesced snapshots',
    help="""
How nova-compute freezes and thaws the filesystems of a guest around a
snapshot. Read by nova-compute where
``compute_driver = quiesce.QuiesceLibvirtDriver``.
""")

OPTS = [
    cfg.IntOpt(
        'agent_timeout',
        default=5,
        min=1,
        max=60,
        help="""
Seconds that a guest agent has to answer the question that precedes a freeze
(which filesystems are there). It is asked before the freeze window opens, so
a slow answer delays the snapshot and nothing else.

An agent that does not answer in time counts as dead: the snapshot fails
where ``os_require_quiesce`` is set, and is labelled ``crash`` elsewhere.

Related options:

* ``[quiesce] freeze_timeout``
"""),
    cfg.IntOpt(
        'freeze_timeout',
        default=30,
        min=1,
        max=600,
        help="""
Seconds that a guest agent has to freeze all filesystems, its fsfreeze hooks
included. A freeze that was not confirmed by then is undone, and undone again
until the agent confirms the thaw, because it can still land later.

A volume-backed snapshot waits for the freeze in a remote call, so the sum of
``agent_timeout``, ``freeze_timeout`` and ``thaw_timeout`` should stay below
``rpc_response_timeout``.

Related options:

* ``[quiesce] agent_timeout``
* ``[quiesce] thaw_timeout``
* ``[DEFAULT] rpc_response_timeout``
"""),
    cfg.IntOpt(
        'thaw_timeout',
        default=10,
        min=1,
        max=600,
        help="""
Seconds that a snapshot waits for a confirmed thaw. After that it goes on
without the proof that it needs to be called consistent (it fails where
``os_require_quiesce`` is set), while the thaw is tried again in the
background until the guest confirms it, is reset, or is gone.

Related options:

* ``[quiesce] thaw_retry_interval``
"""),
    cfg.FloatOpt(
        'thaw_retry_interval',
        default=0.5,
        min=0.1,
        max=60,
        help="""
Seconds between two tries to thaw a guest that did not confirm the first.

Related options:

* ``[quiesce] thaw_timeout``
"""),
    cfg.IntOpt(
        'max_freeze_time',
        default=60,
        min=1,
        max=3600,
        help="""
Seconds that a guest may stay frozen while volumes are snapshotted, counted
from the confirmed freeze. It is thawed then, whatever the services that
asked for the freeze are doing, and what was cut later is not called
consistent.

The default stays below the 120 s after which a Linux guest's kernel reports
hung tasks.

Related options:

* ``[DEFAULT] rpc_response_timeout``
"""),
    cfg.IntOpt(
        'record_timeout',
        default=60,
        min=0,
        max=3600,
        help="""
Seconds that nova-compute looks for the image of a volume-backed snapshot in
order to record its consistency level there. Nova's API service creates that
image after the guest was thawed. 0 records nothing on volume-backed
snapshots. The record of an image-backed snapshot is part of its upload and
does not depend on this.
"""),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the ``[quiesce]`` options.

    :param conf: the configuration to register them with
    """
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def validate(conf: cfg.ConfigOpts) -> None:
    """Read each option once, so that a wrong one is found at start.

    :param conf: a configuration that has the options registered
    :raises ValueError: a value cannot be used; the text names the option
    """
    for option in OPTS:
        try:
            getattr(conf.quiesce, option.dest)
        except ValueError as error:
            # oslo.config's own text leaves out the group.
            raise ValueError('[quiesce] %s: %s' % (option.name, error)
                             ) from error


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """The options for oslo.config's sample generator and documentation."""
    return [(GROUP, list(OPTS))]
