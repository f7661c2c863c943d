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

"""Pings services through the message broker, for :mod:`quiescelab.whole`.

The services' own Python runs it: ``ping.py SECONDS CONFIG EXCHANGE TOPIC...``.
It prints a line for each topic that nobody answers for in time.
"""

from collections.abc import Iterable
import sys

from oslo_config import cfg
import oslo_messaging

#: What services offer where their option rpc_ping_enabled is set.
METHOD = 'oslo_rpc_server_ping'


def ping(seconds: int, config: str, exchange: str,
         topics: Iterable[str]) -> list[str]:
    """Ask one service of each topic whether it is there.

    :param config: a service's settings, which name the broker
    :returns: what is wrong, in lines
    """
    # Parts of oslo.messaging know no other settings than the global ones.
    cfg.CONF([], default_config_files=[config])
    transport = oslo_messaging.get_rpc_transport(cfg.CONF)
    wrong = []
    for topic in topics:
        client = oslo_messaging.get_rpc_client(
            transport, oslo_messaging.Target(exchange=exchange, topic=topic),
            timeout=seconds, retry=0)
        try:
            client.call({}, METHOD)
        except oslo_messaging.MessagingException as error:
            wrong.append(f'{topic}: {type(error).__name__}')
    transport.cleanup()
    return wrong


if __name__ == '__main__':
    print('\n'.join(ping(int(sys.argv[1]), sys.argv[2], sys.argv[3],
                         sys.argv[4:])), end='')
