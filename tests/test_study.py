"""Plans, margins, seeds, ranks, calibration, tests of metrics and early stopping: properties and short simulations (long ones: benchmarks/margins.py, sample_size.py, seeds.py, sequential.py, ranks.py, metrics.py)."""
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from test_compare import simulated
from test_statistics import benchmark
from wattnb.compare.paired import compare_scores, margin_sentence
from wattnb.compare.study_design import design_study
from wattnb.core.workspace import UserError, jsonable
from wattnb.scoring.equivalence import constrained_variance, margin_test
from wattnb.scoring.ranks import dominance, rank_distribution
from wattnb.scoring.sample_size import predicted_total, questions_for_accuracy
from wattnb.scoring.seeds import seed_variance, widened
from wattnb.scoring.sequential import asking_order, look_levels, look_points, sequential_verdict
from wattnb.scoring.statistics import holm, mcnemar_power

credits = st.sampled_from([0., .15, .75, .9])


# ---- not worse ----------------------------------------------------------------------------------------------------

@given(st.lists(st.tuples(credits, credits, st.integers(0, 5)), min_size=2, max_size=60), st.floats(.005, .5), st.booleans())
@settings(max_examples=80)
def test_margin_test_is_coherent(rows, margin, papers):
    "The interval decides as the tests do, turning the runs round turns the result round, and a p value is one."
    a, b, c = (np.array(v) for v in zip(*rows))
    by = c if papers else None
    t, back = (margin_test(np.stack(x), margin, bounds=((0, .9), (0, 1)), clusters=by) for x in ((a, b), (b, a)))
    assert 0 < t.p_not_worse <= 1 and t.low - 1e-9 <= t.diff <= t.high + 1e-9
    assert (t.low, t.p_not_worse) == pytest.approx((-back.high, back.p_not_better), abs=1e-6)
    if abs(t.low + margin) > 1e-6: assert (t.low > -margin) == (t.p_not_worse < .05), (t, by)
    assert margin_test(np.stack([a, b]), min(.89, 2 * margin), bounds=((0, .9), (0, 1)), clusters=by).p_not_worse <= t.p_not_worse + 1e-9


@given(st.lists(st.sampled_from([-.9, -.75, -.15, 0., 0., 0., .15, .9]), min_size=1, max_size=40), st.floats(.001, .6))
@settings(max_examples=100)
def test_the_variance_under_the_null_hypothesis(d, down):
    "It is that of a distribution with the null's mean on values between the largest loss and the largest gain."
    v, c = np.unique(d, return_counts=True)
    mean = float(np.mean(d)) - down
    if mean <= -.9: return
    var = constrained_variance(v, c, mean, .9)
    assert -1e-9 <= var <= (v[-1] - mean) * (mean + .9) + 1e-9 # Bhatia and Davis


def test_margin_keeps_its_error_where_few_questions_differ():
    "A true loss of exactly the margin; the bootstrap claims 'not worse' in one set of eight and more."
    b = benchmark('margins')
    for n, n_na, psi in ((41, 2, .03), (87, 5, .06)):
        error, power = b.study(120, n, n_na, psi, .02)
        assert error[0] <= .05 and power[0] >= error[0]
    assert b.study(60, 41, 2, .03, .02)[0, 1] > .1
    error, _ = b.study(120, 282, 16, .2, .05, others=False)
    assert error[0] <= .11 # the noise of 120 sets is .02


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=80)
def test_restricted_holm_is_between_raw_and_holm(ps):
    for most in (1, len(ps)):
        for raw, some, full in zip(ps, holm(ps, most), holm(ps)): assert raw <= some <= full + 1e-12


def test_compare_with_a_margin():
    es = simulated(3, n=150, gap=.02)
    c = compare_scores(es, margin=.1)
    data = json.loads(json.dumps(jsonable(c.to_json())))
    for p, m, s in zip(data['pairs'], c.margins, data['statements']):
        assert p['margin']['sentence'] == s == margin_sentence(p, m) and p['margin']['low90'] <= p['diff'] <= p['margin']['high90']
        assert p['margin']['verdict'] in ('equivalent', 'a is not worse', 'b is not worse', 'not known')
    assert 'Not worse by 10 points' in c.to_text() and 'energy' not in data['statements'][0]
    assert compare_scores(es).to_json()['pairs'][0]['margin'] is None
    pair = dict(c.pairs[0], p_holm=1., cost=dict(energy=(.6, .55, .66)))
    sure = type(c.margins[0])(c.margins[0].test, .01, .9, .9)
    assert margin_sentence(pair, sure).endswith('at 0.6 times the energy [0.55, 0.66].') and 'is not worse than' in margin_sentence(pair, sure)
    other = type(c.margins[0])(c.margins[0].test, .9, .01, .9)
    assert margin_sentence(pair, other).startswith(pair['b']) and 'at 1.7 times the energy [1.5, 1.8].' in margin_sentence(pair, other)
    with pytest.raises(UserError, match='between 0 and 100 points'): compare_scores(es, margin=2)


# ---- plans --------------------------------------------------------------------------------------------------------

@given(st.floats(.03, .3), st.floats(.03, .6), st.sampled_from([.05, .05 / 6, .05 / 45]))
@settings(max_examples=40)
def test_the_number_of_questions_has_the_power(diff, discordant, alpha):
    n = questions_for_accuracy(diff, discordant, alpha=alpha)
    if n is None: assert diff > discordant
    else: assert mcnemar_power(n, discordant, diff, alpha) >= .797 and (n < 4 or mcnemar_power(n // 2, discordant, diff, alpha) < .8)


def test_planned_power_is_found():
    "At the level of Holm's first step too, with and without papers."
    b = benchmark('sample_size')
    for alpha in (.05, .05 / 21):
        assert .76 < b.accuracy(4000, .05, .2, alpha)[1] < .83
        assert .74 < b.mean(400, .1, .3, alpha, reps=2000)[1] < .86
    assert .74 < b.mean(400, .05, .2, .05, papers=True)[1] < .88 and .76 < b.margin(2000, .05, .1, .05)[1] < .86


def test_a_plan_grows_with_what_is_asked():
    one, six = (design_study(disagree=.2, entries=k) for k in (2, 4))
    assert [x['questions'] for x in one.needed] < [x['questions'] for x in six.needed] and six.needed[0]['comparisons'] == 6
    assert design_study(disagree=.2, entries=4, reference=True).needed[0]['comparisons'] == 3
    assert design_study(disagree=.2, icc=.2, per_paper=9).needed[0]['questions'] > 2.5 * one.needed[0]['questions']
    small = design_study(disagree=.03)
    assert small.needed[0]['questions'] is None and 'no such difference' in ' '.join(small.notes)
    for bad, why in ((dict(), 'not known'), (dict(disagree=.2, power=1.2), 'between 0 and 100'), (dict(disagree=.2, entries=1), 'two entries'), (dict(disagree=2.), 'at most 100 percent')):
        with pytest.raises(UserError, match=why): design_study(**bad)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=40), st.integers(1, 500), st.floats(0, 1e4))
@settings(max_examples=80)
def test_expected_cost_holds_its_mean(x, n, once):
    total, low, high = predicted_total(x, n, once)
    assert total == pytest.approx(once + n * np.mean(x))
    if low is not None: assert once * (1 - 1e-9) <= low <= total * (1 + 1e-9) and high >= total * (1 - 1e-9)


# ---- seeds, ranks, calibration, metrics ---------------------------------------------------------------------------

def test_pooled_seeds_cover():
    "Questions and seeds drawn anew: the pooled interval covers, one over questions alone does not."
    b = benchmark('seeds')
    pooled, alone, alarms, plain = b.study(400, 3, 282, .1, reps=300)
    assert pooled > .92 and alone < .93 and alarms < .08 and plain > .12
    assert b.study(300, 3, 41, 0., reps=300)[0] > .92


@given(st.integers(2, 5), st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=60)
def test_variance_components(s, n, seed):
    x = np.random.default_rng(seed).choice([0., .15, .9], (s, n))
    v = seed_variance(x)
    assert min(v.question, v.seed, v.rest) >= 0 and v.mean == pytest.approx(x.mean())
    lo, hi = widened(v.mean, (v.mean - .1, v.mean + .1), [v])
    assert lo <= v.mean - .1 + 1e-12 and hi >= v.mean + .1 - 1e-12


@given(st.integers(2, 5), st.integers(6, 30), st.integers(0, 99))
@settings(max_examples=40)
def test_ranks_add_up(k, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.choice([0., .75, .9], (k, n))
    r = rank_distribution(x, rng.random(n) < .2, reps=200)
    assert sum(v.p_best for v in r) == pytest.approx(1) and sum(v.mean for v in r) == pytest.approx(k * (k + 1) / 2)
    assert all(1 <= v.low <= v.high <= k for v in r)
    a, b = dominance(x[:2], rng.random((2, n)) + .1, reps=200)
    assert 0 <= a + b <= 1


def test_stated_chances_come_true():
    "P(best) and P(dominates) of runs with random skills: what is stated in the middle and at the upper end comes true as often; ranks hold the true one."
    best, inside, better = benchmark('ranks').study(150, 120, .2, reps=300)
    for pairs in (best[:, :2], better):
        for part in (pairs[(pairs[:, 0] > .2) & (pairs[:, 0] < .8)], pairs[pairs[:, 0] > .8]):
            p, true = part.mean(0)
            assert abs(true - p) < 3 * (max(.05, p * (1 - p)) / len(part)) ** .5
    assert inside > .93
    near, inside, _ = benchmark('ranks').study(60, 41, .05, reps=300, runs=11) # eleven near twins: less is stated of the best of them
    stated, _, bare = near.reshape(60, 11, 3).max(1).mean(0)
    assert stated < .8 * bare and inside > .93 and ((near[:, 0] - near[:, 1]) ** 2).sum() < ((near[:, 2] - near[:, 1]) ** 2).sum()


def test_calibration_error_covers():
    "Intervals of the ECE and of the Brier score, and the p value of calibrated confidences; half of the confidences are tied."
    b = benchmark('metrics')
    for off in (0., .15):
        ece, brier, rejected, _ = b.calibration(150, 120, off)
        assert ece > .9 and brier > .9 and (rejected > .8 if off else rejected < .11)
    assert b.calibration(150, 282, 0., papers=True)[2] < .11


def test_metrics_are_corrected_together():
    "Any false alarm of four metrics over six pairs, where nothing differs and where one metric does: at most 5 %, and without the correction many."
    corrected, alone, _ = benchmark('metrics').family(60, 90)
    assert corrected <= .1 and alone > .2
    corrected, _, found = benchmark('metrics').family(25, 200, papers=True, better=1.)
    assert corrected <= .125 and found > .8


# ---- stopping early -----------------------------------------------------------------------------------------------

def test_a_verdict_that_stops_early_keeps_its_error():
    "Ten looks at runs that are equally good; p values looked at each time do not."
    b = benchmark('sequential')
    wrong, right, asked, full, peek, *_ = b.study(80, .3, 0.)
    assert wrong <= .12 and peek > .05 # the noise of 80 sets is .024
    wrong, right, asked, full, *_ = b.study(25, .3, .2, papers=True)
    assert wrong == 0 and right > .95 and asked < .65
    wrong, *_ = b.study(50, .3, 0., papers=True)
    assert wrong <= .14


@given(st.integers(1, 12), st.floats(.005, .2))
@settings(max_examples=25)
def test_levels_of_looks(k, alpha):
    "Each look has less than the whole error, the last more than any before, and one look has all of it."
    levels = look_levels(tuple((i + 1) / k for i in range(k)), alpha)
    assert all(0 < a <= alpha + 1e-6 for a in levels) and levels[-1] == max(levels)
    assert levels[-1] >= .45 * alpha and (k > 1 or levels[0] == pytest.approx(alpha, rel=1e-3))


@given(st.lists(st.sampled_from('abcdefg'), min_size=1, max_size=50), st.integers(0, 9))
@settings(max_examples=80)
def test_papers_stay_together_and_looks_fall_between_them(papers, seed):
    order = asking_order(range(len(papers)), papers, seed)
    named = [papers[i] for i in order]
    assert sorted(order) == list(range(len(papers))) and len([1 for a, b in zip(named, named[1:]) if a != b]) == len(set(papers)) - 1
    looks = look_points(named)
    assert looks[-1] == len(papers) and all(k == len(papers) or named[k] != named[k - 1] for k in looks)


@given(st.integers(0, 40), st.integers(10, 80))
@settings(max_examples=30)
def test_a_verdict_depends_on_the_questions_up_to_it_alone(seed, n):
    x = .9 * (np.random.default_rng(seed).random((2, n)) < [[.9], [.4]])
    looks = look_points(range(n))
    v = sequential_verdict(x, looks)
    if not v.word: return
    later = x.copy()
    later[:, v.asked:] = later[::-1, v.asked:]
    assert sequential_verdict(later, looks) == v and sequential_verdict(x[::-1], looks).word == dict(better='worse', worse='better')[v.word]
