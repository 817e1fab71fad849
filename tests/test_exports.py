"Runs in the formats of others: the schema of Every Eval Ever itself, YAML of a model card, and each tracker that is installed. No key and no folder of the machine reaches any of them."
import importlib.util, json, os, subprocess, sys
from pathlib import Path

import pytest

from wattnb.core.workspace import UserError
from wattnb.experiment.exports import energy_facts, eval_results_entry, every_eval_ever, export_every_eval_ever, run_hash, tracked
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.scoring.numbers import run_numbers
from wattnb.scoring.run_folders import GroundTruth, find_run, find_runs
from wattnb.testing.synthetic import synthetic_runs

SCHEMAS = Path(__file__).parent / 'every_eval_ever' # version 0.3.0, as published (MIT)
KEY = 'sk-canary0Sec1ret2'


@pytest.fixture(scope='module')
def made(tmp_path_factory): return synthetic_runs(tmp_path_factory.mktemp('made'), questions=20, unanswerable=3)


@pytest.fixture
def told(tmp_path, monkeypatch):
    "A real run whose answers and summary name a key and folders of this machine."
    from conftest import words_workspace
    monkeypatch.setenv('MY_API_KEY', KEY)
    ws = words_workspace(tmp_path / 'ws')
    plan = plan_run(RunSettings('extractive', env='t', preset='words', limit=6), ws)
    run_all(plan)
    for name in ('results.json', 'summary.json', 'submission.csv'):
        p = plan.run_dir / name
        text = p.read_text('utf-8').replace('"raw_response": "', f'"raw_response": "{KEY} at {ws.root}/data/x: ', 1)
        p.write_text(text.replace('"warnings": []', f'"warnings": ["cannot read /srv/secret/place/meter.csv of {ws.root}, {KEY}"]'), 'utf-8')
    return ws, find_run(ws, plan.run_dir)


def faults(kind, document):
    from jsonschema.validators import validator_for
    schema = json.loads((SCHEMAS / f'{kind}.schema.json').read_text('utf-8'))
    return [f'{e.json_path}: {e.message}' for e in validator_for(schema)(schema).iter_errors(document)]


def test_every_eval_ever_takes_every_run(made, tmp_path):
    "Local, hosted and ensemble runs follow the schema; its own words are looked at, so a document without an id or with null for a number is refused."
    truths = GroundTruth(made)
    for run in find_runs(made):
        for p in export_every_eval_ever(run, tmp_path, truths):
            texts = p.read_text('utf-8').splitlines() if p.suffix == '.jsonl' else [p.read_text('utf-8')]
            kind = 'instance_level_eval' if p.suffix == '.jsonl' else 'eval'
            assert not [f for t in texts for f in faults(kind, json.loads(t))], (run.id, p)
            if kind == 'eval':
                d = json.loads(p.read_text('utf-8'))
                sample = tmp_path / d['detailed_evaluation_results']['file_path']
                assert len(sample.read_text('utf-8').splitlines()) == d['detailed_evaluation_results']['total_rows']
                assert p.relative_to(tmp_path).as_posix().split('/')[2:4] == d['model_info']['id'].split('/')
    d, lines = every_eval_ever(find_runs(made)[0], truths)
    assert faults('eval', {k: v for k, v in d.items() if k != 'evaluation_id'})
    d['evaluation_results'][0]['score_details']['score'] = None
    assert faults('eval', d)
    lines[0]['evaluation']['is_correct'] = 'yes'
    assert faults('instance_level_eval', lines[0])


def test_energy_goes_along_or_the_reason_why_there_is_none(made):
    truths = GroundTruth(made)
    for run in find_runs(made):
        x, (d, _) = run_numbers(run, truths), every_eval_ever(run, truths)
        wh = {r['metric_config']['metric_id']: r for r in d['evaluation_results'] if r['metric_config']['metric_unit'] == 'Wh'}
        if x.wh is None:
            assert not wh and d['source_metadata']['additional_details']['energy_reason'] == energy_facts(run, x)['energy_reason'] != ''
            continue
        assert wh['wattnb.energy']['score_details']['score'] == x.wh and wh['wattnb.energy']['metric_config']['lower_is_better']
        assert wh['wattnb.energy']['score_details']['details']['energy_method']
        if not run.is_ensemble: assert f'{x.wh_per_question:.4g} Wh per question' in eval_results_entry(run, 'a/b', truths=truths)


def test_a_model_card_entry_is_yaml(made):
    yaml = pytest.importorskip('yaml')
    run, truths = find_run(made, 'PowerEdge/made_QA/qwen7b-bench'), GroundTruth(made)
    [e] = yaml.safe_load(eval_results_entry(run, 'a/b', 'task: "1" #', 'https://example.org/?a=1#b', truths))
    assert set(e) <= {'dataset', 'value', 'date', 'source', 'notes'}
    assert e['dataset'] == dict(id='a/b', task_id='task: "1" #') and e['source']['url'] == 'https://example.org/?a=1#b'
    assert e['value'] == pytest.approx(run_numbers(run, truths).score, abs=1e-6) and isinstance(e['date'], str)
    with pytest.raises(UserError, match='no address'): eval_results_entry(run, 'a/b', source='javascript:x', truths=truths)


def test_no_key_and_no_folder_of_the_machine_leaves_it(told, tmp_path):
    ws, run = told
    truths = GroundTruth(ws)
    assert KEY in (run.path / 'results.json').read_text('utf-8') and '/srv/secret' in (run.path / 'summary.json').read_text('utf-8')
    exported = [p.read_text('utf-8') for p in export_every_eval_ever(run, tmp_path / 'out', truths)]
    t = tracked(run, truths)
    exported += [eval_results_entry(run, 'a/b', truths=truths), json.dumps(t.params), *t.files.values()]
    assert any('$WORKSPACE/data/x' in x for x in exported), 'the answer itself is there'
    for text in exported:
        for bad in (KEY, str(ws.root), str(Path.home()) + '/', str(tmp_path), '/srv/secret'): assert bad not in text, text[max(0, text.find(bad) - 200):][:400]


def logged(tracker, ws, run, env):
    "What two exports of the run said."
    words = [sys.executable, '-c', 'import sys; from wattnb.cli.command import main; sys.exit(main(sys.argv[1:]))']
    out = []
    for _ in range(2):
        p = subprocess.run([*words, 'export', run, '--to', tracker, '--project', 'papers', '--root', str(ws.root), '--json'],
                           env={**os.environ, **env}, capture_output=True, text=True, timeout=300)
        assert p.returncode == 0, p.stdout[-500:] + p.stderr[-2000:]
        out.append(json.loads(p.stdout[p.stdout.index('{'):])['logged'])
    return out


def has(name): return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f'{name} is not installed')
RUN = 'PowerEdge/made_QA/qwen7b-bench'


@has('mlflow')
def test_mlflow_has_the_run_once(made, tmp_path):
    uri = (tmp_path / 'mlruns').as_uri()
    assert logged('mlflow', made, RUN, dict(MLFLOW_TRACKING_URI=uri, MLFLOW_ALLOW_FILE_STORE='true')) == [True, False]
    os.environ['MLFLOW_ALLOW_FILE_STORE'] = 'true'
    from mlflow import MlflowClient
    client = MlflowClient(uri)
    [r] = client.search_runs([client.get_experiment_by_name('papers').experiment_id])
    run, x = find_run(made, RUN), run_numbers(find_run(made, RUN), GroundTruth(made))
    assert r.data.metrics['energy_Wh'] == x.wh and r.data.metrics['score'] == x.score and r.data.tags['wattnb_hash'] == run_hash(run)
    assert r.data.tags['mlflow.source.name'] == 'wattnb'
    assert {f.path for f in client.list_artifacts(r.info.run_id)} == {'numbers.json', 'results.json', 'submission.csv'}


@has('wandb')
def test_wandb_gets_the_run_under_its_hash(made, tmp_path):
    "Offline nothing can be asked: both exports have the id of the run, and are one run where they are uploaded."
    assert logged('wandb', made, RUN, dict(WANDB_MODE='offline', WANDB_DIR=str(tmp_path), WANDB_SILENT='true', WANDB_DATA_DIR=str(tmp_path / 'staged'))) == [True, True]
    files = sorted(tmp_path.glob('wandb/offline-run-*/run-*.wandb'))
    assert len(files) in (1, 2) and {f.stem for f in files} == {f'run-{run_hash(find_run(made, RUN))[:16]}'}
    raw = files[0].read_bytes()
    assert b'energy_Wh' in raw and b'wattnb_hash' in raw and str(made.root).encode() not in raw


@has('trackio')
def test_trackio_has_the_run_once(made, tmp_path):
    assert logged('trackio', made, RUN, dict(TRACKIO_DIR=str(tmp_path))) == [True, False]
    import sqlite3
    with sqlite3.connect(tmp_path / 'papers.db') as db: rows = db.execute('select metrics from metrics').fetchall()
    assert len(rows) == 1 and json.loads(rows[0][0])['energy_Wh'] == run_numbers(find_run(made, RUN), GroundTruth(made)).wh


def test_the_verb_says_what_it_lacks(made, capsys):
    from wattnb.cli.command import main
    for words, said in ((['export', RUN], 'give one form'), (['export', RUN, '--peer', '--to', 'wattbot'], 'give one form'),
                        (['export', RUN, '--to', 'eval-results'], 'OWNER/NAME')):
        assert main([*words, '--root', str(made.root)]) == 2
        err = capsys.readouterr().err
        assert said in err and len(err.strip().splitlines()) == 1
