"""Votes: the recorded ensembles again, the old rules word for word, order and totality; choice out of bag."""
import importlib.util, json, shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from wattnb.ensemble.ensemble_runs import make_ensemble
from wattnb.ensemble.voting import STRATEGIES, Ballot, VoteRule, decide, same_values, vote
from wattnb.core.questions import Question, is_blank
from wattnb.scoring.run_folders import find_run
from wattnb.scoring.answers import Prediction
from wattnb.scoring.scores import score
from wattnb.ensemble.choice import MARGIN, choose_out_of_bag, decide_between
from wattnb.ensemble.recommendation import RULE, leave_one_out, recommend, recommend_from
from wattnb.ensemble.systems import System, cascades, ensembles, on_frontier, pareto, run_matrix, singles
from wattnb.core.workspace import UserError

SHARED = next((p / 'shared/wattbot' for p in Path(__file__).resolve().parents if (p / 'shared/wattbot').is_dir()), None)
needs_shared = pytest.mark.skipif(SHARED is None, reason='recorded runs are not on this machine')
VALUES = ['5', '5.0', '13,900', '13900', 'is_blank', 'IS_BLANK', 'N/A', '', ' ', 'x', '[1,2]', '2-1', '=cmd', 'nan']
REFS = ['["a"]', '["a","b"]', "['c']", 'is_blank', '["is_blank"]', '[]', '', 'a, b', '[1,null]', '{"a":1}']


def ballots(cells): return [Ballot(f'm{i}', v, r) for i, (v, r) in enumerate(cells)]


def old_majority(values, ignore_blank):
    "The recorded ensembles' rule, written down from the description: raw strings, first of the most frequent."
    cast = [v for v in values if v.strip()]
    if ignore_blank: cast = [v for v in cast if not is_blank(v)] or cast
    if ignore_blank: cast = [v for v in cast if v.lower() != 'is_blank'] or cast
    if not cast: return 'is_blank'
    n = Counter(cast)
    return next(v for v in cast if n[v] == max(n.values()))


@given(st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(REFS)), max_size=8), st.booleans())
@settings(max_examples=500)
def test_legacy_majority(cells, ignore):
    d = vote(ballots(cells), VoteRule(ignore_blank=ignore))
    assert d.value == old_majority([v for v, _ in cells], ignore)
    assert vote(ballots(cells), VoteRule('answer_priority', ignore)).refs == d.refs


@given(st.lists(st.tuples(st.sampled_from(VALUES) | st.text(max_size=6), st.sampled_from(REFS) | st.text(max_size=6)), max_size=7), st.sampled_from(STRATEGIES), st.booleans(), st.sampled_from(['first', 'blank', 'random']),
       st.sampled_from(['', 'winners', 'support', 'all', 'intersection', 'vote', 'cell']), st.floats(0, 1))
@settings(max_examples=500)
def test_every_vote_is_total(cells, strategy, ignore, ties, refs, threshold):
    d = vote(ballots(cells), VoteRule(strategy, ignore, threshold, ties, refs), 'q1')
    assert isinstance(d.value, str) and isinstance(d.refs, tuple) and 0 <= d.agreement <= 1 + 1e-12
    assert str(d.refs) == 'is_blank' or isinstance(json.loads(str(d.refs)), list)


@given(st.lists(st.tuples(st.sampled_from(['5', '5.0', '13,900', '13900', 'is_blank', 'x', 'X']), st.sampled_from(['["a"]', '["b"]', '["a","b"]'])), min_size=1, max_size=7), st.randoms(), st.sampled_from(['canonical', 'majority']))
@settings(max_examples=300)
def test_order_does_not_matter_without_a_tie(cells, rnd, strategy):
    d = vote(ballots(cells), VoteRule(strategy))
    if d.tie: return
    mixed = cells[:]; rnd.shuffle(mixed)
    e = vote(ballots(mixed), VoteRule(strategy))
    assert same_values([d.value, e.value])[0] == same_values([d.value, e.value])[1] and d.agreement == pytest.approx(e.agreement) and d.refs == e.refs


def test_a_member_without_the_question_does_not_shift_the_others():
    members = {'a': [Prediction('q1', '1'), Prediction('q2', '2')], 'b': [Prediction('q2', '3')], 'c': [Prediction('q1', '4'), Prediction('q2', '3')]}
    d = decide(members)
    assert d['q2'].winners == ('b', 'c') and d['q1'].winners == ('a',)


def test_weights_and_failed_members():
    b = [Ballot('a', '1', weight=3), Ballot('b', '2'), Ballot('c', '2'), Ballot('d', '9', status='failed'), Ballot('e', '', status='unparsed')]
    assert vote(b, VoteRule('canonical')).value == '1' and vote(b, VoteRule('canonical')).agreement == pytest.approx(.6)
    with pytest.raises(UserError, match='2 weights for 3'): decide({k: [Prediction('q', '1')] for k in 'abc'}, rule=VoteRule(weights=(1., 2.)))


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    if SHARED is None: pytest.skip('recorded runs are not on this machine')
    ws = tmp_path_factory.mktemp('ws')
    shutil.copytree(SHARED / 'data', ws / 'data'); shutil.copytree(SHARED / 'recorded', ws / 'artifacts/experiments')
    for p in ws.rglob('*'): p.chmod(0o755 if p.is_dir() else 0o644)
    return ws


def test_recorded_ensemble_comes_out_again(recorded):
    old = find_run(recorded, 'ensemble-top3-majority')
    new = make_ensemble(recorded, old.summary['models'], 'again', ignore_blank=True, env='PowerEdge', datafile='train_QA')
    rows = {r['id']: r for r in find_run(recorded, 'again').submission}
    for r in old.submission: assert (r['answer_value'], r['ref_id']) == (rows[r['id']]['answer_value'], rows[r['id']]['ref_id']), r['id']
    for k in ('value_accuracy', 'ref_overlap', 'na_accuracy', 'overall_score', 'questions_correct'): assert new.summary[k] == pytest.approx(old.summary[k], abs=1e-12)
    shutil.rmtree(new.run_dir)


def test_recommendation_on_recorded_runs(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv('WATTNB_CACHE', str(tmp_path))
    r = recommend(recorded, datafile='train_QA')
    assert r.choice.kind == 'single' and 'does not beat' in r.statement and len(r.top) == 3
    assert r.families['ensemble'].in_sample > r.families['ensemble'].score # the optimism of choosing in-sample


def simulated(n=120, runs=6, seed=0, spread=.04):
    rng = np.random.default_rng(seed)
    qs = [Question(f'q{i}', '?', answer_value='is_blank' if i % 12 == 0 else str(i + 1), ref_id='is_blank' if i % 12 == 0 else "['p']") for i in range(n)]
    hard = rng.random(n)
    preds = {}
    for k in range(runs):
        ok = hard + rng.normal(0, .3, n) < .5 + spread * k
        preds[f'run{k}'] = [Prediction(q.id, *(('is_blank', '["is_blank"]') if q.is_na or (not o and rng.random() < .5) else (q.answer_value, '["p"]') if o else ('-1', '["x"]'))) for q, o in zip(qs, ok)]
    return run_matrix(qs, preds, joules={f'run{k}': 500. * (k + 1) for k in range(runs)}, seconds={f'run{k}': 1. + k for k in range(runs)})


@pytest.mark.parametrize('costs', [None, dict(a=1., b=3., c=2.)])
def test_one_vote_has_one_score_everywhere(costs):
    "Of tied answers that of the earliest member counts, in an order that neither files nor scores decide: the most expensive first, else by name. Candidates, leave-one-out and `wattnb ensemble` in the printed order agree."
    qs = [Question(f'q{i}', '?', answer_value=str(i + 1), ref_id="['p']") for i in range(30)]
    said = {m: [Prediction(q.id, q.answer_value if i % 3 == k else f'-{k + 1}', '["p"]') for i, q in enumerate(qs)] for k, m in enumerate('abc')} # never two alike
    said['b'] = [Prediction(q.id, q.answer_value if i % 2 else '-2', '["p"]') for i, q in enumerate(qs)] # the best by itself
    found = set()
    for order in ('abc', 'cab', 'bca'): # as the files might come
        p = run_matrix(qs, {m: said[m] for m in order}, joules=costs)
        [vote_] = [s for s in ensembles(p, sizes=(3,)) if s.how == 'majority']
        assert vote_.members == (('b', 'c', 'a') if costs else ('a', 'b', 'c'))
        again = score(qs, [Prediction(i, d.value, d.refs) for i, d in decide({m: said[m] for m in vote_.members}).items()]).overall
        found |= {round(x, 12) for x in (vote_.x.mean(), leave_one_out(p)[0]['overall'], again)}
    assert len(found) == 1
    assert 'the most expensive first' in recommend_from(p, repeats=1).members_table.to_text()


def test_systems_are_what_they_say():
    p = simulated()
    for s in singles(p): assert s.x.mean() == pytest.approx(score(p.questions, p.predictions[p.labels.index(s.label)]).overall)
    for s in ensembles(p, sizes=(3,))[:10]: assert s.joules.mean() == pytest.approx(sum(p.joules[p.labels.index(m)].mean() for m in s.members))
    for s in cascades(p, three=False)[:10]:
        small, big = (p.labels.index(m) for m in s.members)
        chain = [b if a.status != 'answered' else a for a, b in zip(p.predictions[small], p.predictions[big])]
        assert s.x.mean() == pytest.approx(score(p.questions, chain).overall)
        assert s.joules.mean() == pytest.approx(p.joules[small].mean() + s.call_rate[1] * p.joules[big].mean())


def test_a_choice_out_of_bag_is_not_optimistic():
    "Over simulated sets with equally good runs, the in-sample winner looks better than it is; the out-of-bag score does not."
    gaps = []
    for seed in range(12):
        p = simulated(n=96, runs=8, seed=seed, spread=0.)
        h = choose_out_of_bag(singles(p), p.strata, repeats=5)
        truth = np.mean([s.x.mean() for s in singles(p)]) # all are equally good: the mean is the truth for any of them, up to noise
        gaps.append((h.in_sample - truth, h.score - truth))
    biased, out_of_bag = np.mean(gaps, 0)
    assert biased > .015 and abs(out_of_bag) < biased / 2, (biased, out_of_bag)


def benchmark(name):
    spec = importlib.util.spec_from_file_location(f'{name}_benchmark', Path(__file__).resolve().parents[1] / f'benchmarks/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('n, n_na', [(41, 2), (282, 16)])
def test_no_winner_among_equals(n, n_na):
    "Seven models and forty-two cascades of equal truth: 'beats' in at most 5 % of studies, and the interval of the chosen system covers (benchmarks/decision.py runs 500 sets)."
    beats, _, covers, width, sd = benchmark('decision').study(100, 'equal', n, n_na)
    assert beats <= .04 and covers >= .88 and width > 3.2 * sd


def plain(label, kind, x, joules): return System(label, kind, (label,), '', np.asarray(x, float), np.asarray(x) > .5, np.full(len(x), float(joules)), np.full(len(x), np.nan), np.full(len(x), 1.))


def test_a_winner_that_is_there_is_found():
    "A cascade that is right on twelve more questions in a hundred beats the best model; the difference, its interval and p agree."
    rng = np.random.default_rng(0)
    base = rng.random(300) < .7
    x = {k: np.where(rng.random(300) < .03, rng.random(300) < .7, base) for k in 'abc'}
    win = np.where(rng.random(300) < .4, 1., x['a'])
    d = decide_between(dict(single=[plain(k, 'single', v, 3600) for k, v in x.items()], cascade=[plain('w', 'cascade', win, 7200)]), [False] * 300)
    got = d.differences[0]
    assert d.choice.label == 'w' and d.better == ('cascade',) and got['beats'] and 0 < got['ci_low'] < got['diff'] < got['ci_high'] and got['p'] <= .05 and got['mde'] > 0
    assert d.families['cascade'].score == pytest.approx(win.mean(), abs=.02)


def test_the_cheapest_that_is_not_worse_is_named():
    "Equal on all but a few questions at half the energy: named. Three points worse: not named, and the bound is stated. Under a budget the best is named."
    rng = np.random.default_rng(1)
    right = rng.random(400) < .75
    near = right.copy(); near[np.flatnonzero(right)[:2]] = False
    far = right & (rng.random(400) > .04)
    for cheap, named in ((near, True), (far, False)):
        d = decide_between(dict(single=[plain('cheap', 'single', cheap, 1800), plain('expensive', 'single', right, 3600)]), [False] * 400)
        assert d.saves == named and d.choice.label == ('cheap' if named else 'expensive')
    wide = decide_between(dict(single=[plain('cheap', 'single', far, 1800), plain('expensive', 'single', right, 3600)]), [False] * 400, margin=.1)
    assert wide.saves
    d = decide_between(dict(single=[plain('cheap', 'single', near, 1800), plain('expensive', 'single', right, 3600)]), [False] * 400, limits=[(lambda s: s.joules, 4000)])
    assert not d.saves and d.choice is max(d.families['single'].best, d.families['single'].best, key=lambda s: s.x.mean())


def test_a_model_of_unknown_energy_is_never_the_cheaper_one():
    "Energy that is missing, or only a lower bound, is no reason to take a system, and none to drop it."
    x = np.random.default_rng(2).random(200) < .8
    d = decide_between(dict(single=[plain('unknown', 'single', x, np.nan), plain('known', 'single', x, 3600)]), [False] * 200)
    assert d.choice.label == 'known' and all(s.label == 'known' for s in [d.families['frugal'].best])
    better = np.ones(200)
    d = decide_between(dict(single=[plain('unknown', 'single', better, np.nan), plain('known', 'single', x, 3600)]), [False] * 200)
    assert d.choice.label == 'unknown' and not d.saves


def test_candidates_do_not_know_the_truth():
    "The order of members and of calls does not depend on the scores, so that nothing is chosen outside the resamples."
    p = simulated()
    spoiled = run_matrix([Question(q.id, q.question, answer_value='is_blank' if q.is_na else '-99', ref_id=q.ref_id) for q in p.questions], dict(zip(p.labels, p.predictions)),
                       joules=dict(zip(p.labels, p.joules)), seconds=dict(zip(p.labels, p.seconds)))
    for make in (ensembles, cascades): assert [(s.label, s.members, s.call_rate) for s in make(p)] == [(s.label, s.members, s.call_rate) for s in make(spoiled)]
    blind = run_matrix(p.questions, dict(zip(p.labels, p.predictions)))
    assert len(cascades(blind, three=False)) == 30 # without a cost every order


def test_choice_without_variance_claims_no_power():
    "Systems that never differ: no detectable gain is stated, no interval of width zero is printed."
    qs = [Question(f'q{i}', '?', answer_value=str(i), ref_id="['p']") for i in range(20)]
    p = run_matrix(qs, {k: [Prediction(q.id, q.answer_value, '["p"]') for q in qs] for k in 'abc'}, joules=dict(a=1, b=2, c=3))
    r = recommend_from(p, repeats=3)
    assert 'No detectable gain' in r.statement and '0.0 points' not in r.statement and '[+0.000, +0.000]' not in r.statement
    assert all(d['mde'] is None and d['ci_low'] is None and not d['beats'] for d in r.differences)
    assert json.loads(json.dumps(r.to_json()['differences']))


def test_recommendation_states_its_rule_and_the_models_that_do_not_differ():
    p = simulated(runs=4, spread=.0)
    r = recommend_from(p, repeats=5)
    assert RULE in r.statement and f'{MARGIN * 100:g} points' in r.statement and 'not significantly different from' in r.statement
    j = r.to_json()
    assert j['rule'] == RULE and j['margin'] == MARGIN and set(j['not_significantly_different']) <= set(p.labels)
    assert 'simultaneous' in r.table.to_text() and 'out-of-bag' in r.table.to_text()
    budget = recommend_from(p, max_wh=600 / 3600, repeats=5)
    assert 'at most 0.166667 Wh per question' in budget.statement and 'keeps to the budget in 100%' in budget.statement
    with pytest.raises(UserError, match='no run keeps to 0.01 Wh'): recommend_from(p, max_wh=.01)


def test_questions_about_one_paper_widen_a_choice():
    "Whole papers are drawn: with questions that fail together, the interval of the choice is wider than for independent ones."
    rng = np.random.default_rng(3)
    papers = np.repeat(np.arange(20), 10)
    x = [(rng.random(20) < .6)[papers] for _ in range(4)]
    s = [plain(f's{k}', 'single', v, 1) for k, v in enumerate(x)]
    (a, b), (c, d) = choose_out_of_bag(s, [False] * 200, clusters=papers).ci, choose_out_of_bag(s, [False] * 200).ci
    assert b - a > 1.8 * (d - c)


def test_budget_and_frontier():
    p = simulated()
    r = recommend_from(p, max_wh=600 / 3600, repeats=3)
    assert r.choice.members == ('run0',)
    front = pareto(singles(p), p.strata, reps=500)
    assert front.rows[0]['p_frontier'] == 1 and all(0 <= x['p_frontier'] <= 1 and x['cost_per_correct_ci'][0] <= x['cost_per_correct'] <= x['cost_per_correct_ci'][1] for x in front.rows)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
@settings(max_examples=200)
def test_frontier_is_what_is_undominated(points):
    g, c = np.array([p[0] for p in points], float), np.array([p[1] for p in points], float)
    want = [not any(g[j] >= g[i] and c[j] <= c[i] and (g[j] > g[i] or c[j] < c[i]) for j in range(len(g))) for i in range(len(g))]
    assert on_frontier(g, c)[0].tolist() == want


def test_a_model_has_one_interval():
    "The frontier, the table of models and the run's own score give one and the same interval, by paper where papers are shared."
    p = simulated()
    for s, x in zip(p.scores, singles(p)):
        [row] = [r for r in pareto(singles(p), p.strata, reps=200, clusters=p.papers()).rows if r['label'] == x.label]
        assert row['overall_ci'] == pytest.approx(s.ci['overall'], abs=1e-12)


def test_a_budget_names_no_model_above_it():
    p = simulated(runs=4, spread=0.)
    r = recommend_from(p, max_wh=1000 / 3600, repeats=4)
    assert set(r.decision.tied) <= {'run0', 'run1'} and all(h.best.joules.mean() <= 1000 for h in r.families.values())


def test_recommend_by_paper_or_not():
    "`clusters='none'` takes questions as independent in every number of the recommendation, also in the table of models; the default states ICC and design effect."
    n = 90
    qs = [Question(f'q{i}', '?', answer_value=str(i + 2), ref_id=f"['p{i % 15}']") for i in range(n)]
    rng = np.random.default_rng(0)
    good = {k: rng.random(15) < .6 for k in 'abc'}
    p = run_matrix(qs, {k: [Prediction(q.id, q.answer_value if g[i % 15] else '-1', q.ref_id) for i, q in enumerate(qs)] for k, g in good.items()}, joules=dict(a=1, b=2, c=3))
    by, none = (recommend_from(p, repeats=4, clusters=c) for c in ('auto', 'none'))
    width = lambda r: r.families['single'].ci[1] - r.families['single'].ci[0]
    assert width(by) > 1.5 * width(none) and 'design effect' in by.top.to_text() and 'By paper' in by.top.to_text() and 'By paper' not in none.top.to_text()
    assert by.runs.papers('auto') is not None and none.runs.scores[0].papers is None
