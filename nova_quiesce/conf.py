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

"""The ``[quiesce]`` options, and the limits of each."""

from collections import abc

from nova.conf import paths
from oslo_config import cfg
from oslo_log import log as logging

from nova_quiesce import conf_checks
from nova_quiesce import policy
from nova_quiesce import properties

LOG = logging.getLogger(__name__)

GROUP = cfg.OptGroup(
    'quiesce',
    title='Quiesced snapshots',
    help="""
How nova-compute freezes and thaws the filesystems of a guest around a
snapshot. Read by nova-compute where
``compute_driver = quiesce.QuiesceLibvirtDriver``.
""")

OPTS = [
    cfg.StrOpt(
        'mode',
        default=policy.MODE_ASKED,
        choices=[
            (policy.MODE_ASKED,
             'Guests are frozen as their image asks.'),
            (policy.MODE_REQUIRED,
             'Only guests whose image sets os_require_quiesce are frozen.'),
            (policy.MODE_OFF, 'No guest is frozen.'),
        ],
        help="""
Which guests this host freezes for their snapshots.

No value loosens ``os_require_quiesce``: with ``off``, the snapshot of a
running instance fails where its image sets that. All other snapshots are
taken as they would be without this driver, and labelled for what they are.
"""),
    cfg.BoolOpt(
        'allow_opt_out',
        default=True,
        help="""
Whether an image may opt out of quiesce with the property
``os_skip_quiesce=yes``. If not, the property has no effect, and the log says
so. It never has one beside ``os_require_quiesce``.
"""),
    cfg.BoolOpt(
        'allow_mountpoints',
        default=False,
        help="""
Whether an image may limit the freeze to some filesystems, with the property
``os_quiesce_mountpoints``. If not, all are frozen whatever it says, and the
log says so.

What is limited in this way is consistent for these filesystems alone, and
still has consistency level ``filesystem``; its reason names them.
"""),
    cfg.StrOpt(
        'properties_from',
        default=properties.STRICTER,
        choices=[
            (properties.INSTANCE,
             'Those that Nova copied into the instance as it was booted or '
             'rebuilt. Glance is not asked.'),
            (properties.IMAGE,
             'Those that the image has now, so that a change of the image '
             'counts for all its instances, in both directions.'),
            (properties.STRICTER,
             'Of the two, those that ask for more: a property that is set '
             'later counts at once, and a promise made at boot is kept.'),
        ],
        help="""
Which image properties count for a snapshot, if those of the image were
changed after the instance was booted.

The present ones are read from Glance with the authority of the request.
Where that fails (the image is gone, or not shared any more) or takes too
long, those of the instance count, and a warning in the log says so. An
instance that comes from no image has only its own.

Related options:

* ``[quiesce] glance_timeout``
"""),
    cfg.IntOpt(
        'glance_timeout',
        default=5,
        min=1,
        max=60,
        help="""
Seconds to wait for the present properties of an image, retries included.
They are read before the freeze window opens, so a slow Glance delays the
snapshot and nothing else.

Related options:

* ``[quiesce] properties_from``
* ``[glance] num_retries``
* ``[DEFAULT] rpc_response_timeout``
"""),
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

A freeze never has longer than ``max_freeze_time``, nor longer than the image
property ``os_quiesce_max_freeze_time``.

A volume-backed snapshot waits for the freeze in a remote call, so the sum of
``glance_timeout``, ``agent_timeout``, ``freeze_timeout`` and
``thaw_timeout`` should stay below ``rpc_response_timeout``. If it does not,
nova-compute warns when it starts.

Related options:

* ``[quiesce] glance_timeout``
* ``[quiesce] agent_timeout``
* ``[quiesce] thaw_timeout``
* ``[quiesce] max_freeze_time``
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
Seconds between the first two tries to thaw a guest that did not confirm the
first. The longer it takes, the longer are the pauses, up to 10 s. It has to be
shorter than ``thaw_timeout``, or nova-compute does not start.

Related options:

* ``[quiesce] thaw_timeout``
"""),
    cfg.IntOpt(
        'max_freeze_time',
        default=60,
        min=1,
        max=3600,
        help="""
Seconds that a guest may stay frozen, counted from the confirmed freeze. It
is thawed then, whatever the services that asked for the freeze are doing,
and what was cut later is not called consistent.

An image can ask for less with ``os_quiesce_max_freeze_time``, in seconds,
and not for more.

The default stays below the 120 s after which a Linux guest's kernel reports
hung tasks. From there on, nova-compute warns when it starts.

Related options:

* ``[quiesce] max_freeze_time_windows``
* ``[quiesce] freeze_timeout``
"""),
    cfg.IntOpt(
        'max_freeze_time_windows',
        default=conf_checks.SHADOW_SERVICE,
        min=1,
        max=3600,
        help="""
The same for guests whose image sets ``os_type=windows``. The shorter of the
two counts for them.

Windows lets writes go on 10 s after its volume shadow service stopped them,
whether anyone thawed the guest or not, so with a longer time snapshots are
made in vain. nova-compute warns of it when it starts.

Related options:

* ``[quiesce] max_freeze_time``
"""),
    cfg.StrOpt(
        'lease_directory',
        default=paths.state_path_def('quiesce'),
        sample_default='$state_path/quiesce',
        help="""
Where nova-compute notes which guests it holds frozen, which backup jobs it
has begun, what its snapshots owe (``duties``) and which guests shut themselves
down (``shutdowns``), so that nothing is lost if it is killed and started
again. An absolute path on a local
file system that survives the service; nova-compute creates the directory,
readable for its own user alone. Hosts must not share it.

Related options:

* ``[DEFAULT] state_path``
* ``[quiesce] guard``
"""),
    cfg.StrOpt(
        'guard',
        default=policy.GUARD_REQUIRED,
        choices=[
            (policy.GUARD_REQUIRED,
             'Without a guard, no guest is frozen: snapshots that have to be '
             'consistent fail, others are labelled crash.'),
            (policy.GUARD_PREFERRED,
             'Guests are frozen without a guard, too, and the log warns of '
             'it.'),
            (policy.GUARD_OFF, 'There is no guard.'),
        ],
        help="""
Whether a freeze needs the thaw guard: a small process beside nova-compute
that ends each freeze at its deadline, and all of them when nova-compute
dies.

Without a guard, a guest that is frozen when nova-compute is killed stays
frozen until nova-compute is started again.

Related options:

* ``[quiesce] guard_socket``
* ``[quiesce] lease_directory``
"""),
    cfg.StrOpt(
        'guard_socket',
        help="""
The unix socket of a thaw guard that runs as a service of its own, as an
absolute path of at most 107 bytes. Where it is not set, nova-compute starts
a guard as its child process.

A child is killed together with nova-compute where a service manager kills
all processes of a service, which is what systemd does. A service of its own
survives that.

Related options:

* ``[quiesce] guard``
"""),
    cfg.BoolOpt(
        'direct_upload',
        default=True,
        help="""
Whether the disk of a running instance is uploaded to Glance as it is read. If
not, an image is made in ``snapshots_directory`` first, which takes longer, and
space for the whole image.

What the guest overwrites until its disk is read to its end is kept aside in
``snapshots_directory``. A direct upload reads at the speed of Glance, so this
can become more than it would be otherwise; when the space runs out, the
snapshot fails, and the guest goes on.

Only images in the formats ``raw`` and ``qcow2`` are uploaded in this way, and
only where they are not compressed and Nova does not limit how many disks are
read at once.

Related options:

* ``[libvirt] snapshots_directory``
* ``[libvirt] snapshot_image_format``
* ``[libvirt] snapshot_compression``
* ``[compute] max_concurrent_disk_ops``
"""),
    cfg.BoolOpt(
        'record',
        default=True,
        help="""
Whether the consistency level of a snapshot is recorded on its image, in the
properties ``quiesce_*``, and in the metadata of its volume snapshots. If not,
it is only logged; nothing else changes, and what is required and not proven
fails all the same.

Related options:

* ``[quiesce] record_timeout``
"""),
    cfg.IntOpt(
        'record_timeout',
        default=60,
        min=1,
        max=3600,
        help="""
Seconds after which it is told, in the log and by an event of the server, that
the record of a volume-backed snapshot is not on its image yet. Nova's API
service creates that image after the guest was thawed, and nova-compute goes on
looking for it after that.

The record of an image-backed snapshot is part of its upload and does not
depend on this.

Related options:

* ``[quiesce] record``
"""),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the ``[quiesce]`` options, and Nova's that they refer to.

    :param conf: the configuration to register them with
    """
    paths.register_opts(conf)
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def validate(conf: cfg.ConfigOpts) -> None:
    """Refuse at start the values that would fail the first snapshot.

    Those that are risky, and can work, are logged as warnings.

    :param conf: a configuration that has the options registered
    :raises ValueError: a value cannot be used; the text names the option
    """
    for problem in [*wrong_values(conf)] or conf_checks.problems(conf):
        raise ValueError('[quiesce] %s' % problem)
    for risk in conf_checks.risks(conf):
        LOG.warning('[quiesce] %s', risk)


def wrong_values(conf: cfg.ConfigOpts) -> abc.Iterator[str]:
    """Find the options that are set to a value that they cannot have.

    :param conf: a configuration that has the options registered
    :returns: a sentence for each, the option's name first; oslo.config's own
        text leaves out the group
    """
    for option in OPTS:
        try:
            getattr(conf.quiesce, option.dest)
        except ValueError as error:
            yield '%s: %s' % (option.name, error)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """List the options for oslo.config's sample and documentation."""
    return [(GROUP, list(OPTS))]
