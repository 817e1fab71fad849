"Runs with random weights: time, memory and energy as in any run, no score, and nothing that collects runs ever sees them."
import contextlib, dataclasses, json, os, signal, subprocess, sys, time

import pytest

pytest.importorskip('torch')
from conftest import words_workspace
from wattnb.cli.command import main
from wattnb.core.workspace import UserError, WorkError
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.stages import REPLY_TOKENS, Run
from wattnb.experiment.stored import stored_run, verify
from wattnb.scoring.run_folders import GroundTruth, RunFolder, find_runs, pick_runs, score_run

TINY = '''
[model.tiny]
provider = "hf_local"
id = "me/tiny"
family = "toys"
precision = "fp32"
params_b = 0.0003
context = 4096
options = { device = "cpu" }
shape = { model_type = "qwen2", hidden_size = 64, num_hidden_layers = 3, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 128, vocab_size = 1024, max_position_embeddings = 4096 }

[model.shapeless]
provider = "hf_local"
id = "me/shapeless"
params_b = 1
'''
settings = lambda **kw: RunSettings('tiny', weights='random', limit=3, max_new_tokens=8, idle_seconds=0, **kw)


@pytest.fixture(scope='module')
def ws(tmp_path_factory): return words_workspace(tmp_path_factory.mktemp('ws'), models_toml=TINY)

@pytest.fixture(scope='module')
def real(ws):
    "A run of a baseline over the same questions."
    plan = plan_run(RunSettings('extractive', limit=3), ws)
    run_all(plan)
    return plan

@pytest.fixture(scope='module')
def noise(ws, real):
    plan = plan_run(settings(), ws)
    run_all(plan)
    return plan


def test_a_run_measures_and_answers_nothing(noise):
    s = json.loads((noise.run_dir / 'summary.json').read_text())
    assert s['status'] == 'complete' and s['score_reason'] == 'random weights' and s['error_count'] == 0
    assert [s[k] for k in ('scores', 'overall_score', 'value_accuracy', 'ref_overlap', 'na_accuracy', 'questions_correct')] == [None] * 6
    assert s['effective']['weights'] == 'random' and s['effective']['reply_tokens'] == 8 and s['effective']['reply_tokens_from'] == 'as max_new_tokens sets it'
    assert s['output_tokens'] == 3 * 8 and s['input_tokens'] > 3 * 500 and s['total_retries'] == 0
    assert s['total_time_seconds'] > 0 and s['by_stage']['answer']['seconds'] > 0 and s['timing'] and s['energy']
    records = json.loads((noise.run_dir / 'results.json').read_text())
    assert {(r['raw_response'], r['pred_value'], r['value_correct'], r['weighted_score']) for r in records} == {('', '', None, None)}
    assert all(r['seconds']['prefill'] > 0 and r['seconds']['decode'] > 0 for r in records)
    assert {r['result'] for r in verify(noise.run_dir)} == {'passed'}
    assert 'random weights, nothing is scored' in stored_run(noise.run_dir, noise.ws).to_text() and 'UNPARSED' not in stored_run(noise.run_dir).to_text()


def test_the_identity_knows_the_weights_and_the_shape(ws, noise):
    plain = plan_run(RunSettings('tiny', limit=3, max_new_tokens=8, max_retries=0), ws)
    assert (noise.identity['weights'], 'weights' in plain.identity, plain.run == noise.run) == ('random', False, False)
    assert 'weights' not in plain.settings.public and noise.settings.public['weights'] == 'random'
    assert noise.run_dir == ws.random_runs / 'demo_QA' / 'tiny-random' and plain.run_dir == ws.experiments / 'demo_QA' / 'tiny-bench'
    assert plan_run(settings(), ws).state == 'complete'
    text = ws.models_toml.read_text()
    try:
        ws.models_toml.write_text(text.replace('num_hidden_layers = 3', 'num_hidden_layers = 4'))
        with pytest.raises(UserError, match='tiny-random holds another run .shape:'): plan_run(settings(), ws)
    finally: ws.models_toml.write_text(text)


def test_nothing_mixes_it_in(ws, real, noise, capsys):
    "Every verb that collects runs sees the baseline alone, and a run of random weights that is named is refused."
    assert [r.path for r in find_runs(ws)] == [real.run_dir] and [r.path for r in find_runs(ws.artifacts)] == [real.run_dir]
    run = RunFolder(noise.run_dir, datafile='demo_QA', name=noise.name)
    assert score_run(run, GroundTruth(ws)) is None
    with pytest.raises(UserError, match='tiny-random has random weights: it measures time, memory and energy'): pick_runs(ws, [str(noise.run_dir)])
    before = {p: p.stat().st_mtime_ns for p in noise.run_dir.iterdir()}
    for verb in (['results'], ['matrix'], ['audit'], ['errors', real.name], ['rescore', '--dry-run'], ['recommend'], ['scaling'], ['benchmark', '--model', 'tiny', '--dry-run']):
        main([*verb, '--root', str(ws.root), '--json'])
        assert 'tiny-random' not in capsys.readouterr().out, verb
    for verb in (['compare', real.name, str(noise.run_dir)], ['errors', str(noise.run_dir)], ['ensemble', '--name', 'both', '--experiments', real.name, str(noise.run_dir)],
                 ['rescore', str(noise.run_dir)], ['export', '--peer', str(noise.run_dir)], ['submit', noise.name]):
        assert main([*verb, '--root', str(ws.root)]) == 2, verb
        assert 'random weights' in capsys.readouterr().err, verb
    assert before == {p: p.stat().st_mtime_ns for p in noise.run_dir.iterdir()}


def test_results_lists_it_apart(ws, real, noise, capsys):
    assert main(['results', '--root', str(ws.root)]) == 0
    out = capsys.readouterr().out
    assert 'artifacts/random' not in out and 'tiny-random  ' not in out and '1 run of random weights: `wattnb results --weights random` lists it' in out
    assert main(['results', '--weights', 'random', '--root', str(ws.root), '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert [r['name'] for r in found['runs']] == ['tiny-random'] and found['runs'][0]['score'] is None and found['runs'][0]['score_reason'] == 'random weights'
    assert found['runs'][0]['wall_s'] > 0 and found['title'].startswith('Random weights')
    for verb in ('verify', 'replay'): assert main([verb, 'tiny-random', '--root', str(ws.root)]) == 0


def test_what_cannot_be_measured_so(ws):
    for kw, why in ((dict(model='gpt-4o'), 'random weights need a model that runs here, and gpt-4o is served by openai'), (dict(model='shapeless'), 'shapeless has no known shape'),
                    (dict(model='extractive'), 'extractive is served by baseline'), (dict(model='gpt-oss-20b'), 'which random weights cannot be: ask for --precision bf16')):
        with pytest.raises(UserError, match=why): plan_run(RunSettings(weights='random', **kw), ws)
    with pytest.raises(UserError, match="unknown weights 'zero': one of random"): RunSettings('tiny', weights='zero')
    with pytest.raises(UserError, match='planner needs replies that can be read'): settings(planner='llm')
    plan = plan_run(dataclasses.replace(settings(), model='qwen1.5-110b', precision='fp32', name='huge'), ws)
    with pytest.raises(WorkError, match=r'qwen1.5-110b at fp32 needs about 4\d\d[.]\d GB of memory and .* are free'):
        with Run(plan) as run: run.load() # before any of it is allocated
    assert not (plan.run_dir / 'summary.json').exists()


def test_the_length_of_replies_comes_from_recorded_runs(ws, noise, monkeypatch):
    plan = plan_run(dataclasses.replace(settings(), max_new_tokens=None, name='lengths'), ws)
    run = Run(plan)
    assert run.reply_length() == (REPLY_TOKENS, 'no run to go by: the usual length')
    thinks = dataclasses.replace(plan, entry=dataclasses.replace(plan.entry, thinking='always', thinking_tokens=1000))
    assert Run(thinks).reply_length()[0] == REPLY_TOKENS + 500
    folder = ws.experiments / 'demo_QA' / 'sister-bench'
    folder.mkdir(parents=True)
    try:
        for family, want in (('other', REPLY_TOKENS), ('toys', 42)):
            (folder / 'summary.json').write_text(json.dumps(dict(name='sister-bench', model_id='me/sister', llm_provider='hf_local', num_questions=10, output_tokens=420,
                                                                 status='complete', questions_file='demo_QA.csv', model=dict(key='sister', family=family))))
            assert run.reply_length()[0] == want
        assert 'sister-bench' in run.reply_length()[1]
    finally: (folder / 'summary.json').unlink(); folder.rmdir()


CHILD = '''
import sys; from wattnb.experiment.execute import run_all; from wattnb.experiment.plan import plan_run; from wattnb.experiment.settings import RunSettings
run_all(plan_run(RunSettings('tiny', weights='random', name='killed', limit=6, batch_size=1, latency_mode=True, idle_seconds=0), sys.argv[1]))
'''

def test_a_killed_run_resumes_with_the_length_that_it_began_with(ws):
    plan = lambda: plan_run(RunSettings('tiny', weights='random', name='killed', limit=6, batch_size=1, latency_mode=True, idle_seconds=0), ws)
    journal = plan().run_dir / 'journal.jsonl'
    p = subprocess.Popen([sys.executable, '-c', CHILD, str(ws.root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and p.poll() is None and (not journal.exists() or journal.read_text().count('"attempt"') < 2): time.sleep(.05)
    finally:
        with contextlib.suppress(OSError): os.kill(p.pid, signal.SIGKILL)
        p.wait()
    resumed = plan()
    assert resumed.state == 'resume' and 0 < resumed.done < len(resumed.questions)
    text = journal.read_text()
    folder = ws.experiments / 'demo_QA' / 'later-bench'
    folder.mkdir(parents=True)
    try: # a run that would suggest another length
        (folder / 'summary.json').write_text(json.dumps(dict(name='later-bench', model_id='me/tiny', llm_provider='hf_local', num_questions=1, output_tokens=5,
                                                             status='complete', questions_file='demo_QA.csv', model=dict(key='tiny', family='toys'))))
        files = run_all(resumed)
    finally: (folder / 'summary.json').unlink(); folder.rmdir()
    assert files.summary['status'] == 'complete' and files.summary['output_tokens'] == REPLY_TOKENS * len(resumed.questions)
    assert journal.read_text().startswith(text[:text.rindex('\n')]) and files.scores is None and plan().state == 'complete'


def test_plan_shows_the_predicted_and_the_measured(ws, real, noise, capsys):
    words = ['plan', '--root', str(ws.root), '--model', 'tiny', '--limit', '3']
    assert main(words) == 0
    out = capsys.readouterr().out
    assert 'What it takes' in out and 'random weights: ' in out
    assert main([*words, '--json']) == 0
    got = json.loads(capsys.readouterr().out)
    rows = {r['']: r for r in got['needs']}
    assert rows['s/question']['random weights'] > 0 and rows['s/question']['real run'] is None and rows['memory, GB']['random weights'] > 0
    assert rows['tokens of a reply']['random weights'] > 0 and rows['memory, GB']['predicted'] == .1
    assert not (ws.experiments / 'demo_QA' / 'tiny-bench').exists() # a plan starts nothing
    assert main(['plan', '--root', str(ws.root), '--model', 'qwen72b', '--json']) == 0
    assert 'wattnb run --model qwen72b --weights random' in json.loads(capsys.readouterr().out)['notes'][-1]
