"Thoughts and answers apart: energies that add up, prices with a known truth, twins and no others."
import json, math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from wattnb.compare.thinking import price_of_gain, price_sentence, price_thinking, thinking_cost
from wattnb.core.workspace import UserError, read_json, write_json
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.testing.synthetic import synthetic_runs

PAIR = [('PowerEdge', k, '4bit') for k in ('qwen3-8b', 'qwen3-8b-thinking')]
amount = st.none() | st.floats() | st.integers(-9, 10**6) | st.text(max_size=3)


# ---- the parts of one question

@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_parts_add_up(thought, answer, prefill, decode, retry):
    rec = dict(tokens=dict(reasoning=thought, completion=thought + answer),
               energy={k: dict(joules=j) for k, j in dict(prefill=prefill, decode=decode, retry=retry).items()})
    s = thinking_cost(rec)
    assert s['thought_joules'] + s['answer_joules'] + s['other_joules'] == pytest.approx(s['joules'], abs=1e-6)
    assert (s['thought_tokens'], s['answer_tokens']) == (thought, answer)
    if thought + answer: assert s['thought_joules'] == pytest.approx(decode * thought / (thought + answer), abs=1e-9)
    if not thought: assert s['thought_joules'] == 0


@given(st.dictionaries(st.sampled_from(['reasoning', 'completion', 'prompt']), amount),
       st.none() | st.dictionaries(st.sampled_from(['prefill', 'decode', 'generate', 'retry']), st.fixed_dictionaries(dict(joules=amount))))
def test_any_record_has_parts_or_none(tokens, energy):
    s = thinking_cost(dict(tokens=tokens, energy=energy))
    known = [s[k] is not None for k in ('thought_joules', 'answer_joules', 'other_joules')]
    assert all(known) or not any(known)
    if any(known): assert s['joules'] is not None and 'generate' not in (energy or {})


# ---- the price

def test_a_price_by_hand():
    "40 questions, 20 turned right at 90 J more each: 180 J for a right answer, .05 Wh."
    p = price_of_gain([1, 0] * 20, [90.] * 40)
    assert (p['gain'], p['wh'], p['price']) == pytest.approx((.5, .025, .05))
    assert p['price_low'] < .05 < p['price_high'] and p['verdict'] == 'gain'


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=40), st.integers(0, 9))
@settings(max_examples=40)
def test_a_price_only_with_a_gain(gain, seed):
    joules = np.random.default_rng(seed).uniform(50, 500, len(gain))
    p = price_of_gain(gain, joules)
    assert p['gain_low'] <= p['gain'] <= p['gain_high'] and p['wh_low'] <= p['wh'] <= p['wh_high']
    assert (p['price'] is not None) == (p['gain_low'] > 0) == (p['verdict'] == 'gain')
    if p['price'] is not None: assert 0 < p['price_low'] <= p['price'] <= (p['price_high'] or math.inf)
    said = price_sentence(dict(p, without='a', thinking='b', kind='all'))
    assert ('costs' in said) == (p['verdict'] == 'gain') and ('no gain is shown' in said) == (p['verdict'] == 'none')


def test_papers_widen_the_price():
    "Questions of a paper that turn together are fewer observations."
    gain, joules, paper = [1] * 40 + [0] * 80, [100.] * 120, [i // 8 for i in range(120)]
    alone, by_paper = price_of_gain(gain, joules), price_of_gain(gain, joules, clusters=paper)
    assert by_paper['price'] == alone['price'] and by_paper['price_low'] < alone['price_low']
    assert by_paper['price_high'] is None or by_paper['price_high'] > alone['price_high']


# ---- runs

@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    plan = [*PAIR, ('GB10', 'qwen3-8b-thinking', '4bit'), ('PowerEdge', 'qwen3-8b', 'bf16'), ('PowerEdge', 'qwen3-4b-2507', '4bit'), ('PowerEdge', 'nova-pro', '')]
    return synthetic_runs(tmp_path_factory.mktemp('think'), plan, questions=120, unanswerable=12, ensembles=1)


def test_twins_are_of_one_machine_precision_and_model(ws):
    t = price_thinking(ws)
    assert {(p['without'], p['thinking']) for p in t.prices} == {('PowerEdge/qwen3-8b-bench', 'PowerEdge/qwen3-8b-thinking-bench')} \
        or [(p['without'].split('/')[-1], p['thinking'].split('/')[-1]) for p in t.prices] == [('qwen3-8b-bench', 'qwen3-8b-thinking-bench')]
    hosted = next(k for k in t.rows if 'nova' in k)
    assert all(r['joules'] is None and r['thought_joules'] is None for r in t.rows[hosted])
    assert not any('ensemble' in k for k in t.rows)


def test_the_table_is_that_of_the_records(ws):
    t = price_thinking(ws, ['qwen3-8b-thinking-bench'], env='PowerEdge')
    records = read_json(ws.root / 'artifacts/experiments/PowerEdge/made_QA/qwen3-8b-thinking-bench/results.json')
    row = t.profile.to_json()[0]
    mean = lambda f: math.fsum(map(f, records)) / len(records)
    assert row['thought tokens'] == pytest.approx(mean(lambda r: r['tokens']['reasoning']))
    assert row['thought, J'] == pytest.approx(mean(lambda r: r['energy']['decode']['joules'] * r['tokens']['reasoning'] / r['tokens']['completion']))
    assert row['J/question'] == pytest.approx(mean(lambda r: sum(e['joules'] for e in r['energy'].values())))
    assert t.prices == () and 'no price' in t.to_text()
    json.dumps(t.to_json(), allow_nan=False)


@pytest.fixture
def pair(tmp_path): return synthetic_runs(tmp_path, PAIR, questions=120, unanswerable=12, ensembles=0)

def _records(ws, name, change):
    f = ws.root / f'artifacts/experiments/PowerEdge/made_QA/{name}/results.json'
    write_json(f, [change(r) for r in read_json(f)])

def test_meters_widen_the_price_and_a_bound_has_none(pair):
    narrow = price_thinking(pair).prices[0]
    for name in ('qwen3-8b-bench', 'qwen3-8b-thinking-bench'):
        f = pair.root / f'artifacts/experiments/PowerEdge/made_QA/{name}/summary.json'
        s = read_json(f); wh = s['energy']['total_wh']
        s['energy'] |= dict(total_wh_low=.9 * wh, total_wh_high=1.1 * wh); write_json(f, s)
    wide = price_thinking(pair).prices[0]
    assert narrow['price'] == wide['price'] and wide['price_low'] < narrow['price_low'] and wide['price_high'] > narrow['price_high']
    assert (narrow['gain_low'], narrow['gain_high']) == (wide['gain_low'], wide['gain_high'])


def test_a_question_without_energy_leaves_the_gain(pair):
    _records(pair, 'qwen3-8b-bench', lambda r: r | dict(energy=None) if r['id'] == 'x050' else r)
    p = price_thinking(pair).prices[0]
    assert p['verdict'] == 'gain' and (p['wh'], p['price']) == (None, None)
    assert 'not known' in price_thinking(pair).to_text() and 'not measured' in price_thinking(pair).to_text()


def test_no_tokens_of_thought_no_twins(pair):
    _records(pair, 'qwen3-8b-bench', lambda r: r | dict(tokens=dict(r['tokens'], reasoning=None)))
    t = price_thinking(pair)
    assert t.prices == () and t.profile.to_json()[0]['thought, J'] is None


def test_an_unknown_run_is_one_line(pair):
    with pytest.raises(UserError) as e: price_thinking(pair, ['qwen9'])
    assert '\n' not in str(e.value)


def test_effort_makes_another_run_and_its_levels_are_a_curve(tmp_path, monkeypatch):
    monkeypatch.setenv('OPENAI_API_KEY', 'x')
    plain, low = (plan_run(RunSettings('openai:gpt-5-mini', mode='closed-book', effort=e)) for e in ('', 'low'))
    assert low.identity == plain.identity | dict(effort='low') and low.name == plain.name + '-effort-low' and low.settings.public == plain.settings.public | dict(effort='low')
    with pytest.raises(UserError, match='unknown effort'): plan_run(RunSettings('openai:gpt-5-mini', mode='closed-book', effort='lots'))
    ws = synthetic_runs(tmp_path, [('GB10', 'qwen3-8b-thinking', '4bit', e) for e in ('2048', '64', '256')], questions=40, unanswerable=4, ensembles=0)
    t = price_thinking(ws)
    assert [x['effort'] for x in t.levels] == ['64', '256', '2048'] and [x['wh'] for x in t.levels] == sorted(x['wh'] for x in t.levels)
    assert [(p['without'][-3:], p['thinking'][-3:]) for p in t.prices] == [('-64', '256'), ('256', '048')]
    assert 'no price' not in t.closing() and t.to_json()['levels'][0]['run'].endswith('effort-64')
