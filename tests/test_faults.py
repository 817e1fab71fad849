"""Runs under real faults: SIGKILL at random times, a journal cut at every byte, a full disk, a disk that answers EIO. The children are
forks of this process with a scripted model, so that a kill costs a tenth of a second; `WATTNB_KILLS=200` makes a night of it
(`benchmarks/kills.py` does the same to the command with real models)."""
import json, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest

from wattnb.experiment import RunSettings, plan_run, run_all, stored_run, verify
from wattnb.journal import read_journal
from wattnb.llm import Reply, load_registry, open_model
from wattnb.plan import RunState
from wattnb.workspace import UserError, WorkError, Workspace

KILLS = int(os.environ.get('WATTNB_KILLS', 30))
pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='POSIX only')


class Scripted:
    "Answers by rule and slowly; refuses some questions, so that there are second and third attempts."
    def __init__(self, pause=.004, before=None):
        self.entry, self.pause, self.before = load_registry().find('extractive'), pause, before
        self.info = dict(effective_dtype='none', quantization='none', device='cpu')
    def count_tokens(self, text): return len(text.split())
    def stream(self, requests):
        for n, r in enumerate(requests):
            if self.before: self.before(n)
            time.sleep(self.pause)
            k = sum(map(ord, r.id))
            text = '' if k % 5 == 0 else json.dumps(dict(explanation='by rule', answer=f'{k}', answer_value=str(k), ref_id=['orrin2024']))
            yield Reply(r.id, text=text, prompt_tokens=10, completion_tokens=len(text), seconds=self.pause, batch_id=0, batch_size=1)
    def close(self): pass


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    folder = tmp_path_factory.mktemp('faults')
    (folder / 'data').mkdir(); (folder / 'artifacts').mkdir()
    rows = ''.join(f'q{i:03d},Which number has question {i}?,,{i},W,"[\'orrin2024\']",,,\n' for i in range(24))
    (folder / 'data/demo_QA.csv').write_text('id,question,answer,answer_value,answer_unit,ref_id,ref_url,supporting_materials,explanation\n' + rows)
    return Workspace.find(folder)


def settings(**kw): return RunSettings(**{'model': 'extractive', 'env': 'f', 'mode': 'closed-book', **kw})
def answers(folder): return [(r['id'], r['pred_value'], r['pred_ref'], r['status']) for r in json.loads((folder / 'results.json').read_text())]


def in_child(work):
    "Run `work` in a fork of this process; its id."
    pid = os.fork()
    if pid: return pid
    try:
        os.close(2); os.open(os.devnull, os.O_WRONLY)
        work(); os._exit(0)
    except BaseException: os._exit(1)


@pytest.fixture(scope='module')
def whole(ws):
    "The run that nothing disturbed, and how long a child takes for it."
    plan = plan_run(settings(name='whole'), ws)
    t0 = time.monotonic()
    os.waitpid(in_child(lambda: run_all(plan, Scripted())), 0)
    return plan.run_dir, time.monotonic() - t0


def test_killed_again_and_again_a_run_ends_as_if_nothing_had_happened(ws, whole):
    rng, cut, kills, finished, sessions = random.Random(3), None, 0, 0, 0
    while kills < KILLS:
        s = settings(name=f'cut{finished}')
        pid = in_child(lambda: run_all(plan_run(s, ws), Scripted()))
        time.sleep(rng.uniform(.02, 1.) * whole[1])
        os.kill(pid, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        plan = plan_run(s, ws)
        sessions += plan.done
        if plan.state != 'complete' and kills < KILLS and plan.done < len(plan.questions) - 2: continue # killed once more
        run_all(plan, Scripted(0))
        assert answers(plan.run_dir) == answers(whole[0])
        journal = read_journal(plan.run_dir / 'journal.jsonl')
        asked = [(a['id'], a['attempt']) for a in journal.of('attempt')]
        assert len(asked) == len(set(asked)), 'an answer that was kept was asked for again'
        wrong = [c for c in verify(plan.run_dir) if c['result'] != 'passed' and c['check'] != 'journal whole']
        assert not wrong and len(journal.quarantined) <= len(journal.of('session')), wrong
        finished += 1
    assert finished and sessions, 'kills fell in the middle of runs'


def test_cut_at_every_byte_of_a_record(ws, whole, tmp_path):
    raw = (whole[0] / 'journal.jsonl').read_bytes()
    lines = raw.splitlines(keepends=True)
    n = next(i for i, l in enumerate(lines) if b'"kind":"attempt"' in l) + 3
    start, end = sum(map(len, lines[:n])), sum(map(len, lines[:n + 1]))
    plan = plan_run(settings(name='bytes'), ws)
    plan.run_dir.mkdir(parents=True)
    journal, before = plan.run_dir / 'journal.jsonl', None
    for at in range(start, end + 1):
        journal.write_bytes(raw[:at])
        content = read_journal(journal, plan.run)
        done = [q.id for q in plan.questions if RunState(plan, content).is_done(q.id)]
        if at in (start, end): before = done if at == start else before
        assert len(content) == n + (at >= end - 1) and done[:len(before)] == before, 'whole lines count, torn ones do not'
        if (at - start) % max(1, (end - start) // 6) == 0 or at == end:
            (plan.run_dir / 'summary.json').unlink(missing_ok=True)
            run_all(plan_run(settings(name='bytes'), ws), Scripted(0))
            assert answers(plan.run_dir) == answers(whole[0]), at


def test_the_second_interrupt_stops_at_once(ws):
    plan = plan_run(settings(name='twice'), ws)
    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run_all(plan, Scripted(.2))
    pid = in_child(work)
    end = time.monotonic() + 30
    while time.monotonic() < end and not ((j := plan.run_dir / 'journal.jsonl').exists() and b'"attempt"' in j.read_bytes()): time.sleep(.02)
    os.kill(pid, signal.SIGINT); time.sleep(.001); os.kill(pid, signal.SIGINT)
    os.waitpid(pid, 0)
    again = plan_run(settings(name='twice'), ws)
    assert again.state == 'resume' and again.done >= 1
    run_all(again, Scripted(0))
    assert len(answers(again.run_dir)) == 24


def test_a_file_that_may_not_grow_ends_the_run_with_its_name_and_keeps_what_is_there(ws):
    plan = plan_run(settings(name='limit'), ws)
    note = plan.ws.root / 'limit.txt'
    def work():
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try: run_all(plan, Scripted(0))
        except WorkError as e: note.write_text(str(e))
    os.waitpid(in_child(work), 0)
    assert 'journal.jsonl' in note.read_text() and 'goes on from there' in note.read_text()
    kept = read_journal(plan.run_dir / 'journal.jsonl')
    assert not kept.quarantined and not kept.torn, 'the refused line was taken back'
    again = plan_run(settings(name='limit'), ws)
    assert 0 < again.done < 24
    run_all(again, Scripted(0))
    assert [a['id'] for a in kept.of('attempt')] == [a['id'] for a in read_journal(plan.run_dir / 'journal.jsonl').of('attempt')][:len(kept.of('attempt'))]


@pytest.fixture
def small_disk(ws, tmp_path):
    "A disk of 56 MB, where this machine lets us make one."
    at = tmp_path / 'disk'; at.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=56m', 'tmpfs', str(at)], capture_output=True).returncode: pytest.skip('no right to mount a small disk')
    try:
        shutil.copytree(ws.data, at / 'data'); (at / 'artifacts').mkdir()
        yield Workspace.find(at)
    finally: subprocess.run(['umount', '-l', str(at)], capture_output=True)


def test_a_disk_that_fills_up_in_the_middle(small_disk, whole):
    filler = small_disk.root / 'filler'
    def fill(n):
        if n != 9 or filler.exists(): return
        with open(filler, 'wb') as f:
            try:
                while True: f.write(b'x' * 65536); f.flush()
            except OSError: pass
    plan = plan_run(settings(name='full'), small_disk)
    with pytest.raises(WorkError, match=r'journal\.jsonl: No space left.*goes on from there'):
        run_all(plan, Scripted(0, fill))
    with pytest.raises(UserError, match='MB free'): plan_run(settings(name='full'), small_disk) # met before the run
    filler.unlink()
    again = plan_run(settings(name='full'), small_disk)
    assert 0 < again.done < 24
    run_all(again, Scripted(0))
    assert answers(again.run_dir) == answers(whole[0])


SHIM = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int counted;
static int broken(int fd, const char *call) {
    char link[64], path[4096]; ssize_t n; const char *which = getenv("EIO_CALL"), *after = getenv("EIO_AFTER");
    if (!which || !after || strcmp(which, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((n = readlink(link, path, sizeof path - 1)) < 13) return 0;
    path[n] = 0;
    return !strcmp(path + n - 13, "journal.jsonl") && ++counted > atoi(after);
}
ssize_t write(int fd, const void *b, size_t n) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (broken(fd, "write")) { if (n > 40) real(fd, b, 40); errno = EIO; return -1; }
    return real(fd, b, n);
}
int fsync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    if (broken(fd, "fsync")) { errno = EIO; return -1; }
    return real(fd);
}
'''


@pytest.mark.skipif(not sys.platform.startswith('linux') or not (shutil.which('cc') or shutil.which('gcc')), reason='needs Linux and a C compiler')
@pytest.mark.parametrize('call,after', [('write', 12), ('fsync', 6)])
def test_a_disk_that_answers_eio(ws, whole, tmp_path, call, after):
    (tmp_path / 'shim.c').write_text(SHIM)
    subprocess.run([shutil.which('cc') or shutil.which('gcc'), '-shared', '-fPIC', '-o', tmp_path / 'shim.so', tmp_path / 'shim.c', '-ldl'], check=True, capture_output=True)
    name = f'eio-{call}'
    code = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_faults import *; run_all(plan_run(settings(name={name!r}), {str(ws.root)!r}), Scripted(.01))'
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                       env={**os.environ, 'LD_PRELOAD': str(tmp_path / 'shim.so'), 'EIO_CALL': call, 'EIO_AFTER': str(after)})
    last = p.stderr.strip().splitlines()[-1]
    assert p.returncode == 1 and 'WorkError' in last and 'journal.jsonl: Input/output error' in last, p.stderr
    plan = plan_run(settings(name=name), ws)
    kept = read_journal(plan.run_dir / 'journal.jsonl')
    assert plan.state == 'resume' and plan.done > 0 and len(kept.quarantined) <= 1
    run_all(plan, Scripted(0))
    assert answers(plan.run_dir) == answers(whole[0])
    assert [a['id'] for a in read_journal(plan.run_dir / 'journal.jsonl').of('attempt')][:len(kept.of('attempt'))] == [a['id'] for a in kept.of('attempt')]
