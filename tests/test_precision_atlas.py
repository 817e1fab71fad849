"The precision atlas: cells from the runs' own numbers, predictions by the rule of the plan, crossovers of known ratios, nothing without a basis."
import json, math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from wattnb.compare.precision_atlas import crossover, crossover_sentence, crossover_sizes, log_prices, paid_ratio, read_atlas, wh_per_right
from wattnb.core.workspace import read_json, write_json
from wattnb.plots.figures import draw
from wattnb.plots.registry import FigureData
from wattnb.plots.style import is_note
from wattnb.testing.synthetic import synthetic_runs

SIZES = ('qwen3b', 'qwen7b', 'qwen14b')


# ---- the numbers

@given(st.lists(st.booleans(), min_size=4, max_size=40), st.floats(.5, 1.), st.floats(1., 2.), st.integers(0, 9))
@settings(max_examples=30)
def test_a_price_is_inside_its_interval(right, low, high, seed):
    joules = np.random.default_rng(seed).uniform(10, 500, len(right))
    p = wh_per_right(np.array(right, float), joules, (low, high))
    assert (p['wh_per_right'] is not None) == (p['right_low'] > 0)
    if p['wh_per_right'] is not None:
        assert p['wh_per_right'] == pytest.approx(joules.sum() / 3600 / sum(right))
        assert 0 < p['wh_per_right_low'] <= p['wh_per_right'] <= (p['wh_per_right_high'] or math.inf)


@given(st.lists(st.sampled_from([-2., -.5, 0., .5, 2., math.nan, math.inf, -math.inf]), min_size=1, max_size=6))
def test_from_the_crossover_on_every_model_pays(logs):
    sizes = [2. ** k for k in range(len(logs))]
    (at,), (first,) = crossover_sizes(sizes, [logs])
    assert all(v < 0 for v in logs[first:]) and (first == 0 or not logs[first - 1] < 0)
    if first == 0: assert at == 0
    elif first == len(logs): assert at == math.inf
    else: assert sizes[first - 1] * (1 - 1e-9) <= at <= sizes[first] * (1 + 1e-9)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=5), st.integers(0, 99))
@settings(max_examples=40)
def test_every_crossover_has_a_sentence(logs, seed):
    draws = np.vstack([logs, logs + np.random.default_rng(seed).normal(0, .3, (200, len(logs)))])
    c = crossover([float(2 ** k) for k in range(len(logs))], draws, 60) | dict(env='m', engine='', precision='4bit', against='bf16')
    if c['verdict'] == 'between': assert c['after'] * (1 - 1e-9) <= c['size'] <= c['before'] * (1 + 1e-9) and (c['size_low'] or 0) <= c['size'] <= (c['size_high'] or math.inf)
    said = crossover_sentence(c)
    assert ('not' in said or 'no size' in said) == (c['verdict'] == 'not seen') and said.count('P ') == 1 and 'None' not in said and ('may' in said) == (c['verdict'] != 'not seen' and c['p'] < .95)


def test_the_same_run_twice_is_even():
    rng = np.random.default_rng(0)
    right, joules = rng.integers(0, 2, 80).astype(float), rng.uniform(50, 150, 80)
    logs = log_prices([right, right], [joules, joules], [(.9, 1.1)] * 2)
    r = paid_ratio(logs[:, 0] - logs[:, 1], 80)
    assert r['ratio'] == 1 and r['ratio_low'] < 1 < r['ratio_high'] and .45 < r['p_pays'] < .55


# ---- runs

def _summary(ws, run, change):
    f = ws.root / f'artifacts/experiments/{run}/summary.json'
    s = read_json(f); change(s); write_json(f, s)


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    plan = [(e, k, p) for e in ('PowerEdge', 'GB10') for k in SIZES for p in ('4bit', '8bit', 'bf16')]
    return synthetic_runs(tmp_path_factory.mktemp('atlas'), [*plan, ('PowerEdge', 'nova-pro', '')], questions=80, unanswerable=8, ensembles=1, unpacking=4.)


def test_two_machines_three_sizes_three_precisions(ws):
    a = read_atlas(ws)
    assert len(a.cells) == 18 and {c.found for c in a.cells} == {'measured'} and len(a.pairs) == 12 and len(a.crossovers) == 4
    assert list(a.left_out) == ['PowerEdge/made_QA/nova-pro-bench'] and 'hosted' in a.left_out['PowerEdge/made_QA/nova-pro-bench']
    assert {c['against'] for c in a.crossovers} == {'bf16'} and {c['models'] for c in a.crossovers} == {3}
    doc = json.loads(json.dumps(a.to_json(), allow_nan=False))
    assert list(doc) == ['cells', 'pairs', 'crossovers', 'prediction_errors', 'left_out']
    assert {'env', 'model', 'precision', 'found', 'wh_per_right', 'wh_per_right_low', 'wh_per_right_high', 'basis', 'reason'} <= set(doc['cells'][0])
    assert {'ratio', 'ratio_low', 'ratio_high', 'p_pays', 'against'} <= set(doc['pairs'][0]) and {'verdict', 'p', 'size', 'sentence'} <= set(doc['crossovers'][0])
    assert len(read_atlas(ws, 'GB10').cells) == 9


def test_a_meter_widens_a_cell_and_draws_the_chance_to_the_middle(ws, tmp_path):
    import shutil
    shutil.copytree(ws.root, tmp_path / 'w')
    before, runs = read_atlas(tmp_path / 'w/artifacts/experiments', 'GB10'), ['GB10/made_QA/qwen3b-bench', 'GB10/made_QA/qwen3b-bf16-bench']
    wide = type(ws)(tmp_path / 'w')
    for r in runs: _summary(wide, r, lambda s: s['energy'].update(total_wh_low=.5 * s['energy']['total_wh'], total_wh_high=1.5 * s['energy']['total_wh']))
    after = read_atlas(wide, 'GB10')
    assert after.cells[0].wh_per_right == before.cells[0].wh_per_right and after.cells[0].wh_per_right_high > before.cells[0].wh_per_right_high
    assert abs(after.pairs[0]['p_pays'] - .5) < abs(before.pairs[0]['p_pays'] - .5) and after.pairs[0]['ratio'] == pytest.approx(before.pairs[0]['ratio'])
    # of one of two GPUs only: a lower bound, which is in no ratio and predicts nothing
    _summary(wide, runs[1], lambda s: s['hardware'].update(gpu_count=2) or s['effective'].update(device='cuda:0, cuda:1') or s['energy'].update(by_device=dict(gpu0=dict(part='gpu', wh=1.))))
    bound = read_atlas(wide, 'GB10')
    cell = next(c for c in bound.cells if c.runs == (runs[1],))
    assert cell.found == 'at least' and cell.wh_per_right_high is None and cell.wh_per_right_low <= cell.wh_per_right
    assert len(bound.pairs) == len(before.pairs) - 2 and 'Qwen2.5 3B' not in {p['model'] for p in bound.pairs}


def test_runs_of_other_seeds_are_pooled_and_other_questions_left_out(tmp_path):
    plan = [('GB10', k, p) for k in SIZES[:2] for p in ('4bit', 'bf16')]
    ws = synthetic_runs(tmp_path, plan, questions=60, unanswerable=6, ensembles=0)
    alone = read_atlas(ws)
    synthetic_runs(tmp_path, plan[:1], questions=60, unanswerable=6, ensembles=0, suffix='again', seed=8)
    two = read_atlas(ws)
    assert two.cells[0].runs == ('GB10/made_QA/qwen3b-again', 'GB10/made_QA/qwen3b-bench') and two.cells[0].n == 60
    assert two.cells[0].right != alone.cells[0].right and two.cells[1:] == alone.cells[1:]
    _summary(ws, 'GB10/made_QA/qwen3b-again', lambda s: s.update(status='interrupted'))
    assert read_atlas(ws).left_out == {'GB10/made_QA/qwen3b-again': 'not finished'} and read_atlas(ws).cells == alone.cells


def test_nothing_to_compare_is_said(tmp_path):
    ws = synthetic_runs(tmp_path, [('GB10', 'qwen3b', '4bit'), ('GB10', 'qwen7b', 'bf16')], questions=30, unanswerable=3, ensembles=0)
    a = read_atlas(ws)
    guesses = {(c.model, c.precision): c for c in a.cells if c.found != 'measured'}
    assert {c.found for c in guesses.values()} == {'predicted'} and all(c.wh_per_right_low is None and c.wh_per_right for c in guesses.values()), 'one run per precision: the rule cannot be tried'
    assert a.pairs == () and 'No model ran at two precisions' in a.to_text() and 'no measured cell can be predicted' in a.to_text()
    fig, _ = draw('precision_atlas', FigureData(ws, None, 'made_QA'))
    assert is_note(fig)
