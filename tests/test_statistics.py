"""Intervals and tests against scipy and statsmodels, their properties, and short simulations (long ones: benchmarks/intervals.py)."""
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from wattnb.statistics import (bootstrap_ci, clopper_pearson, holm, letters, mcnemar_exact, mde, mde_mean, mean_ci, permutation_test, ratio_ci, resamples, strata_ci, wilson)

spec = importlib.util.spec_from_file_location('intervals_benchmark', Path(__file__).resolve().parents[1] / 'benchmarks/intervals.py')
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=150, deadline=None)
def test_shares_match_statsmodels(kn):
    k, n = kn
    for mine, method in ((wilson, 'wilson'), (clopper_pearson, 'beta')):
        lo, hi = mine(k, n)
        assert (lo, hi) == pytest.approx(proportion_confint(k, n, method=method), abs=1e-9) and 0 <= lo <= k / n <= hi <= 1


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_mcnemar_matches_statsmodels(b, c):
    assert mcnemar_exact(b, c) == pytest.approx(sm_mcnemar([[3, b], [c, 3]], exact=True).pvalue if b + c else 1, abs=1e-12)


@pytest.mark.parametrize('ps', [[.04], [.01, .04, .03], [.5, .5, .001, .001, 1, 0], np.random.default_rng(3).beta(.4, 2, 40).tolist()])
def test_holm_matches_statsmodels(ps): # a few: it collects garbage at every call, half a second each late in a session
    assert holm(ps) == pytest.approx(multipletests(ps, method='holm')[1], abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_holm_is_its_definition(ps):
    m, adjusted = len(ps), holm(ps)
    for p, a in zip(ps, adjusted): assert p <= a <= 1 and a == min(1, max((m - sum(r < q for r in ps)) * q for q in ps if q <= p))


@given(st.lists(st.sampled_from([-1, -.75, -.15, -.05, 0, 0, .05, .15, .75, .9]), min_size=1, max_size=60), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_permutation_p_is_a_probability_and_symmetric(d, seed):
    p = permutation_test(d, reps=500, seed=seed)
    assert 0 < p <= 1 and p == permutation_test([-x for x in d], reps=500, seed=seed)
    assert permutation_test([*d, 0, 0], reps=500, seed=seed) == p or len([x for x in d if x]) > 13 # ties add nothing


@given(st.lists(st.sampled_from([-1., 1., 0.]), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_with_equal_sizes_permutation_is_mcnemar(d):
    b, c = d.count(1.), d.count(-1.)
    tolerance = 1e-9 if b + c <= 13 else 4 * math.sqrt(.25 / 10_000)
    assert permutation_test(d) == pytest.approx(mcnemar_exact(b, c), abs=tolerance)


def test_bootstrap_matches_scipy():
    x = np.random.default_rng(1).choice([0, .15, .9], 282, p=[.2, .1, .7])
    for method in ('percentile', 'bca'):
        ref = stats.bootstrap((x,), np.mean, method=method, n_resamples=20_000, rng=2).confidence_interval
        assert bootstrap_ci(x, method=method) == pytest.approx(tuple(ref), abs=3e-3)


def test_strata_keep_their_size():
    w = resamples(41, [0] * 39 + [1] * 2, reps=200)
    assert np.allclose(w[:, :39].sum(1), 39 / 41) and np.allclose(w[:, 39:].sum(1), 2 / 41)
    c = resamples(40, clusters=np.repeat(np.arange(8), 5), reps=200)
    assert all(len(set(row[:5])) == 1 for row in c) and np.allclose(c.sum(1), 1)


@given(st.integers(2, 9), st.data())
@settings(max_examples=150, deadline=None)
def test_letters_say_exactly_what_differs(k, data):
    names = [f'r{i}' for i in range(k)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1:]]
    different = data.draw(st.lists(st.sampled_from(pairs), unique=True))
    l = letters(names, different)
    for a, b in pairs: assert bool(set(l[a]) & set(l[b])) == ((a, b) not in different), (l, a, b)


def test_mde_is_the_difference_that_is_found():
    "Simulated power of McNemar's test at the stated difference is 80 %, give or take its conservatism."
    rng = np.random.default_rng(0)
    for n, psi in ((282, .2), (282, .1), (120, .3)):
        d = mde(n, psi)
        b = rng.multinomial(n, [(psi + d) / 2, (psi - d) / 2, 1 - psi], size=2000)
        power = np.mean([stats.binomtest(int(x), int(x + y)).pvalue <= .05 if x + y else False for x, y, _ in b])
        assert .70 < power < .86, (n, psi, d, power)
    assert mde(282, .1) == pytest.approx(.053, abs=1e-3) and mde_mean(.3, 282) == pytest.approx(2.8016 * .3 / math.sqrt(282), abs=1e-4)


def test_ratio():
    rng = np.random.default_rng(0)
    base = rng.lognormal(0, .5, 282)
    est, lo, hi = ratio_ci(base * 1.5 * rng.lognormal(0, .1, 282), base)
    assert lo < 1.5 < hi and hi - lo < .1 and ratio_ci([1, 2], [0, 0]) is None and ratio_ci([], []) is None


def test_short_simulation_of_coverage():
    "400 sets per cell; the benchmark runs 2,000 and holds 93 to 97 %."
    for n, model, name, cov, _ in bench.coverage(400, reps=1000, models=((.80, .85), (.55, .50))):
        if name == 'na': continue # a share of 2 or 16 has few possible outcomes: `test_wilson_covers` has its exact coverage
        assert .895 <= cov <= .985, (n, model, name, cov) # the noise of 400 sets is .011


def test_wilson_covers():
    "Exact coverage, averaged over the true share: what can be asked of an interval for 16 questions."
    for n in (16, 41, 282):
        p, k = np.linspace(.02, .98, 97), np.arange(n + 1)
        inside = np.array([[lo <= x <= hi for lo, hi in (wilson(int(j), n) for j in k)] for x in p])
        assert .945 < (stats.binom.pmf(k, n, p[:, None]) * inside).sum(1).mean() < .96


def test_short_simulation_of_false_alarms():
    assert max(bench.family_wise(150, reps=1000)) <= .08
    assert max(bench.family_wise(150, 41, 2, reps=1000)) <= .08


def test_intervals_do_not_break_on_tiny_sets():
    assert wilson(0, 0) is None and mean_ci([]) is None and bootstrap_ci([]) is None
    assert mean_ci([1.])[1] == 1 and mean_ci([.5, .5])[0] < .5 < mean_ci([.5, .5])[1]
    lo, hi = strata_ci([(.5, [1.], 0, 1), (.5, [], 0, 1)])
    assert lo < .5 <= hi
    for m in ('percentile', 'expanded', 'bca'):
        for x in ([1.], [0., 1.], [0., 0., 1.]):
            lo, hi = bootstrap_ci(x, method=m, reps=200)
            assert lo <= np.mean(x) <= hi
