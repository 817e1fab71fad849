"WattBot folders: four nestings, summaries of 14, 25 and 28 keys, chunks; what is unknown survives the way there and back."
import json
from pathlib import Path

import pytest

from wattnb.legacy.wattbot_files import WATTBOT_HARDWARE, WATTBOT_RECORD, WATTBOT_SUMMARY, export_wattbot
from wattnb.scoring.run_folders import RunFolder, find_run, find_runs

RECORDED = Path(__file__).resolve().parent.parent.parent / 'shared/wattbot/recorded'
ENSEMBLE = dict(name='e', type='ensemble', ensemble_type='cross-model', strategy='majority', ignore_blank=True, models=['a', 'b'], num_models=2, num_questions=3,
                value_accuracy=1., ref_overlap=1., na_accuracy=1., overall_score=1., questions_correct=3, questions_wrong=0)


def record(i, **kw): return {**WATTBOT_RECORD, 'id': f'q{i}', 'gt_value': str(i), 'pred_value': str(i), 'gt_ref': '["a"]', 'pred_ref': '["a"]', 'custom': {'deep': [i, None]}, **kw}


def summary(keys):
    text = {'name', 'config_path', 'model_id', 'llm_provider', 'quantization', 'run_environment', 'questions_file'}
    s = {k: 'x' if k in text else '2026-05-01T10:00:00' if k == 'timestamp' else {k: 'x' if k.startswith(('gpu_n', 'gpu_energy_m', 'h', 'c')) else 0 for k in WATTBOT_HARDWARE} if k == 'hardware'
         else {'top_k': 8} if k == 'config_snapshot' else 3 for k in keys}
    return s | dict(questions_file='train_QA.csv', run_environment='GB10', num_questions=120)


SHAPES = {14: ENSEMBLE, 25: summary([k for k in WATTBOT_SUMMARY if 'retr' not in k or k == 'avg_retrieval_seconds']), 28: summary(WATTBOT_SUMMARY)}


def put(folder, s, n=120, chunk=50):
    folder.mkdir(parents=True)
    rows = [record(i) for i in range(n)]
    for k in range(0, n, chunk): (folder / f'results_chunk_{k // chunk:03d}.json').write_text(json.dumps(rows[k:k + chunk]))
    (folder / 'summary.json').write_text(json.dumps(s | dict(name=folder.name, custom_key={'kept': [1, None]})))
    return rows


@pytest.mark.parametrize('keys', SHAPES)
def test_there_and_back_nothing_is_lost(tmp_path, keys):
    assert len(SHAPES[keys]) == keys
    rows = put(tmp_path / 'artifacts/experiments/GB10/train_QA/m-bench', SHAPES[keys])
    run = find_run(tmp_path, 'm-bench')
    files = export_wattbot(run, tmp_path / 'out')
    back = RunFolder(tmp_path / 'out')
    assert back.records == rows == run.records and back.summary == run.summary and list(back.summary) == list(run.summary)
    assert [p.name for p in files] == ['results_chunk_000.json', 'results_chunk_001.json', 'results_chunk_002.json', 'submission.csv', 'summary.json']
    assert [len(json.loads(p.read_text())) for p in files[:3]] == [50, 50, 20]


def test_four_nestings_and_numeric_chunk_order(tmp_path):
    base = tmp_path / 'artifacts/experiments'
    for place in ('GB10/train_QA/a', 'GB10/b', 'train_QA/c', 'd'): put(base / place, SHAPES[28], 12, 1)
    runs = {r.name: r for r in find_runs(tmp_path)}
    assert {n: (r.env, r.datafile) for n, r in runs.items()} == {n: ('GB10', 'train_QA') for n in 'abcd'} | {'c': ('GB10', 'train_QA')}
    assert all([x['id'] for x in r.records] == [f'q{i}' for i in range(12)] for r in runs.values())


def test_a_shorter_export_leaves_no_chunk_of_a_longer_one(tmp_path):
    put(tmp_path / 'artifacts/experiments/GB10/train_QA/m', SHAPES[28]); put(tmp_path / 'later/artifacts/experiments/GB10/train_QA/m', SHAPES[28], 20)
    export_wattbot(find_run(tmp_path, 'm'), tmp_path / 'out'); export_wattbot(find_run(tmp_path / 'later', 'm'), tmp_path / 'out')
    assert len(RunFolder(tmp_path / 'out').records) == 20


@pytest.mark.skipif(not RECORDED.exists(), reason='the recorded runs are not here')
def test_every_recorded_run_survives(tmp_path):
    runs = find_runs(RECORDED)
    assert runs
    for i, run in enumerate(runs):
        if not run.records: continue
        export_wattbot(run, tmp_path / str(i))
        back = RunFolder(tmp_path / str(i))
        assert back.records == run.records, run.id
        assert {k: v for k, v in back.summary.items() if k != 'not_measured'} == run.summary or 'not_measured' in back.summary, run.id
        assert [(p.id, p.value, p.refs) for p in back.predictions] == [(p.id, p.value, p.refs) for p in run.predictions], run.id
