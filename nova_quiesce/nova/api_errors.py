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

"""This package's errors, as Nova's services can hear them."""

from collections import abc
import contextlib

from nova import exception as nova_exception
from oslo_log import log as logging

from nova_quiesce import exception
from nova_quiesce.freeze import errors
from nova_quiesce.nova import seams

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def as_novas(instance: seams.Instance) -> abc.Iterator[None]:
    """Turn this package's errors into the one that Nova's API knows.

    Only Nova's own classes cross the RPC as what they are, and this one is a
    409 for volume-backed instances and an instance fault for image-backed
    ones, with its text for the tenant.
    """
    try:
        yield
    except exception.NotRequested as error:
        raise nova_exception.InstanceQuiesceFailed(reason=error) from error
    except errors.QuiesceError as error:
        LOG.error('The guest was not quiesced: %s', error, instance=instance)
        raise nova_exception.InstanceQuiesceFailed(
            reason='%s (instance %s)' % (error, instance.uuid)) from error


def refusal(error: errors.QuiesceError) -> Exception:
    """An error that fails a volume-backed snapshot in nova-api.

    nova-api decides by the instance's copy of ``os_require_quiesce`` whether
    it goes on without a freeze, after any ``NovaException``. This one is none
    and still from Nova's module, so it crosses the RPC, and the API answers
    it as what it says.

    :param error: why the guest was not quiesced
    """
    told = (409, 'Conflict', nova_exception.InstanceQuiesceFailed(
        reason=error).format_message())
    refusal: Exception = nova_exception.ConvertedException(*told)
    # What it is made of again at the other end.
    refusal.args = told
    return refusal
