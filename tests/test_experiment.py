"Runs end to end with the baselines: identity, resume, failures, force, replay, questions without answers, bad input."
import csv, json, os, signal, subprocess, sys, time
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from wattnb.experiment.stages import Run
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.run_files import derive
from wattnb.experiment.plan import plan_run
from wattnb.experiment.stored import replay, stored_run, verify
from wattnb.experiment.execute import run_all
from wattnb.experiment.journal import read_journal
from wattnb.llm.protocol import Reply, open_model
from wattnb.llm.registry import load_registry
from wattnb.scoring.scores import score_files
from wattnb.experiment.settings import notebook_parameters
from wattnb.core.workspace import UserError, WorkError, Workspace

root = Path(__file__).resolve().parent.parent
PEER_SUMMARY = '''name model_id llm_provider quantization timestamp num_questions total_time_seconds avg_latency_seconds avg_retrieval_seconds avg_generation_seconds
value_accuracy ref_overlap na_accuracy overall_score questions_correct questions_wrong error_count input_tokens output_tokens estimated_cost_usd hardware config_snapshot
run_environment total_retries questions_retried avg_retries questions_file'''.split()


def settings(**kw): return RunSettings(**{'model': 'extractive', 'env': 't', 'preset': 'words', 'limit': 8, **kw})


def parameters_of_the_notebook():
    "The cell that papermill fills in, and its values."
    nb = json.loads((root / 'nbs/run_experiment.ipynb').read_text('utf-8'))
    [cell] = [''.join(c['source']) for c in nb['cells'] if 'parameters' in c['metadata'].get('tags', ())]
    values = {}
    exec(cell, values)
    return cell, {k: v for k, v in values.items() if not k.startswith('__')}


def test_the_parameters_of_the_notebook_are_those_of_the_settings():
    cell, values = parameters_of_the_notebook()
    shown = [f for f in fields(RunSettings) if f.metadata['notebook']]
    default = lambda f: f.metadata['usual'] if f.default is MISSING else f.default
    lines = [(f'{f.name} = {default(f)!r}', f.metadata['help']) for f in shown]
    lines += [("root = ''", 'the workspace; default: the working folder or the nearest one above it'),
              ('options = {}', "any other field of RunSettings, e.g. {'preset': 'bm25', 'mode': 'oracle'}")]
    assert cell == '\n'.join(f'{code:<24} # {what}' for code, what in lines)
    assert notebook_parameters(RunSettings(**{k: v for k, v in values.items() if k not in ('root', 'options')})) == {k: v for k, v in values.items() if k != 'root'}


def test_values_that_papermill_guessed_become_text_again():
    "`-p env 42 -p name 007` arrives as numbers: they are folder names again, and what the guess cut off is lost (`-r` keeps it)."
    resolve = pytest.importorskip('papermill.cli')._resolve_type
    given = dict(env='42', name='007', precision='None', split='True', limit='3', questions='1.5')
    s = RunSettings('extractive', **{k: resolve(v) for k, v in given.items()})
    assert (s.env, s.name, s.precision, s.split, s.limit, s.questions) == ('42', '7', '', 'True', 3, '1.5')
    raw = RunSettings('extractive', **given | dict(precision=''))
    assert (raw.name, raw.limit) == ('007', 3)
    with pytest.raises(UserError, match="limit must be a whole number, not 'many'"): RunSettings('extractive', limit='many')


def test_a_run_and_its_files(ws):
    plan = plan_run(settings(name='first'), ws)
    assert plan.state == 'new' and not plan.run_dir.exists(), 'planning writes nothing'
    files = run_all(plan)
    s, r = (json.loads((plan.run_dir / f).read_text()) for f in ('summary.json', 'results.json'))
    assert set(PEER_SUMMARY) <= set(s) and len(r) == 8 and s['status'] == 'complete'
    assert s['hardware']['gpu_energy_wh'] is None and s['hardware']['reasons']['gpu']  # not measured is not zero
    got = score_files(ws.data / 'demo_QA.csv', plan.run_dir / 'submission.csv', legacy_join=True)
    assert abs(got.overall - s['overall_score']) < 1e-12
    rows = list(csv.DictReader(open(plan.run_dir / 'submission.csv', encoding='utf-8')))
    assert all(x['explanation'].strip() for x in rows) and all((x['answer_value'] == 'is_blank') <= (x['ref_id'] == 'is_blank') for x in rows)
    assert all(x['result'] == 'passed' for x in verify(plan.run_dir))
    again = plan_run(settings(name='first'), ws)
    assert again.state == 'complete' and derive(read_journal(plan.run_dir / 'journal.jsonl')).summary == json.loads(json.dumps(files.summary))


def test_replay_gives_the_same_bytes(ws):
    plan = plan_run(settings(name='replayed'), ws); run_all(plan)
    names = ('results.json', 'submission.csv', 'summary.json')
    before = {n: (plan.run_dir / n).read_bytes() for n in names}
    for n in names: (plan.run_dir / n).unlink()
    replay(plan.run_dir)
    assert {n: (plan.run_dir / n).read_bytes() for n in names} == before


def test_another_configuration_is_refused_then_moved_aside(ws):
    run_all(plan_run(settings(name='same'), ws))
    with pytest.raises(UserError, match=r'holds another run \(.*n: 8 → 5.*--force'): plan_run(settings(name='same', limit=5), ws)
    plan = plan_run(settings(name='same', limit=5, force=True), ws); run_all(plan)
    aside = [p for p in plan.run_dir.parent.iterdir() if p.name.startswith('same.old-')]
    assert len(aside) == 1 and len(stored_run(aside[0]).results) == 8 and len(stored_run(plan.run_dir).results) == 5


class Failing:
    "The extractive baseline behind a broken line: chosen questions fail."
    def __init__(self, bad): self.inner, self.bad = open_model(load_registry().find('extractive')), set(bad); self.entry, self.info = self.inner.entry, self.inner.info
    def count_tokens(self, t): return self.inner.count_tokens(t)
    def stream(self, rs):
        for r in self.inner.stream(rs): yield Reply(r.id, error='the line is down', finish_reason='error') if r.id in self.bad else r
    def close(self): pass


def test_failures_are_no_answers_and_are_tried_again(ws):
    rows = list(csv.DictReader(open(ws.data / 'demo_QA.csv', encoding='utf-8-sig')))
    few = [r for r in rows if r['answer_value'] == 'is_blank'][:3] + [r for r in rows if r['answer_value'] != 'is_blank'][:5] # an abstention must not be what failure looks like
    with open(ws.data / 'few_QA.csv', 'w', newline='', encoding='utf-8') as f:
        w = csv.DictWriter(f, rows[0].keys()); w.writeheader(); w.writerows(few)
    asked = settings(name='flaky', limit=None, questions='few_QA.csv', max_retries=1, fail_on_error=.5)
    plan = plan_run(asked, ws)
    bad = [r['id'] for r in few[:4]]
    run_all(plan, Failing(bad))
    s = stored_run(plan.run_dir)
    assert s.summary['error_count'] == 4 and s.summary['by_status']['failed'] == 4
    failed = [r for r in s.results if r['status'] == 'failed']
    assert all(r['strict_value_correct'] == 0 and not r['strict_ref_score'] and r['error'] == 'the line is down' for r in failed)
    resumed = plan_run(asked, ws)
    assert resumed.state == 'resume' and resumed.done == len(plan.questions) - 4
    run_all(resumed)
    whole = run_all(plan_run(replace(asked, name='whole'), ws))
    s = stored_run(plan.run_dir)
    assert s.summary['error_count'] == 0 and [(r['id'], r['pred_value'], r['pred_ref']) for r in s.results] == [(r['id'], r['pred_value'], r['pred_ref']) for r in whole.results]
    assert len(s.summary['segments']) == 2


def test_the_bar_ends_on_the_score_of_the_files(ws, monkeypatch, capsys):
    "After retries, and with a question whose calls failed; as the run draws it, and as the process that follows its journal does."
    from wattnb.experiment.execute import follow_progress
    monkeypatch.delenv('WATTNB_PROGRESS', raising=False)
    ticks = iter(range(10**6))
    monkeypatch.setattr('wattnb.experiment.stages.time.monotonic', lambda: next(ticks) * 1e-3) # the score is not shown again before the end
    plan = plan_run(settings(name='bar', fail_on_error=.9), ws)
    with follow_progress(plan): files = run_all(plan, Failing([plan.questions[0].id]))
    lines = [l for l in capsys.readouterr().err.splitlines() if '8 [' in l or 'score' in l]
    for name in ('answering', plan.name): assert f', score {files.scores.overall:.3f} [' in [l for l in lines if l.startswith(name)][-1], lines


def test_too_many_failures_fail_the_run(ws):
    plan = plan_run(settings(name='down'), ws)
    with pytest.raises(WorkError, match='8 of 8 questions failed .*the line is down.*tries the rest again'): run_all(plan, Failing([q.id for q in plan.questions]))
    assert stored_run(plan.run_dir).summary['status'] == 'failed' and plan_run(settings(name='down'), ws).state == 'resume'


def test_stop_in_the_middle_resumes(ws):
    plan = plan_run(settings(name='stopped'), ws)
    class Stop(Failing):
        def stream(self, rs):
            for k, r in enumerate(self.inner.stream(rs)):
                if k == 3: raise KeyboardInterrupt
                yield r
    with pytest.raises(KeyboardInterrupt): run_all(plan, Stop([]))
    assert stored_run(plan.run_dir).summary['status'] == 'interrupted'
    p2 = plan_run(settings(name='stopped'), ws)
    assert p2.state == 'resume' and p2.done >= 1
    run_all(p2)
    a = [(r['id'], r['pred_value']) for r in stored_run(plan.run_dir).results]
    assert a == [(r['id'], r['pred_value']) for r in run_all(plan_run(settings(name='straight'), ws)).results]


def test_questions_without_answers_are_answered_and_not_scored(ws):
    (ws.data / 'open_Q.csv').write_text('id,question,answer_unit\nx1,What PUE did Tarn reach?,PUE\nx2,Which board is idle?,is_blank\n')
    plan = plan_run(settings(name='open', questions='open_Q.csv', limit=None), ws)
    run_all(plan)
    s = json.loads((plan.run_dir / 'summary.json').read_text())
    assert not plan.questions.labelled and s['overall_score'] is None and s['value_accuracy'] is None and s['num_questions'] == 2
    assert 'not scored' in plan.table.to_text()


def test_oracle_and_closed_book_bound_the_run(ws):
    oracle = run_all(plan_run(settings(mode='oracle', name='oracle'), ws))
    for r in oracle.results: assert {x['metadata']['document_id'] for x in r['retrieved_snippets']} <= set(json.loads(r['gt_ref'].replace("'", '"')))
    closed = run_all(plan_run(settings(mode='closed-book', name='closed'), ws))
    assert all(not r['retrieved_snippets'] for r in closed.results)


def test_one_folder_one_writer(ws):
    plan = plan_run(settings(name='locked'), ws)
    with Run(plan):
        with pytest.raises(UserError, match='in use by wattnb run locked'):
            with Run(plan): pass


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_unwritable_folder_is_one_line(ws):
    d = ws.experiments / 'ro'; d.mkdir(parents=True); d.chmod(0o555)
    try:
        with pytest.raises(UserError, match='cannot write'): plan_run(settings(env='ro'), ws)
    finally: d.chmod(0o755)


def cli(ws, *args): return subprocess.run([sys.executable, '-m', 'wattnb.cli', *args, '--root', str(ws.root)], capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize('args,why', [(('run', '--model', 'qwne7b'), 'did you mean'), (('run', '--precision', '5bit'), 'unknown precision'), (('run', '--provider', 'acme'), 'unknown provider'),
    (('run', '--preset', 'best'), 'unknown preset'), (('run', '--questions', 'none.csv'), 'no such question file'), (('run', '--limit', '0'), 'at least 1'), (('run', '--index', 'other'), 'wattnb index'),
    (('ensemble', '--experiments', 'a', 'b', '--name', 'x'), 'no run'), (('search', 'x', '--preset', 'y'), 'unknown preset')])
def test_mistakes_are_one_line_and_status_2(ws, args, why):
    ws.experiments.mkdir(parents=True, exist_ok=True)
    p = cli(ws, *args)
    assert p.returncode == 2 and len(p.stderr.strip().splitlines()) == 1 and why in p.stderr and not p.stdout, p.stderr


def test_damaged_index_is_one_line(ws, tmp_path):
    import shutil
    shutil.copytree(ws.root / 'data', tmp_path / 'data'); (tmp_path / 'artifacts').mkdir()
    (tmp_path / 'data/embeddings/none/manifest.json').write_text('{')
    p = cli(Workspace.find(tmp_path), 'search', 'x')
    assert p.returncode == 2 and 'Traceback' not in p.stderr and len(p.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize('sig,status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_done(ws, sig, status):
    pytest.importorskip('papermill')
    s = settings(env='int', name=f'cut{status}', limit=14, max_retries=0)
    args = [sys.executable, '-m', 'wattnb.cli', 'run', '--model', s.model, '--preset', s.preset, '--env', s.env, '--name', s.name, '--limit', '14', '--max-retries', '0', '--root', str(ws.root)]
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={k: v for k, v in os.environ.items() if k != 'IN_TEST'})
    journal = ws.experiments / f'int/demo_QA/{s.name}/journal.jsonl'
    end = time.monotonic() + 600
    while time.monotonic() < end and p.poll() is None and not (journal.exists() and b'"attempt"' in journal.read_bytes()): time.sleep(.02)
    p.send_signal(sig)
    out, err = p.communicate(timeout=600)
    assert p.returncode in (status, 0) and 'Traceback' not in err, err
    if p.returncode == 0: return # it was faster than the signal
    assert 'the same command resumes the run' in err.splitlines()[-1]
    assert json.loads((journal.parent / 'summary.json').read_text())['status'] == 'interrupted'
    plan = plan_run(s, ws)
    assert plan.state == 'resume' and plan.done >= 1
    run_all(plan)
    assert stored_run(plan.run_dir).summary['status'] == 'complete'


def test_an_executed_notebook_executes_again_from_the_journal(ws, monkeypatch):
    "The copy in the run folder, executed once more as it is: no call, the same numbers, and it notices another journal."
    nbclient, nbformat = pytest.importorskip('nbclient'), pytest.importorskip('nbformat')
    pytest.importorskip('papermill')
    from wattnb.cli.verbs import run_notebook
    monkeypatch.delenv('IN_TEST', raising=False)
    s = settings(env='book', name='again', limit=4, max_retries=0)
    run_all(plan_run(s, ws))
    plan = plan_run(replace(s, force=True), ws)
    run_notebook(plan)
    at = plan.run_dir / 'run_experiment.ipynb'
    before = {p.name: p.read_bytes() for p in plan.run_dir.iterdir() if p.suffix in ('.jsonl', '.json', '.csv')}
    def execute():
        nb = nbformat.read(at, as_version=4)
        shown = lambda: [o.get('data', {}).get('text/html') for c in nb.cells for o in c.get('outputs', ()) if 'WattBot' in str(o) or '95 %' in str(o)]
        first = shown()
        nbclient.NotebookClient(nb, timeout=900, resources={'metadata': {'path': str(ws.root)}}).execute()
        return first, shown()
    first, second = execute()
    assert first and first == second
    assert {p.name: p.read_bytes() for p in plan.run_dir.iterdir() if p.suffix in ('.jsonl', '.json', '.csv')} == before, 'nothing was run or written'
    assert len(list(plan.run_dir.parent.glob('again.old-*'))) == 1, 'a forced run is not forced again'
    other = plan_run(settings(env='book', name='other', limit=3, max_retries=0), ws); run_all(other)
    (plan.run_dir / 'journal.jsonl').write_bytes((other.run_dir / 'journal.jsonl').read_bytes())
    with pytest.raises(nbclient.exceptions.CellExecutionError, match='holds another run'): execute()


def test_a_run_without_the_command_gets_its_executed_notebook(ws, monkeypatch):
    "A notebook that papermill executed elsewhere leaves a copy in the run folder, made by a process of its own."
    pytest.importorskip('papermill')
    from wattnb.experiment.execute import keep_notebook
    for name in ('IN_TEST', 'WATTNB_NOTEBOOK_OUT'): monkeypatch.delenv(name, raising=False)
    plan = plan_run(settings(env='kept', name='kept', limit=2, max_retries=0), ws); run_all(plan)
    keep_notebook(plan)
    assert (plan.run_dir / 'run_experiment.ipynb').exists()


def test_what_a_killed_write_left_in_a_complete_run_is_removed_by_the_same_command(ws):
    "A young one may be that of another process, and stays; so does what has another name."
    plan = plan_run(settings(env='swept', name='swept', limit=2), ws)
    run_all(plan)
    left = [plan.run_dir/f'.{n}.tmp' for n in ('results.json.abcd1234', 'summary.json.abcd1234', 'notes.abc')]
    for go in (lambda: run_all(plan_run(plan.settings, ws)), lambda: cli(ws, 'run', '--model', 'extractive', '--env', 'swept', '--name', 'swept', '--limit', '2', '--preset', 'words')):
        for p in left: p.write_text('half'); os.utime(p, (time.time() - 7200,) * 2)
        os.utime(left[1])
        assert plan_run(plan.settings, ws).state == 'complete'
        go()
        assert [p.exists() for p in left] == [False, True, True]


def test_other_weights_are_another_run(ws, tmp_path):
    "A local folder has no revision: its weights are part of the config hash. A name on a hub may move on: that is met after loading."
    folder = tmp_path / 'mine'; folder.mkdir()
    (folder / 'config.json').write_text('{"model_type": "llama"}'); (folder / 'model.safetensors').write_bytes(bytes(3 << 20)); (folder / 'README.md').write_text('a')
    s = settings(model=f'hf:{folder}', env='w', name='own')
    first = plan_run(s, ws)
    with Run(replace(first, run_dir=first.run_dir)): pass
    (folder / 'README.md').write_text('b')
    assert plan_run(s, ws).run == first.run
    with open(folder / 'model.safetensors', 'r+b') as f:
        for i in range(0, 3 << 20, 997): f.seek(i); f.write(b'\1') # a fine-tuning moves all of them
    with pytest.raises(UserError, match=r'holds another run \(weights: \w{12} → \w{12}\)'): plan_run(s, ws)
    model = Failing([]); model.info = {**model.info, 'revision': 'a' * 40}
    plan = plan_run(settings(env='w', name='hub'), ws)
    with Run(plan, model) as r: r.load(); r.stop()
    model.info = {**model.info, 'revision': 'b' * 40}
    with pytest.raises(UserError, match='begun with revision aaaaaaaaaaaa .* this is bbbbbbbbbbbb'), Run(plan_run(settings(env='w', name='hub'), ws), model) as r: r.load()


WRITES = {'init', 'index', 'run', 'eval', 'report', 'plots', 'page', 'submit', 'bundle'} # tried elsewhere, each with what it writes
LOOKS = {
    'search': ['What was the PUE of the Tarn hall?', '--preset', 'words'], 'ask': ['What was the PUE of the Tarn hall?', '--model', 'extractive', '--preset', 'words'], 'serve': ['--model', 'extractive', '--preset', 'words', '--port', '0', '--check'], 'results': [], 'verify': ['one'], 'replay': ['one'],
    'export': ['--peer', 'one', '--output', '{out}'], 'models': [], 'doctor': [], 'plan': ['--model', 'qwen72b', '--preset', 'words'], 'score': ['{root}/data/demo_QA.csv', '{run}/submission.csv', '--strict'], 'check-questions': ['{root}/data/demo_QA.csv'],
    'retrieval': ['--questions', 'demo_QA.csv', '--preset', 'words'], 'benchmark': ['--dry-run', '--provider', 'baseline'], 'watch': [], 'scaling': ['--dry-run', '--family', 'qwen2.5', '--env', 'looks', '--datafile', 'demo_QA'],
    'cite': ['one', 'two'], 'check': ['{out}.md'],
    'matrix': [], 'compare': ['one', 'two'], 'design': ['one', 'two', '--margin', '5'], 'diff': ['one', 'two'], 'thinking': [], 'atlas': [], 'estimates': [], 'board': ['{root}', '--output', '{out}/board'], 'completion': ['bash'], 'errors': ['one'], 'audit': [], 'ensemble': ['--experiments', 'one', 'two', '--name', 'both', '--env', 'looks', '--datafile', 'demo_QA', '--force'],
    'rescore': ['one', '--dry-run'], 'recommend': ['--datafile', 'demo_QA', '--env', 'looks'], 'meter': ['--', sys.executable, '-c', 'pass'],
}


def test_json_of_every_verb_that_looks_is_one_document(ws, tmp_path, capfd):
    "What a verb shows as text it can also hand out as JSON: one strict document on stdout, with the status that the text has."
    from wattnb.cli.command import VERBS, main
    assert set(LOOKS) | WRITES == set(VERBS), 'a new verb is tried here too'
    plan = plan_run(settings(env='looks', name='one'), ws)
    run_all(plan); run_all(plan_run(settings(env='looks', name='two', model='abstain'), ws))
    def constant(name): raise AssertionError(f'{name} is not JSON')
    from wattnb.plots.citing import cite_markdown, cited_runs
    (tmp_path / 'out.md').write_text(cite_markdown(cited_runs(ws, ['one', 'two'])), 'utf-8')
    for verb, words in LOOKS.items():
        words = [w.format(root=ws.root, run=plan.run_dir, out=tmp_path / 'out') for w in words]
        at = words.index('--') if '--' in words else len(words)
        status = main([verb, *words[:at], '--json', '--root', str(ws.root), *words[at:]])
        out, err = capfd.readouterr()
        assert status in (0, 1) and 'defect' not in err, (verb, err)
        data = json.loads(out, parse_constant=constant)
        assert data or verb in ('check-questions', 'matrix'), verb
        if verb == 'ask': assert data['model'] == 'extractive' and data['answer']['status'] == data['status'] and data['context']


CANARY = 'sk-canary0Sec1ret2'
ADDRESSES = ['http://user:{c}@127.0.0.1:{port}/v1', 'http://{c}@127.0.0.1:{port}/v1', 'http://127.0.0.1:{port}/{c}/v1', 'http://127.0.0.1:{port}/v1?api-key={c}', 'http://127.0.0.1:{port}/v1#{c}']


@pytest.mark.parametrize('address', ADDRESSES)
@pytest.mark.parametrize('place', ['environment', 'models.toml'])
def test_no_key_of_an_address_or_option_is_kept_or_shown(tmp_path, place, address, capfd, monkeypatch, caplog):
    "A server's address with a key as user, password, part of the path, query or fragment, from the environment or from models.toml: whether the run succeeds or fails, nothing of the key reaches a file, a message or an exception."
    import traceback
    from conftest import words_workspace
    from wattnb.testing.server import FakeServer
    monkeypatch.setattr('wattnb.core.redaction._KEPT', set())
    monkeypatch.delenv('OPENAI_BASE_URL', raising=False); monkeypatch.setenv('OPENAI_API_KEY', 'sk-other-0123456789')
    w = words_workspace(tmp_path / 'ws')
    with FakeServer() as server:
        url = address.format(c=CANARY, port=server.port)
        if place == 'environment': monkeypatch.setenv('OPENAI_BASE_URL', url); option = ''
        else: option = f'options = {{ base_url = "{url}", tries = 1, body = {{ user = "me", note = "see {url}" }} }}\n'
        w.models_toml.write_text(f'[model.mine]\nprovider = "openai"\nid = "gpt-mine"\nmax_new_tokens = 40\n{option}')
        said = ''
        for server.errors in (None, {401: dict(error=dict(message=f'no key {CANARY} for {url}'))}):
            s = settings(model='mine', name=f'address{bool(server.errors)}', limit=2, max_retries=0)
            try: said += run_all(plan_run(s, w)).summary['status']
            except (UserError, WorkError): said += traceback.format_exc()
            main_words = ['results', '--json', '--root', str(w.root)]
            from wattnb.cli.command import main
            main(main_words)
        if '@' in address and '?' not in address: assert 'complete' in said, 'such an address works'
    out, err = capfd.readouterr()
    shown = dict(said=said, stdout=out, stderr=err, log=caplog.text, **{str(p): p.read_text('utf-8', 'replace') for p in w.artifacts.rglob('*') if p.is_file()})
    assert not [(k, text[max(0, text.index(CANARY) - 80):text.index(CANARY) + 40]) for k, text in shown.items() if CANARY in text]
    assert any('journal.jsonl' in k and '127.0.0.1' in v for k, v in shown.items()), 'which server it was is kept'


@pytest.mark.parametrize('options', ['api_key = "x"', 'body = { auth = { token = "x" } }', 'headers = { Authorization = "Bearer x" }', 'body = { list = [{ apiKey = "x" }] }'])
def test_a_key_among_the_options_is_refused_at_any_depth(tmp_path, options):
    (tmp_path / 'm.toml').write_text(f'[model.mine]\nprovider = "openai"\nid = "gpt-mine"\noptions = {{ {options} }}\n')
    with pytest.raises(UserError, match='keys come from the environment'): load_registry().find(str(tmp_path / 'm.toml'))


@pytest.fixture(scope='module')
def tiny(ws, tmp_path_factory):
    "A workspace whose models.toml has a random model of 30,000 weights, stored in float32, at its shipped default `auto`."
    torch, transformers, tokenizers = (pytest.importorskip(m) for m in ('torch', 'transformers', 'tokenizers'))
    folder = tmp_path_factory.mktemp('tiny')
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(['<unk>', '<s>', '</s>', *(f'w{i}' for i in range(61))])}, unk_token='<unk>'))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token='<unk>', bos_token='<s>', eos_token='</s>', pad_token='</s>').save_pretrained(folder)
    config = transformers.AutoConfig.for_model('llama', hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=64, max_position_embeddings=4096,
                                               bos_token_id=1, eos_token_id=2, pad_token_id=2)
    torch.manual_seed(7)
    transformers.AutoModelForCausalLM.from_config(config).to(torch.float32).save_pretrained(folder)
    ws.models_toml.write_text(f'[model.speck]\nprovider = "hf_local"\nid = "{folder}"\nprecision = "auto"\nmax_new_tokens = 4\nparams_b = 0.00003\noptions = {{ device = "cpu" }}\n')
    yield ws
    ws.models_toml.unlink()


def at(precision='', **kw): return settings(**{'model': 'speck', 'env': 'p', 'preset': '', 'mode': 'closed-book', 'limit': 3, 'max_retries': 0, 'idle_seconds': 0, 'precision': precision, **kw})


def test_auto_and_what_it_means_are_one_run(tiny):
    "On a CPU a float32 checkpoint at `auto` is loaded in float32: `--precision fp32` finds the run done, under the precision that was loaded; bf16 is another run, with its word in the name."
    from wattnb.scoring.run_folders import RunFolder
    plan = plan_run(at(), tiny)
    assert (plan.precision, plan.precision_requested, plan.name, plan.identity['precision']) == ('fp32', 'auto', 'speck-bench-closed-book', 'fp32')
    assert 'fp32 (auto was asked for)' in plan.table.to_text()
    s = run_all(plan).summary
    assert (s['precision'], s['precision_requested'], s['quantization'], s['effective_dtype'], s['precision_note']) == ('fp32', 'auto', 'fp32', 'float32', None)
    same = plan_run(at('fp32'), tiny)
    assert (same.state, same.run_dir, same.run) == ('complete', plan.run_dir, plan.run)
    other = plan_run(at('bf16'), tiny)
    assert (other.state, other.precision, other.name) == ('new', 'bf16', 'speck-bench-bf16-closed-book')
    assert run_all(other).summary['precision'] == 'bf16' and plan_run(at('bf16'), tiny).state == 'complete'
    assert {RunFolder(p.run_dir).precision for p in (plan, other)} == {'fp32', 'bf16'}
    from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark
    runs = plan_benchmark(BenchmarkSettings(models=('speck',), precisions=('auto', 'fp32', 'bf16'), env='sweep', mode='closed-book', limit=3), tiny)
    assert [(r.precision, r.state) for r in runs] == [('fp32', 'wait'), ('fp32', 'skip'), ('bf16', 'wait')] and 'the same run' in runs[1].reason


def as_before(folder, to, precision):
    "A run folder as earlier versions wrote it: identity and head have the requested precision; the summary has no marks."
    from wattnb.experiment.journal import _line, _text
    from wattnb.core.workspace import digest, write_json
    entries = list(read_journal(folder / 'journal.jsonl').entries)
    head = entries[0].data
    head['identity']['precision'] = head['precision'] = precision
    head.pop('precision_requested')
    run = digest(head['identity'])
    to.mkdir(parents=True)
    (to / 'journal.jsonl').write_bytes(b''.join(_line(e.seq, run, e.kind, _text(e.data)) for e in entries))
    for name in ('results.json', 'submission.csv'): (to / name).write_bytes((folder / name).read_bytes())
    s = json.loads((folder / 'summary.json').read_text())
    write_json(to / 'summary.json', {k: v for k, v in s.items() if k not in ('journal', 'files', 'precision_requested', 'precision_note')} | dict(precision=precision, quantization=precision, identity=head['identity'], run_id=run))
    return run


class Untouched:
    "A model that must not be called."
    def __init__(self, entry): self.entry, self.info = entry, dict(effective_dtype='float32', quantization='none', device='cpu')
    def count_tokens(self, t): return len(t.split())
    def stream(self, rs): raise AssertionError('a model was asked')
    def close(self): pass


@pytest.mark.parametrize('was,name,asked', [('auto', 'speck-bench-closed-book', ''), ('auto', 'speck-bench-closed-book', 'fp32'), ('fp32', 'speck-bench-fp32-closed-book', 'fp32'), ('fp32', 'speck-bench-fp32-closed-book', 'auto')])
def test_runs_whose_identity_has_the_requested_precision_resume(tiny, was, name, asked):
    "Earlier versions put the request into the identity and the folder's name. Where what is loaded is the same, a finished run counts as done and a part is resumed."
    env = f'was-{was}-{asked or "own"}'
    if (was, asked) == ('fp32', 'auto'): asked_name = dict(name=name) # `auto` never had this name
    else: asked_name = {}
    plan = plan_run(at(env='first', name='first'), tiny)
    if plan.state == 'new': run_all(plan)
    old = tiny.experiments / env / 'demo_QA' / name
    run = as_before(plan.run_dir, old, was)
    again = plan_run(at(asked, env=env, **asked_name), tiny)
    assert (again.run_dir, again.run, again.state) == (old, run, 'rebuild')
    s = run_all(again, Untouched(again.entry)).summary
    assert (s['precision'], s['precision_requested'], s['status'], s['run_id']) == ('fp32', was, 'complete', run)
    assert plan_run(at(asked, env=env, **asked_name), tiny).state == 'complete'
    assert all(x['result'] == 'passed' for x in verify(old))
    lines = (old / 'journal.jsonl').read_bytes().splitlines(keepends=True)
    cut = next(i for i, l in enumerate(lines) if b'"kind":"attempt"' in l) + 1
    (old / 'journal.jsonl').write_bytes(b''.join(lines[:cut]))
    part = plan_run(at(asked, env=env, **asked_name), tiny)
    assert (part.state, part.done, part.run) == ('resume', 1, run)
    assert [r['pred_value'] for r in run_all(part).results] == [r['pred_value'] for r in stored_run(plan.run_dir).results]


def test_what_is_loaded_counts_when_the_plan_was_mistaken(tiny):
    "The run is recorded at the loaded precision, with a note; the same request finds it done, a request by another name is another run, and a resume at another precision is refused."
    class Loaded(Failing):
        def __init__(self, entry, dtype): super().__init__([]); self.entry, self.info = entry, dict(effective_dtype=dtype, quantization='none', device='cpu')
    plan = plan_run(at(name='mistaken'), tiny)
    s = run_all(plan, Loaded(plan.entry, 'bfloat16')).summary
    assert (s['precision'], s['precision_requested'], s['precision_note']) == ('bf16', 'auto', 'planned at fp32, loaded at bf16')
    assert plan_run(at(name='mistaken'), tiny).state == 'complete' and plan_run(at('bf16', name='mistaken'), tiny).state == 'complete'
    with pytest.raises(UserError, match='precision: bf16 → fp32'): plan_run(at('fp32', name='mistaken'), tiny)
    part = plan_run(at(name='part'), tiny)
    with Run(part, Loaded(part.entry, 'float32')) as r: r.load(); r.stop()
    with pytest.raises(UserError, match='begun at fp32, and speck is loaded at bf16 here: give --precision fp32'), Run(plan_run(at(name='part'), tiny), Loaded(part.entry, 'bfloat16')) as r: r.load()


def test_the_kernel_is_this_python_whatever_is_installed_as_python3(ws, tmp_path):
    "A shared machine may offer another interpreter under the kernel's usual name: the run is executed by the Python that runs the command."
    pytest.importorskip('papermill')
    spec = tmp_path / 'kernels/python3'; spec.mkdir(parents=True)
    (spec / 'kernel.json').write_text(json.dumps(dict(argv=['/bin/false', '-f', '{connection_file}'], display_name='Another', language='python')))
    p = subprocess.run([sys.executable, '-m', 'wattnb.cli', 'run', '--model', 'extractive', '--preset', 'words', '--limit', '2', '--env', 'k', '--name', 'kernel', '--root', str(ws.root)],
                       capture_output=True, text=True, env={**{k: v for k, v in os.environ.items() if k != 'IN_TEST'}, 'JUPYTER_PATH': str(tmp_path)})
    assert p.returncode == 0, p.stderr
    assert (ws.experiments / 'k/demo_QA/kernel/run_experiment.ipynb').exists() and stored_run(ws.experiments / 'k/demo_QA/kernel').summary['status'] == 'complete'


def test_a_run_at_auto_that_another_machine_finished_is_done(tiny):
    "The same request, settled otherwise elsewhere (a GPU loads `auto` in bfloat16): a finished run counts as done here, another request does not fit it."
    class Elsewhere(Failing):
        def __init__(self, entry): super().__init__([]); self.entry, self.info = entry, dict(effective_dtype='bfloat16', quantization='none', device='cuda:0')
    plan = replace(plan_run(at(name='elsewhere'), tiny), precision='bf16')
    plan.identity = plan.identity | dict(precision='bf16')
    run_all(plan, Elsewhere(plan.entry))
    here = plan_run(at(name='elsewhere'), tiny)
    assert (here.state, here.run, here.precision) == ('complete', plan.run, 'fp32')
    assert run_all(here).summary['precision'] == 'bf16'
    with pytest.raises(UserError, match='precision: bf16 → fp32'): plan_run(at('fp32', name='elsewhere'), tiny)
