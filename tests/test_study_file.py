"Study files: whatever is written in one is understood or refused in one line; run, resumed, quoted. Watching: the states of runs of other processes, without a lock."
import fcntl, json, os, shutil, signal, subprocess, sys, time

import pytest
from hypothesis import given, settings as hyp, strategies as st

from wattnb.benchmark.plan import AXES, BenchmarkSettings
from wattnb.benchmark.study import STUDY_KEYS, Study, kept_studies, plan_study, read_study, study_table
from wattnb.benchmark.watch import STATES, BenchmarkWatch, held_by
from wattnb.cli.command import main
from wattnb.core.workspace import UserError, folder_lock, read_json
from wattnb.plots.report_page import planned
from wattnb.plots.reports import Report

STUDY = '''
env = "studied"
preset = "words"
limit = 6
[[runs]]
models = ["extractive"]
seeds = [0, 1]
[[runs]]
models = "extractive"
mode = ["oracle", "rag"]
'''


@pytest.fixture(autouse=True)
def clean_env(monkeypatch):
    for k in ('OPENAI_API_KEY', 'OPENAI_BASE_URL', 'OPENROUTER_API_KEY'): monkeypatch.delenv(k, raising=False)
    monkeypatch.setenv('WATTNB_PROGRESS', '0')


def toml(v):
    if isinstance(v, list): return '[' + ', '.join(map(toml, v)) + ']'
    return json.dumps(v) if not isinstance(v, float) else repr(v)


words = st.one_of(st.text(max_size=8), st.sampled_from(['rag', 'oracle', 'bm25', '4bit', 'extractive', 'vllm', '']))
values = st.recursive(st.one_of(words, st.booleans(), st.integers(-3, 10**20), st.floats(), st.just([])), lambda v: st.lists(v, max_size=3), max_leaves=4)
keys = st.one_of(st.sampled_from([*STUDY_KEYS, 'name', 'timeout', 'gpus', 'modes', 'engines', 'force']), st.text('abcdefgh_', min_size=1, max_size=9))
tables = st.dictionaries(keys, values, max_size=4)


@hyp(max_examples=300)
@given(tables, st.lists(tables, max_size=3))
def test_a_study_file_is_understood_or_refused_in_one_line(tmp_path_factory, top, blocks):
    path = tmp_path_factory.getbasetemp() / 'wild.toml'
    body = lambda d: ''.join(f'{json.dumps(k)} = {toml(v)}\n' for k, v in d.items())
    path.write_text(body(top) + ''.join('[[runs]]\n' + body(b) for b in blocks), 'utf-8')
    try: study = read_study(path)
    except UserError as e:
        assert str(e).startswith(str(path)) and '\n' not in str(e); return
    assert blocks and len(study.blocks) == len(blocks)
    for _, s in study.benchmarks(): assert s.models or s.providers
    combinations = 0
    for b in study.blocks:
        n = 1
        for k, v in b.items(): n *= len(v) if k not in ('models', 'providers', *AXES) else 1
        combinations += n
    assert len(study.benchmarks()) == combinations
    assert Study(study.path, 'other', study.blocks).sha256 == study.sha256


@pytest.mark.parametrize('word, nearest', [('model', 'models'), ('precision', 'precisions'), ('seed', 'seeds'), ('engines', 'engine'), ('question', 'questions'), ('presets', 'preset')])
def test_an_unknown_key_is_told_the_nearest_one(tmp_path, word, nearest):
    (tmp_path / 's.toml').write_text(f'[[runs]]\nmodels = "extractive"\n{word} = "x"\n')
    with pytest.raises(UserError, match=rf"s.toml, \[\[runs\]\] 1: unknown key '{word}': did you mean {nearest}\?"): read_study(tmp_path / 's.toml')


def test_a_study_is_run_kept_resumed_and_quoted(ws, tmp_path, capfd):
    path = tmp_path / 'asked.toml'
    path.write_text(STUDY)
    def run(*more):
        status = main(['benchmark', '--study', str(path), '--root', str(ws.root), '--json', *more])
        out, err = capfd.readouterr()
        return status, json.loads(out) if out else None, err
    status, dry, _ = run('--dry-run')
    assert status == 0 and dry['study']['kept'] is None and not kept_studies(ws), 'a plan writes nothing'
    status, done, err = run()
    assert status == 0 and done['counts'] == {'pass': 3}, err  # rag with seed 0 is asked for by both blocks
    assert len({r['run_dir'] for r in done['runs']}) == 3
    kept = read_json(done['study']['kept'])
    assert kept['sha256'] == done['study']['sha256'] == read_study(path).sha256 and [r['block'] for r in kept['runs']].count(2) == 1
    assert [(r['runs'], r['complete']) for r in study_table(ws)] == [(2, 2), (1, 1)] and kept['sha256'][:12] in study_table(ws, 'asked').notes[0]
    shutil.rmtree(next(r['run_dir'] for r in done['runs'] if 'oracle' in r['run_dir']))
    assert [r['complete'] for r in study_table(ws)] == [2, 0]
    _, again, _ = run()
    assert again['counts'] == {'pass': 1, 'skip': 2} and [r['complete'] for r in study_table(ws)] == [2, 1]
    quoted = planned(Report(ws.root, env='studied')).text
    assert '3 of the 3 runs here were planned in the study file asked.toml, which asks for 3.' in quoted and quoted.count('<table') == 1
    for more in (['--model', 'abstain'], ['--limit', '3'], ['--env', 'another'], ['--smoke-test'], ['--ray', '127.0.0.1:1']):
        status, _, err = run(*more)
        assert status == 2 and err.count('\n') == 1, (more, err)
    first = STUDY[:STUDY.rindex('[[runs]]')].replace('[0, 1]', '0')
    path.write_text(first.replace('limit = 6', 'limit = 5').replace('env = "studied"', 'env = "other"'))
    run()
    assert len(kept_studies(ws)) == 2 and study_table(ws).rows != study_table(ws, kept['sha256'][:10]).rows, 'another study, another record'


def test_the_table_of_a_study_tells_its_runs_apart(ws, tmp_path, capfd):
    path = tmp_path / 's.toml'
    path.write_text(STUDY.replace('studied', 'told'))
    assert main(['benchmark', '--study', str(path), '--root', str(ws.root), '--dry-run']) == 0
    out = capfd.readouterr().out
    assert 'extractive-bench-oracle-words' in out and 'extractive-bench-words-seed1' in out
    path.write_text('efforts = ["low", "high"]\npreset = "words"\n[[runs]]\nmodels = ["gpt-4.1-nano", "abstain"]\n')
    study = read_study(path)
    assert [(r.model, r.effort) for _, r in plan_study(study, root=ws)] == [('abstain', ''), ('gpt-4.1-nano', 'low'), ('gpt-4.1-nano', 'high')]
    path.write_text(path.read_text().replace('"high"', '"hihg"'))
    with pytest.raises(UserError, match=r"\[\[runs\]\] 1: unknown effort 'hihg'"): read_study(path)


def test_two_machines_run_one_study(ws, tmp_path):
    path = tmp_path / 's.toml'
    path.write_text(STUDY.replace('env = "studied"', ''))
    study = read_study(path)
    a, b = ({r.run_dir for _, r in plan_study(study, BenchmarkSettings(env=e), ws)} for e in ('one', 'two'))
    assert len(a) == len(b) == 3 and not a & b


# ---- watching -----------------------------------------------------------------------------------------------------

def test_a_benchmark_of_another_process_is_watched_to_its_end(ws, monkeypatch):
    "States go forward only, what is waiting is counted, scores are those of the summaries, and no lock is ever taken."
    def no_lock(*a): raise AssertionError('watching takes a lock')
    monkeypatch.setattr(fcntl, 'flock', no_lock); monkeypatch.setattr(fcntl, 'lockf', no_lock)
    argv = [sys.executable, '-m', 'wattnb.cli', 'benchmark', '--model', 'extractive', '--preset', 'words', '--env', 'watched', '--seeds', '0', '1', '--root', str(ws.root)]
    p, watch, seen = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), BenchmarkWatch(ws, env='watched'), {}
    try:
        while p.poll() is None:
            now = watch.look()
            for r in now.runs: seen.setdefault(r.name, []).append((r.state, r.done))
            time.sleep(.1)
    finally: p.kill(); p.wait()
    end = watch.look()
    assert end.count() == {'complete': len(end.runs)} and not end.at_work and len(end.runs) == 2
    forward = dict(waiting=0, running=1, complete=2)
    for name, states in seen.items():
        assert [forward[s] for s, _ in states] == sorted(forward[s] for s, _ in states), (name, states)
        assert [n for _, n in states] == sorted(n for _, n in states)
    assert {s for x in seen.values() for s, _ in x} == {'waiting', 'running', 'complete'}
    for r in end.runs: assert r.score == read_json(r.folder / 'summary.json')['scores']['overall'] and r.done == r.n and r.age is not None


def test_a_killed_run_has_stopped(ws):
    "Neither the note nor the list of a killed benchmark keeps its runs running; on a terminal `watch` ends then."
    argv = [sys.executable, '-m', 'wattnb.cli', 'benchmark', '--model', 'extractive', '--preset', 'words', '--env', 'killed', '--seeds', *map(str, range(4)), '--root', str(ws.root)]
    p, watch = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True), BenchmarkWatch(ws, env='killed')
    try:
        while not any(r.where for r in watch.look().runs): assert p.poll() is None; time.sleep(.05)
    finally: p.send_signal(signal.SIGKILL); p.wait()
    deadline = time.monotonic() + 120 # the run notices that its benchmark has died
    while any(r.where for r in watch.look().runs) and time.monotonic() < deadline: time.sleep(.2)
    listed = ws.experiments / 'killed/demo_QA/benchmark.json'
    os.utime(listed, (time.time() - 3600,) * 2)
    now = watch.look()
    assert not now.at_work and now.count().get('stopped', 0) >= 3 and set(now.count()) <= set(STATES)


def test_watching_needs_no_right_to_write_and_survives_damage(ws, tmp_path, capfd):
    tree = tmp_path / 'shared' / 'experiments'
    run = tree / 'node7' / 'demo_QA' / 'one'
    run.mkdir(parents=True)
    (run / 'journal.jsonl').write_text('{"seq":0}\nnot json\n')
    (run.parent / 'benchmark.json').write_text(json.dumps(dict(finished='', runs=[dict(run_dir='/there/artifacts/experiments/node7/demo_QA/two', state='wait', n=5, model='m\x1b[31m'), dict(state='wait'), 7])))
    before = sorted((p, p.stat().st_mtime_ns) for p in tree.rglob('*'))
    assert main(['watch', '--root', str(tree), '--env', 'node7']) == 0
    out = capfd.readouterr().out
    assert 'two' in out and 'waiting' in out and 'one' in out and 'stopped' in out and '\x1b' not in out
    for text in ('{', '[]', '{"runs": 3}', '{"runs": [{"run_dir": ""}]}'):
        (run.parent / 'benchmark.json').write_text(text)
        assert main(['watch', '--root', str(tree), '--json']) == 0
        assert [r['name'] for r in json.loads(capfd.readouterr().out)['runs']][:1] == ['one'], text
    assert [p for p, _ in before] == sorted(tree.rglob('*')), 'nothing is written'


def test_a_note_counts_while_its_process_lives(tmp_path):
    with folder_lock(tmp_path, 'a test'): assert held_by(tmp_path)
    assert not held_by(tmp_path)
    p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    try:
        import socket
        (tmp_path / '.lock.json').write_text(json.dumps(dict(host=socket.gethostname(), pid=p.pid)))
        assert held_by(tmp_path)
        os.utime(tmp_path / '.lock.json', (time.time() - 3600,) * 2)
        assert not held_by(tmp_path), 'the number belongs to a younger process'
    finally: p.kill(); p.wait()
