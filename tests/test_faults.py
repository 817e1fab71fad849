"""Runs under real faults: SIGKILL at random times, a journal cut at every byte, a full disk, a disk that answers EIO. The children are
forks of this process with a simulated model, so that a kill costs a tenth of a second; `WATTNB_KILLS=200` makes many more kills
(`benchmarks/kills.py` does the same to the command with real models)."""
import json, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest

from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.experiment.execute import run_all
from wattnb.experiment.stored import verify
from wattnb.experiment.journal import read_journal
from wattnb.llm.protocol import Reply
from wattnb.llm.registry import load_registry
from wattnb.experiment.plan import RunState
from wattnb.core.workspace import DERIVED, UserError, WorkError, Workspace, read_json, stale_files, write_json

KILLS = int(os.environ.get('WATTNB_KILLS', 20))
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
    rng, kills, finished, sessions = random.Random(3), 0, 0, 0
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
    end = time.monotonic() + 300
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
    assert 'journal.jsonl' in note.read_text() and 'resumes the run' in note.read_text()
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
    with pytest.raises(WorkError, match=r'journal\.jsonl: No space left.*resumes the run'):
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


class Silent(Scripted):
    "Fails the test when it is called."
    def stream(self, requests): raise AssertionError('a model was asked')


def stopped_and_resumed(ws, name, before=None):
    "A run that was interrupted with its files written, and then resumed in a child with `before` called first. Its plan as the next command sees it."
    def stop(n):
        if n == 9: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run_all(plan_run(settings(name=name), ws), Scripted(0, stop))
    folder = plan_run(settings(name=name), ws).run_dir
    assert read_json(folder / 'summary.json')['status'] == 'interrupted'
    def work():
        if before: before()
        run_all(plan_run(settings(name=name), ws), Scripted(0))
    os.waitpid(in_child(work), 0)
    return plan_run(settings(name=name), ws)


def is_as_the_whole(plan, whole):
    "Files, status and check of a run that ended well."
    assert answers(plan.run_dir) == answers(whole) and (plan.run_dir / 'submission.csv').read_bytes() == (whole / 'submission.csv').read_bytes()
    assert read_json(plan.run_dir / 'summary.json')['status'] == 'complete' and stale_files(plan.run_dir) == []
    assert not [c for c in verify(plan.run_dir) if c['result'] != 'passed'] and plan_run(plan.settings, plan.ws).state == 'complete'


@pytest.mark.parametrize('at', range(3))
def test_killed_after_the_end_of_the_journal_and_before_a_file(ws, whole, at):
    "An earlier session left its files; the resumed one has answered all and dies before it writes its own. The files are derived again, without a call."
    def before():
        real, seen = os.replace, []
        def replace(a, b):
            if len(seen) == at: os.kill(os.getpid(), signal.SIGKILL)
            seen.append(b); return real(a, b)
        os.replace = replace
    plan = stopped_and_resumed(ws, f'unfinished{at}', before)
    assert plan.state == 'rebuild' and plan.done == 24 and read_json(plan.run_dir / 'summary.json')['status'] == 'interrupted'
    assert 'written again from the journal' in plan.table.to_text() and list(plan.run_dir.glob('.*.tmp'))
    run_all(plan, Silent(0))
    is_as_the_whole(plan, whole[0])
    assert not list(plan.run_dir.glob('.*.tmp')), 'what the kill left is swept'


def cut(p): p.write_bytes(p.read_bytes()[:-20])
def grown(p): p.write_bytes(p.read_bytes() + b'\n')
def changed(p): p.write_bytes(p.read_bytes().replace(b'1', b'2'))
def emptied(p): p.write_bytes(b'')
@pytest.mark.parametrize('name', DERIVED)
@pytest.mark.parametrize('damage', [Path.unlink, cut, grown, changed, emptied])
def test_a_complete_run_with_a_damaged_file_is_mended(ws, whole, name, damage):
    "Deleted, cut, grown, edited or emptied after the run: the next command derives the files again, without a model."
    plan = plan_run(settings(name='damaged'), ws)
    if plan.state == 'new': run_all(plan, Scripted(0))
    damage(plan.run_dir / name)
    plan = plan_run(settings(name='damaged'), ws)
    if (name, damage) != ('summary.json', grown): assert plan.state == 'rebuild' # a line end more is the same JSON
    run_all(plan, Silent(0))
    is_as_the_whole(plan, whole[0])


def test_a_complete_journal_alone_is_a_run(ws, whole):
    "No file but the journal: all the others come back."
    plan = plan_run(settings(name='alone'), ws)
    plan.run_dir.mkdir(parents=True)
    run_all(plan, Scripted(0))
    for p in plan.run_dir.iterdir(): p.unlink() if p.name != 'journal.jsonl' else None
    run_all(plan_run(settings(name='alone'), ws), Silent(0))
    is_as_the_whole(plan, whole[0])


def test_runs_of_before_the_marks_are_derived_once_more(ws, whole):
    "A summary of an older version has no mark of the journal: its files are derived again once. Where nothing can be written, they are used as they are."
    plan = plan_run(settings(name='older'), ws)
    run_all(plan, Scripted(0))
    path = plan.run_dir / 'summary.json'
    old = {k: v for k, v in read_json(path).items() if k not in ('journal', 'files')}
    write_json(path, old)
    assert stale_files(plan.run_dir) is None
    for p in plan.run_dir.iterdir(): p.chmod(0o444)
    plan.run_dir.chmod(0o555)
    try:
        if os.geteuid(): # root may write anywhere
            assert plan_run(settings(name='older'), ws).state == 'complete'
            plan.run_dir.chmod(0o755); write_json(path, old | dict(status='interrupted')); plan.run_dir.chmod(0o555)
            with pytest.raises(UserError, match='cannot write'): plan_run(settings(name='older'), ws)
    finally: plan.run_dir.chmod(0o755)
    again = plan_run(settings(name='older'), ws)
    assert again.state == 'rebuild'
    run_all(again, Silent(0))
    is_as_the_whole(plan, whole[0])


def test_the_benchmark_mends_files_that_do_not_follow(ws, whole):
    "It skips the run, as its journal is complete, writes its files and reads the score from them; a plan alone writes nothing."
    from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark
    from wattnb.benchmark.runner import run_benchmark
    s = BenchmarkSettings(models=('extractive',), env='f', mode='closed-book')
    plan = plan_run(settings(), ws)
    run_all(plan, Scripted(0))
    right = (plan.run_dir / 'summary.json').read_bytes()
    changed(plan.run_dir / 'results.json'); (plan.run_dir / 'summary.json').unlink()
    r = plan_benchmark(s, ws)
    assert [x.state for x in r] == ['skip'] and not (plan.run_dir / 'summary.json').exists()
    b = run_benchmark(r, s)
    assert (b.runs[0].state, b.runs[0].reason) == ('skip', 'complete') and b.runs[0].score == read_json(plan.run_dir / 'summary.json')['overall_score']
    assert (plan.run_dir / 'summary.json').read_bytes() == right
    is_as_the_whole(plan, whole[0])


def test_an_interrupt_while_the_files_are_written_leaves_the_run_complete(ws, whole, monkeypatch):
    "The end is in the journal: Ctrl-C cannot take it back."
    import wattnb.experiment.run_files
    plan, real = plan_run(settings(name='late'), ws), wattnb.core.workspace.atomic_write
    def write(*a):
        monkeypatch.setattr(wattnb.experiment.run_files, 'atomic_write', real)
        raise KeyboardInterrupt
    monkeypatch.setattr(wattnb.experiment.run_files, 'atomic_write', write)
    from wattnb.experiment.execute import start
    nb = start(plan)
    nb._run._given_model = nb._run.model = Scripted(0)
    nb.load(); nb.answer()
    with pytest.raises(KeyboardInterrupt): nb.finish()
    assert [e['status'] for e in read_journal(plan.run_dir / 'journal.jsonl').of('end')] == ['complete']
    is_as_the_whole(plan, whole[0])


def test_whoever_reads_a_run_asks_whether_its_files_are_those_of_the_journal(ws, whole):
    "A resumed run whose files are those of an earlier session, or of before a change: neither the list of complete runs nor the audit takes them for the run's."
    from wattnb.compare.auditing import audit
    from wattnb.scoring.run_folders import RunFolder
    plan = plan_run(settings(env='read', name='read'), ws)
    run_all(plan, Scripted(0))
    flags = lambda: {f['rule'] for r in audit(ws, env='read').to_json()['runs'] for f in r['flags']}
    assert RunFolder(plan.run_dir).complete and 'STALE_FILES' not in flags()
    with open(plan.run_dir / 'journal.jsonl', 'ab') as f: f.write(b'{"seq":99')
    assert not RunFolder(plan.run_dir).complete and 'STALE_FILES' in flags()
    run_all(plan_run(settings(env='read', name='read'), ws), Silent(0))
    assert RunFolder(plan.run_dir).complete and 'STALE_FILES' not in flags()


@pytest.mark.skipif(not sys.platform.startswith('linux') or not (shutil.which('cc') or shutil.which('gcc')), reason='needs Linux and a C compiler')
def test_a_fault_at_any_system_call(tmp_path):
    "A sample of what `benchmarks/faults.py` does at every call: killed or refused there, the next command ends in the files of an undisturbed run."
    p = subprocess.run([sys.executable, Path(__file__).parent.parent / 'benchmarks/faults.py', '--sample', os.environ.get('WATTNB_FAULT_POINTS', '50')], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout[-2000:] + p.stderr[-2000:]


@pytest.mark.parametrize('name', [*DERIVED, 'journal.jsonl', 'power.csv', 'run_experiment.ipynb', '.lock', '.lock.json'])
def test_a_link_in_a_run_folder_is_not_written_through(ws, whole, tmp_path, name):
    "A folder from elsewhere may lead a file of the run to another place: planning and replaying refuse, and what is there stays."
    from wattnb.experiment.stored import replay
    from wattnb.core.workspace import folder_lock
    outside = tmp_path / 'precious'
    outside.write_text('precious')
    plan = plan_run(settings(env='links', name=f'link{name}'), ws)
    run_all(plan, Scripted(0))
    (plan.run_dir / name).unlink(missing_ok=True); (plan.run_dir / name).symlink_to(outside)
    for work in (lambda: plan_run(plan.settings, ws), lambda: replay(plan.run_dir), lambda: run_all(plan_run(plan.settings, ws), Silent(0))):
        with pytest.raises(UserError, match='is a link'): work()
    if name.startswith('.lock'):
        with pytest.raises(UserError, match='is a link'), folder_lock(plan.run_dir, 'x'): pass
    assert outside.read_text() == 'precious'


def test_the_numbers_of_an_interrupted_run_are_those_of_the_questions_asked(ws):
    "Means over what was asked, no failure of what was not, and the score of its own submission."
    from wattnb.compare.auditing import audit
    def stop(n):
        if n == 5: raise KeyboardInterrupt
    plan = plan_run(settings(env='stopped', name='stopped'), ws)
    with pytest.raises(KeyboardInterrupt): run_all(plan, Scripted(before=stop))
    s, records = read_json(plan.run_dir / 'summary.json'), read_json(plan.run_dir / 'results.json')
    asked = [r for r in records if r['attempts']]
    assert 0 < len(asked) < len(records) and s['n_completed'] == len(asked)
    assert s['avg_latency_seconds'] == pytest.approx(sum(r['latency_seconds'] for r in asked) / len(asked)) and s['avg_latency_seconds'] > 0
    rules = {f['rule'] for f in audit(ws, env='stopped').findings}
    assert 'INCOMPLETE' in rules and not rules & {'ERRORS', 'SCORE_MISMATCH', 'SCORE_DRIFT', 'ZERO_LAT'}
    assert {c['check']: c['result'] for c in verify(plan.run_dir)}['score of submission.csv is the stored one'] == 'passed'
