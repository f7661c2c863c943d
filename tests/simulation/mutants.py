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

"""Slips that the simulation has to notice, and the command that tries them.

``python -m tests.simulation.mutants`` makes each of them in a copy of the
tree, and has the tests of single faults look at it. It prints which test
noticed it, and ends with 1 if one was not.
"""

import concurrent.futures
import faulthandler
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).parents[2]
_VOLUMES = '*test_volume_backed*required*'


class Mutant(typing.NamedTuple):
    """One slip.

    :ivar what: what somebody may have thought
    :ivar module: where it is, below the package
    :ivar right: a part of it that is there once
    :ivar wrong: what it is replaced by
    :ivar tests: those that look at it, by a pattern of their names
    """

    what: str
    module: str
    right: str
    wrong: str
    tests: str = '*test_image_backed*required*'


MUTANTS = [
    Mutant('a freeze that failed needs no thaw', 'freeze/windows',
           """            self._new_thaw(lease, getattr(error, 'frozen', None),
                           _settling(error)).run()
            raise""", '            raise'),
    Mutant('a thaw that is not confirmed is over', 'freeze/window_thaw',
           "                  'thawing it', self._name)\n"
           '        self._go_on()',
           "                  'thawing it', self._name)"),
    Mutant('no deadline', 'freeze/windows',
           '            self._prepare_deadline()\n', ''),
    Mutant('what is thawed at its deadline is good', 'freeze/windows',
           '        self.close(lapse)', '        self.close()'),
    Mutant('a late thaw is no lapse', 'freeze/windows',
           '                closed_at > self._deadline):',
           '                closed_at > self._deadline + 3600):'),
    Mutant('a window that never opened keeps its lease', 'freeze/windows',
           """            self._left.set()
            self._lease.drop()
            raise""", """            self._left.set()
            raise"""),
    Mutant('a lease outlasts its thaw', 'freeze/window_thaw',
           '        self._watched.drop()', '        pass'),
    Mutant('the guard is not told', 'freeze/watched_lease',
           '            self._guard.watch(lease)\n', '            pass\n'),
    Mutant('the guard hears of no release', 'freeze/watched_lease',
           '                self._guard.defer(self._guard.release, lease.id)',
           '                pass'),
    Mutant('the guard has no deadline of its own', 'freeze/guard/watcher',
           'self._ended.wait(None if self._deadline is None else max(\n'
           '            0, self._deadline - self._machine.monotonic()))',
           'self._ended.wait()'),
    Mutant('a guard that ends a watch does nothing',
           'freeze/guard/lease_watcher',
           '        outcome = self._thawing.run(self._tell, self._wait)',
           '        outcome = None'),
    Mutant('recovery trusts the lease to have been in time',
           'freeze/recovery',
           '        outcome = thaw.run(\n'
           '            functools.partial(self._tell, instance_uuid), '
           'self._wait)',
           "        outcome = thawing.Outcome('it was long ago')"),
    Mutant('recovery leaves the lease', 'freeze/recovery',
           '                self._directory.release(lease)\n',
           '                pass\n'),
    Mutant('no recovery', 'freeze/freezer',
           'self._machine).run(self._settings.thaw)', 'self._machine)'),
    Mutant('one try to thaw is enough', 'freeze/thawing',
           '            if not wait(self.pause()):\n',
           '            if wait(self.pause()) or True:\n'),
    Mutant('a thaw that was not sent was one', 'freeze/thawing',
           '            self._asks_first = False\n            raise\n'
           '        except errors.ThawRefused',
           "            return Outcome('it was sent')\n"
           '        except errors.ThawRefused'),
    Mutant('no answer is as good as a refusal', 'freeze/replies',
           '        return Reply.ANSWERED_NO\n    return Reply.UNKNOWN',
           '        return Reply.ANSWERED_NO\n    return Reply.NEVER_SENT'),
    Mutant('a freeze that nobody heard of is proven', 'snapshots',
           '            self.record = consistency.judge(window.close())',
           '            window.close()\n'
           '            self.record = consistency.Record(\n'
           "                consistency.Level.FILESYSTEM, 'it froze')"),
    Mutant('what is required is not checked', 'snapshots',
           '            raise errors.QuiesceError(self.record.reason)',
           '            pass'),
    Mutant('the counts need not be the same', 'consistency',
           'if evidence.thawed < evidence.frozen:',
           'if evidence.thawed < 0:'),
    Mutant('an unconfirmed thaw proves a freeze', 'consistency',
           'if evidence.thawed is None:', 'if False:'),
    Mutant('a window that spans two calls ends by itself',
           'freeze/spanning_windows',
           '        span.window.close()\n        return was_open',
           '        return was_open', _VOLUMES),
    Mutant('a file whose link failed is not there', 'freeze/files',
           '                self._unlink_same(name, file)\n', ''),
    Mutant('an agent is not limited in time', 'freeze/response_limits',
           '            domain.agentSetResponseTimeout(seconds, 0)',
           '            domain.agentSetResponseTimeout(3600, 0)'),
    Mutant('a guard that was let go calls no agent', 'freeze/watched_lease',
           '                or (let_go_at is not None and '
           'let_go_at >= self._told_at))', '                or False)',
           '*test_image_backed_*stop_compute*'),
    Mutant('a guard that began is at it for ever', 'freeze/watched_lease',
           '        if self._may_guard_be_at_it():\n',
           '        if self._may_guard_be_at_it() or self._guard_until:\n',
           '*test_image_backed_*stall_compute*'),
    Mutant('a suspension that failed did not come about', 'cuts/suspension',
           '                self._is_ours = (error.get_error_code() !=\n'
           '                                 '
           'libvirt.VIR_ERR_OPERATION_INVALID)',
           '                self._is_ours = False', '*suspended*'),
    Mutant('what cannot be resumed at once never can', 'cuts/suspension',
           '                if error is failure or '
           'self._machine.monotonic() >= deadline:',
           '                if True:', '*suspended*'),
    Mutant('libvirt may freeze as well', 'cuts/external_snapshot',
           "'quiesce': False}", "'quiesce': True}", '*assisted*'),
    Mutant('a cut in Ceph that failed left nothing', 'cuts/rbd',
           '            self._wrapped.remove_snap('
           'self._image, name, ignore_errors=True)\n', '', '*on_rbd*'),
    Mutant('the guard lets jobs go on', 'freeze/guard/job_watcher',
           '        while not (ending := self._try(said)):',
           "        while not (ending := 'it is left alone'):"),
    Mutant('the guard is told of no job', 'freeze/leased_jobs',
           '            self._guard.watch_job(lease)', '            pass'),
    Mutant('a job is not ended', 'freeze/jobs', '    _abort(domain)\n',
           '    pass\n'),
    Mutant("any job is one's own", 'freeze/jobs',
           'return find(domain) == (files.socket, {files.scratch})',
           'return find(domain) is not None'),
    Mutant("a job's note outlasts it", 'freeze/leased_jobs',
           '            self._directory.end(lease)', '            pass'),
    Mutant('jobs that were left are not gone on with', 'copy/leftovers',
           '            leases.adopt(lease, functools.partial(\n'
           '                _remove, host, places, path))',
           '            pass'),
    Mutant("files go before their job's end", 'copy/disk_export',
           'self.place.is_kept = not self.end()',
           'self.place.is_kept = self.end() is None'),
    Mutant('a prefix tells whose files they are', 'copy/workplace',
           '                _RANDOM.fullmatch(name.removeprefix('
           'self._prefix)) is not None)', '                True)'),
    Mutant('a list that never comes is waited for', 'record/duty_worker',
           ' or self._has_failed or not self._thread)',
           ' or self._has_failed)', _VOLUMES),
    Mutant('a duty outlasts its end', 'record/duty_worker',
           '                self._shared.directory.end(self.duty.stored)',
           '                pass', _VOLUMES),
    Mutant('a duty whose fsync failed is not there', 'record/open_requests',
           '            self._take_back(duty)\n', '', _VOLUMES),
    Mutant('what a restart cut off is not judged', 'record/open_requests',
           '        if duty.verdict is None:\n            verdict',
           '        if False:\n            verdict', _VOLUMES),
    Mutant('the list is not noted', 'record/open_requests',
           '        worker.change(lambda duty: duty.with_snapshots('
           'snapshot_ids, now))\n', '', _VOLUMES),
    Mutant('what is required is only labelled', 'record/recorder',
           '        if duty.is_required and verdict.level == _CRASH:',
           '        if False:', _VOLUMES),
    Mutant('an image that is saved takes a record', 'record/recorder',
           "_COMPLETE = ('active', 'deactivated')",
           "_COMPLETE = ('active', 'deactivated', 'saving')", _VOLUMES),
    Mutant('a queued image becomes active some day', 'record/recorder',
           "            return _NEVER_COMPLETE % image['id'] if is_late else "
           'None', '            return None', _VOLUMES),
    Mutant('a record that Glance does not take is none', 'record/recorder',
           '            return False\n        return True\n\n'
           '    def _record_on_snapshot',
           '            return True\n        return True\n\n'
           '    def _record_on_snapshot', _VOLUMES),
    Mutant("an image of one's own is any of the project", 'record/glance',
           '            if sorted(snapshots_of(image)) == wanted:',
           '            if snapshots_of(image):', _VOLUMES),
    Mutant('what was not seen complete was', 'record/record_duty',
           'if is_claimed and not self.cut.issuperset(snapshot_ids):',
           'if False:', _VOLUMES),
    Mutant('an instance is paused as it is', 'operations',
           '        self._freezer.spanning.lapse(\n'
           '            instance.uuid,\n',
           '        LOG.debug(\n            instance.uuid,\n',
           '*volume_backed_required_suspend'),
    Mutant('a freeze may begin while a guest moves', 'freeze/freezer',
           '        if operation is not None:', '        if False:',
           '*volume_backed*migrate'),
    Mutant('a mirror that was left over is a cut', 'cuts/mirror',
           '        if not self._running:', '        if False:',
           '*mirrored*'),
    Mutant("Cinder's request is never nova-api's", 'assisted',
           '            if holder is not None:\n',
           '            if False:\n',
           '*volume_backed_and_assisted*'),
    Mutant('a volume snapshot that failed was cut', 'cuts/cinder',
           '        if state == _AVAILABLE:', '        if True:', _VOLUMES),
]


def try_one(mutant: Mutant) -> str | None:
    """Have the tests look at a tree with one slip.

    :param mutant: the slip
    :returns: the name of the test that noticed it; None if none did
    """
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch)
        for name in ('nova_quiesce', 'tests'):
            shutil.copytree(ROOT / name, tree / name,
                            ignore=shutil.ignore_patterns('__pycache__'))
        path = tree / 'nova_quiesce' / (mutant.module + '.py')
        text = path.read_text()
        if text.count(mutant.right) != 1:
            raise ValueError('%s: not there once: %r' % (
                mutant.module, mutant.right))
        path.write_text(text.replace(mutant.right, mutant.wrong))
        done = subprocess.run(
            [sys.executable, '-m', 'unittest', '--failfast', '-k',
             mutant.tests, 'tests.simulation.test_single_faults'],
            cwd=tree, env={**os.environ, 'PYTHONPATH': str(tree)},
            capture_output=True, text=True)
    found = re.search(r'^(?:FAIL|ERROR): (\w+)', done.stderr, re.MULTILINE)
    if done.returncode == 0:
        return None
    return found[1] if found else done.stderr[-300:]


def main() -> int:
    """Try them all.

    :returns: 1 if one was not noticed
    """
    # It takes longer than tests may.
    faulthandler.cancel_dump_traceback_later()
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, noticed in zip(MUTANTS, pool.map(try_one, MUTANTS),
                                   strict=True):
            missed += noticed is None
            print('%-45s %s' % (mutant.what, noticed or 'NOT NOTICED'),
                  flush=True)
    print('%d slips, %d not noticed' % (len(MUTANTS), missed))
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
