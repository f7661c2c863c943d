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

"""Commands and files of the machine."""

from collections.abc import Mapping, Sequence
import grp
import os
import pathlib
import pwd
import shutil
import subprocess

from quiescelab import errors

PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


def environment() -> dict[str, str]:
    """Return this process's environment without its Python settings."""
    ours = ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')
    kept = {k: v for k, v in os.environ.items() if k not in ours}
    return kept | {'PATH': PATH, 'LC_ALL': 'C.UTF-8'}


def as_user(user: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs argv as a user, in the same process."""
    if user == 'root':
        return list(argv)
    group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    return ['setpriv', f'--reuid={user}', f'--regid={group}',
            '--init-groups', '--', *argv]


def run(argv: Sequence[str], *, log: pathlib.Path, user: str = 'root',
        env: Mapping[str, str] | None = None,
        cwd: pathlib.Path | None = None, stdin: str = '',
        accept: Sequence[int] = (0,)) -> None:
    """Run a command to its end, with its output in a log.

    :param argv: the command
    :param log: the file that the output is appended to
    :param user: who runs it
    :param env: variables to set besides the lab's own
    :param cwd: where it runs
    :param stdin: what it reads
    :param accept: the exit codes that are no failure
    :raises CommandFailed: on any other exit code
    """
    with log.open('a') as stream:
        stream.write(f'$ {" ".join(argv)}\n')
        stream.flush()
        done = subprocess.run(
            as_user(user, argv), env=environment() | dict(env or {}),
            cwd=cwd or '/', input=stdin, text=True, stdout=stream,
            stderr=subprocess.STDOUT, check=False)
    if done.returncode not in accept:
        raise errors.CommandFailed(argv, done.returncode, log)


def output(argv: Sequence[str],
           seconds: float | None = None) -> str | None:
    """Return what a command printed, or None if it failed.

    :param seconds: that it may take, before it is killed and has failed
    """
    try:
        done = subprocess.run(
            argv, env=environment(), text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None


def make_directory(path: pathlib.Path, owner: str = 'root',
                   mode: int = 0o755) -> None:
    """Make a directory, with its parents, an owner and a mode.

    :param path: the directory
    :param owner: the user; the group is that user's own
    :param mode: the permission bits of the last part
    """
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    shutil.chown(path, owner, pwd.getpwnam(owner).pw_gid)


def mount_points() -> list[pathlib.Path]:
    """Return where something is mounted, in the order of mounting."""
    lines = pathlib.Path('/proc/self/mounts').read_text().splitlines()
    return [pathlib.Path(line.split()[1]) for line in lines]


def write_file(path: pathlib.Path, text: str, group: str = 'root',
               mode: int = 0o644) -> None:
    """Write a file of root's, readable by a group.

    :param path: the file; its directory is made
    :param text: the content
    :param group: the user whose group may read it
    :param mode: the permission bits
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + '.new')
    # The mode comes before the content: it may hold a password.
    temporary.touch(mode=0o600)
    temporary.chmod(mode)
    shutil.chown(temporary, 'root', pwd.getpwnam(group).pw_gid)
    temporary.write_text(text)
    temporary.replace(path)


def ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Return the text of an oslo.config file."""
    lines: list[str] = []
    for section, options in sections.items():
        lines.append(f'[{section}]')
        lines.extend(f'{name} = {value}' for name, value in options.items())
        lines.append('')
    return '\n'.join(lines)
