"A model from its entry to the figures: one table adds it everywhere; providers, precisions, budgets and attempts through whole runs."
import json, os, subprocess, sys

import pytest

from conftest import words_workspace
from wattnb.experiment.stages import Run
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.experiment.execute import run_all
from wattnb.llm.registry import load_registry
from wattnb.testing.server import FakeServer, environment
from wattnb.core.workspace import UserError, read_json

CANARY = 'sk-CANARY-9876543210-do-not-print'
KEYS = dict(OPENAI_API_KEY=CANARY, OPENROUTER_API_KEY=CANARY, AWS_ACCESS_KEY_ID='AKIACANARY0000000000', AWS_SECRET_ACCESS_KEY=CANARY, AWS_PROFILE=None, AWS_SESSION_TOKEN=None)
NEW = '''
[model.newcomer-4b]
name = "Newcomer 4B"
family = "newcomer"
provider = "openai"
id = "newcomer-4b-it"
params_b = 4.0
context = 32768
max_new_tokens = 200
max_concurrent = 4
prices = { in = 1.0, out = 4.0, date = "2026-11-01", source = "a contract" }
'''
SIBLING = NEW.replace('4b', '9b').replace('4B', '9B').replace('4.0\ncontext', '9.0\ncontext')


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    "With one model more than we ship."
    return words_workspace(tmp_path_factory.mktemp('ws'), models_toml=NEW)


@pytest.fixture
def server():
    with FakeServer('extractive', latency=.01) as s, environment(**KEYS, **s.env()): yield s


def settings(**kw): return RunSettings(**{'model': 'newcomer-4b', 'env': 't', 'preset': 'words', 'limit': 12, **kw})


def cli(ws, *args, **env):
    return subprocess.run([sys.executable, '-m', 'wattnb.cli', *args, '--root', str(ws.root)], capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **env})


# --- one entry ---------------------------------------------------------------------------------------------------------

def test_one_entry_is_seen_everywhere(ws, server):
    "A table in models.toml, and the model is in the list, the run, the benchmark, the scaling study, the cost table and the figures."
    pytest.importorskip('matplotlib')
    from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark
    from wattnb.compare.paired import compare
    from wattnb.plots.registry import FigureData
    from wattnb.plots.figures import draw_all
    from wattnb.benchmark.scaling_study import scaling
    listed = {r['key']: r for r in load_registry(ws).table()}['newcomer-4b']
    assert (listed['name'], listed['USD/M in'], listed['fits here']) == ('Newcomer 4B', 1.0, 'API') and 'newcomer-4b' not in load_registry()
    new = plan_run(settings(env='new', limit=6), ws)
    run_all(new)
    run_all(plan_run(settings(model='abstain', env='new', limit=6), ws))
    got = read_json(new.run_dir/'summary.json')
    assert new.name == 'newcomer-4b-bench-words' and got['cost_usd'] > 0
    assert got['model'] == dict(key='newcomer-4b', name='Newcomer 4B', family='newcomer', params_b=4.0, active_b=None)
    planned = {p.model: p for p in plan_benchmark(BenchmarkSettings(env='new', preset='words', providers=('openai', 'baseline'), limit=6), ws)}
    assert planned['newcomer-4b'].state == 'skip' and planned['gpt-4o'].state != 'skip' # the one is done, the shipped ones wait
    study = scaling(ws, 'newcomer', env='new', datafile='demo_QA', preset='words')
    assert [(r['model'], r['params_b'], r['est_cost_usd'] > 0) for r in study.rows] == [('Newcomer 4B', 4.0, True)] and not study.missing
    costs = compare(ws, ['newcomer-4b-bench-words', 'abstain-bench-words'], env='new').cost_table
    assert 'newcomer-4b-bench-words' in costs.to_text() and 'prompt tokens' in costs.to_text()
    size = {r['run'] if 'run' in r else r['label']: r for r in FigureData(ws, 'new', 'demo_QA').tables.runs.to_dict('records')}
    assert any(r['params_b'] == 4.0 and r['family'] == 'newcomer' and r['usd_1000'] > 0 for r in size.values())
    for name in ('overall_ranking', 'accuracy_usd'):
        draw_all(ws.root, datafile='demo_QA', only=name, env='new')
        assert any('ewcomer' in f.read_text() for f in ws.plots.rglob(f'{name}.csv')), name


# --- budgets -----------------------------------------------------------------------------------------------------------

def test_a_budget_in_usd_stops_and_a_higher_one_resumes(ws, server):
    "Never above the limit with calls in flight; what is done is kept; more money finishes the same run as one without a limit."
    free = run_all(plan_run(settings(name='free', max_retries=0), ws)).summary
    tight = settings(name='tight', max_retries=0, max_usd=free['cost_usd'] / 2)
    part = run_all(plan_run(tight, ws)).summary
    done = part['num_questions'] - part['by_status']['failed']
    assert part['status'] == 'budget' and 'USD' in part['stopped_because'] and 0 < done < 12 and 0 < part['cost_usd'] <= tight.max_usd
    again = run_all(plan_run(tight, ws)).summary # nothing more is affordable, and nothing more is spent
    assert again['status'] == 'budget' and again['cost_usd'] == part['cost_usd']
    more = plan_run(settings(name='tight', max_retries=0, max_usd=free['cost_usd'] * 3), ws)
    assert more.state == 'resume' and more.done >= 1
    whole = run_all(more).summary
    assert whole['status'] == 'complete' and whole['cost_usd'] == pytest.approx(free['cost_usd']) and whole['overall_score'] == free['overall_score']


def test_a_reply_without_a_count_of_tokens_is_not_free(ws):
    with FakeServer('extractive', kinds=['no-usage'], share=1.) as s, environment(**KEYS, **s.env()):
        got = run_all(plan_run(settings(name='uncounted', max_usd=.02), ws))
    assert got.summary['status'] == 'budget' and got.summary['cost_usd'] is None and 0 < s.calls < 12


def test_a_budget_in_wh_stops(ws, monkeypatch):
    "A tenth of a Wh for each question, and one Wh in all: waves that grow, and an end within the limit."
    from wattnb.index.store import open_index
    monkeypatch.setattr(Run, 'spent', lambda self: (0., .1 * sum(map(len, self.state.content.attempts.values()))))
    plan = plan_run(settings(name='wh', model='extractive', limit=20, max_retries=0, max_wh=1.), ws)
    with Run(plan) as run:
        from wattnb.llm.protocol import open_model
        run.model, run.index = open_model('extractive'), open_index(ws)
        part = run.answer().finish().summary
    asked = 20 - part['by_status']['failed']
    assert part['status'] == 'budget' and 'Wh' in part['stopped_because'] and 5 <= asked <= 10


def test_limits_that_cannot_be_kept_are_refused(ws, server):
    with pytest.raises(UserError, match='max_usd: no price is known for openai:unknown'): plan_run(settings(model='openai:unknown', max_usd=1.), ws)
    with pytest.raises(UserError, match='max_wh: newcomer-4b is served elsewhere'): plan_run(settings(max_wh=1.), ws)
    with pytest.raises(UserError, match='max_usd must be a number above 0'): plan_run(settings(max_usd=-1.), ws)
    plan = plan_run(settings(model='extractive', name='unmetered', max_wh=1.), ws)
    with Run(plan) as run:
        if run.telemetry.sampler.meters: return # a machine that can measure
        with pytest.raises(UserError, match='max_wh: no meter works here'): run.load()


def test_the_command_stops_at_its_budget_and_reports_the_bill(ws, server):
    p = cli(ws, 'run', '--model', 'newcomer-4b', '--preset', 'words', '--env', 't', '--name', 'paid', '--limit', '8', '--max-usd', '0.006', '--json')
    assert p.returncode == 0 and p.stdout, p.stderr
    s = json.loads(p.stdout)['summary']
    assert s['status'] == 'budget' and s['cost_usd'] <= .006, p.stderr
    bill = next(l for l in p.stderr.splitlines() if l.startswith('bill'))
    assert ' USD for 8 questions of about ' in bill and 'prices of 2026-11-01' in bill and 'a higher limit resumes the run' in p.stderr
    assert CANARY not in p.stdout + p.stderr + ''.join(f.read_text('utf-8', 'replace') for f in (ws.experiments/'t/demo_QA/paid').iterdir() if f.is_file())


# --- attempts ----------------------------------------------------------------------------------------------------------

def test_every_attempt_is_kept(ws):
    "A reply that cannot be read is followed by another attempt, deeper; each attempt has its prompt, tokens, time, bill and reason."
    tries = {}
    def sometimes(prompt):
        q = prompt.rpartition('Question: ')[2].split('\n')[0]
        tries[q] = tries.get(q, 0) + 1
        return 'no idea, sorry' if tries[q] == 1 else '{"explanation": "x", "answer": "7", "answer_value": "7", "ref_id": []}' if tries[q] == 2 else ''
    with FakeServer(sometimes) as s, environment(**KEYS, **s.env()): got = run_all(plan_run(settings(name='again', limit=3), ws))
    sent = [b['messages'][-1]['content'] for b in s.bodies]
    assert ['could not be read' in p for p in sent] == [False] * 3 + [True] * 3 # the second prompt says what was wrong
    for r in got.results:
        a, b = r['attempts']
        assert (a['reason'], a['status'], a['stage'], b['reason'], b['status'], b['stage']) == ('first', 'unparsed', 'answer', 'unparsed', 'answered', 'retry')
        assert a['prompt_hash'] != b['prompt_hash'] and len(a['prompt_hash']) == 16 and b['context_tokens'] >= a['context_tokens'] and b['value'] == '7' and r['retry_count'] == 1
        assert all(x['tokens']['prompt'] > 0 and x['seconds']['generation'] > 0 and x['cost_usd'] > 0 and x['calls'] == 1 for x in (a, b))
        assert r['tokens']['prompt'] == a['tokens']['prompt'] + b['tokens']['prompt'] and r['cost_usd'] == pytest.approx(a['cost_usd'] + b['cost_usd'])
    by = got.summary['by_stage']
    assert set(by) == {'answer', 'retry'} and by['answer']['calls'] == by['retry']['calls'] == 3
    assert by['answer']['prompt'] + by['retry']['prompt'] == got.summary['tokens']['prompt'] and got.summary['parsed_by'] == {'json': 3}


def test_planning_is_a_stage_of_its_own(ws):
    write = lambda p: '["energy of the hall", "power of the site"]' if 'search queries' in p else '{"explanation": "x", "answer": "7", "answer_value": "7", "ref_id": []}'
    with FakeServer(write) as s, environment(**KEYS, **s.env()): got = run_all(plan_run(settings(name='planned', limit=3, planner='llm'), ws))
    by, total = got.summary['by_stage'], got.summary['tokens']
    assert set(by) == {'plan', 'answer'} and by['plan']['calls'] == 3 and by['plan']['prompt'] + by['answer']['prompt'] == total['prompt']
    assert by['plan']['cost_usd'] + by['answer']['cost_usd'] == pytest.approx(got.summary['cost_usd'])


def test_retries_end_and_a_lasting_refusal_is_no_failure(ws):
    "Blank replies get two more attempts, and stay refusals."
    with FakeServer('{"answer_value": "N/A", "ref_id": ["is_blank"]}') as s, environment(**KEYS, **s.env()): got = run_all(plan_run(settings(name='blank', limit=2), ws))
    assert s.calls == 6 and [r['retry_count'] for r in got.results] == [2, 2] and got.summary['by_status'] == dict(answered=0, abstained=2, unparsed=0, failed=0)
    assert got.summary['by_stage']['retry']['calls'] == 4


# --- how sure ------------------------------------------------------------------------------------------------------------

def test_confidence_reaches_the_record_and_what_reads_it(ws):
    "On request it is that of the value's tokens; it is in the record, orders the risk-coverage curve and weighs a vote. Otherwise it is null, with the reason."
    from wattnb.scoring.run_folders import RunFolder
    with FakeServer('{"explanation": "x", "answer": "7", "answer_value": "7", "ref_id": []}') as s, environment(**KEYS, **s.env()):
        silent = run_all(plan_run(settings(name='silent', limit=2, max_retries=0), ws))
        toml = ws.root / 'sure.toml'
        toml.write_text(NEW.replace('max_concurrent = 4', 'max_concurrent = 4\noptions = { logprobs = true }'))
        plan = plan_run(settings(model=str(toml), name='sure', limit=2, max_retries=0), ws)
        sure = run_all(plan)
    assert [(r['confidence'], 'not requested' in r['confidence_from']) for r in silent.results] == [(None, True)] * 2
    assert [(r['confidence'], r['confidence_from']) for r in sure.results] == [(pytest.approx(2.718281828 ** -.5), 'value tokens')] * 2
    assert sure.summary['scores']['strict']['risk_coverage']['confidence'] is True and silent.summary['scores']['strict']['risk_coverage']['confidence'] is False
    assert all(p.confidence == pytest.approx(.60653, abs=1e-4) for p in RunFolder(plan.run_dir).predictions)


# --- every provider, every precision -------------------------------------------------------------------------------------

@pytest.mark.parametrize('provider, model', [('openai', 'gpt-4o-mini'), ('openrouter', 'gpt-4o-mini'), ('bedrock', 'haiku'), ('baseline', 'abstain'), ('baseline', 'extractive'), ('openai', 'newcomer-4b')])
def test_a_run_with_each_provider(ws, server, provider, model):
    if provider == 'bedrock': pytest.importorskip('boto3')
    got = run_all(plan_run(settings(model=model, provider=provider, name=f'with-{provider}-{model}', limit=2, max_retries=0), ws)).summary
    assert got['status'] == 'complete' and got['llm_provider'] == provider and got['error_count'] == 0
    assert got['input_tokens'] > 0 and got['cost_usd'] > 0 and got['quantization'] == 'api' if provider != 'baseline' else got['cost_usd'] == 0
    assert got['determinism'] and got['effective_dtype']


@pytest.mark.parametrize('precision, effective', [('fp32', ('float32', 'none')), ('bf16', ('bfloat16', 'none')), ('8bit', ('float16', 'int8')), ('4bit', (None, 'nf4'))])
def test_the_embedded_model_at_each_precision(ws, precision, effective, caplog):
    "On a CPU: it runs, the record has what was loaded, and what is slow there is reported."
    pytest.importorskip('torch')
    if precision in ('8bit', '4bit'): pytest.importorskip('bitsandbytes')
    with caplog.at_level('WARNING', 'wattnb'):
        plan = plan_run(settings(model='smollm2-135m', engine='transformers', precision=precision, name=f'smol-{precision}', limit=1, max_retries=0, max_new_tokens=6, retrieval='max_tokens=200'), ws)
        got = run_all(plan).summary
    assert got['status'] == 'complete' and got['quantization'] == precision and got['input_tokens'] > 100 and got['cost_usd'] == 0
    assert got['effective_quantization'] == effective[1] and (precision in ('8bit', '4bit') or got['effective_dtype'] == effective[0])
    r = read_json(plan.run_dir/'results.json')[0]
    assert r['status'] == 'unparsed' or 0 < r['confidence'] <= 1 and r['confidence_from'] == 'reply tokens'
    assert ('do not depend' in got['determinism']) == (precision == 'fp32') and got['effective']['attention']
    if not got['hardware']['gpu_name']: assert ('saves memory and is slow' in caplog.text) == (precision in ('8bit', '4bit'))
