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

"""Texts that a tenant may put into an agent's answer."""

import random

#: The size of the largest text that libvirt takes from an agent.
HUGE = 10 << 20

#: What libvirt and agents say, for all that this package reads out of it.
WORDS = (
    'QEMU guest agent is not connected',
    'QEMU guest agent is not available due to an error',
    "guest agent didn't respond to synchronization within '5' seconds",
    "guest agent didn't respond to command within '5' seconds",
    'Guest agent not available for now',
    'Guest agent disappeared while executing command',
    'Command guest-fsfreeze-freeze has been disabled',
    'Command guest-get-time has been disabled: the agent is in frozen state',
    'the command is not allowed', 'The command guest-x has not been found',
    'fsfreeze hook has failed with status 1', "couldn't hold writes",
    'child process has failed to execute fsfreeze hook: exit status 1',
    'Timed out during operation: cannot acquire state change lock',
    'Domain not found: no domain with matching uuid',
    'Requested operation is not valid: domain is not running',
    "unable to execute QEMU agent command 'guest-fsfreeze-thaw': ",
    'client socket is closed',
)
_FORGED = (
    '\n2026-01-01 00:00:00.000 1 ERROR nova [-] the host is on fire\n',
    '\r\n\x1b[2J\x1b[31mroot@host:~# \x07', '\0', '\x7f\x80\x9f', '\u2028',
    '\u202egnp.exe', '\u200b\u200d\ufeff', '\ud800', '\udcff', '\U0001f600',
    'a\u0301' * 40, '%s%d%(name)s%n{}{0.__class__}', "'; DROP TABLE images --",
    '<script>alert(1)</script>', '${jndi:ldap://x}', '/../../etc/passwd',
    '{"return": 2}', '"', '\\', ' ', '',
)
# Made once: what a run takes is then the code's own.
_HUGE = tuple((part * (HUGE // len(part) + 1))[:HUGE] for part in (
    'A', '\n', '\0', '[', '{"a":', ' ', '\ud800', '\U0001f600',
    'the agent is in frozen state ', 'x\n'))


def choose(chosen: random.Random, is_huge: bool = True) -> str:
    """Choose a text.

    :param chosen: by what
    :param is_huge: whether it may have 10 MiB
    """
    kind = chosen.random()
    if kind < 0.4:
        return _mixed(chosen)
    if kind < 0.6:
        return ''.join(chr(chosen.randrange(0x110000))
                       for _ in range(chosen.randrange(400)))
    if kind < 0.8:
        return chosen.choice(WORDS)
    return chosen.choice(_HUGE if is_huge else _FORGED)


def _mixed(chosen: random.Random) -> str:
    return ''.join(
        chosen.choice(chosen.choice((WORDS, _FORGED)))
        * chosen.choice((1, 1, 1, 30))
        for _ in range(chosen.randint(1, 4)))
