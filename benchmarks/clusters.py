"""Intervals and tests where several questions are about one paper: coverage, false alarms, with and without clusters. Prints Markdown.

    python benchmarks/clusters.py [--sets 1000]

Right answers and citations come from latent normal variables with a part per paper (its share of the variance is the latent ICC) and
a part per question. For pairs of equally good runs the part per paper is the run's own: two runs find different papers hard, which is what
inflates the error of tests on differences. Papers have unequal numbers of questions; unanswerable questions have none.
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtri

from wattnb.scoring.scores import contribution_bounds
from wattnb.scoring.statistics import paired_ci, permutation_test, strata_ci

SIZES = ((41, 2, 32), (87, 5, 32), (282, 16, 32)) # questions, unanswerable ones, papers
SKILL = (.55, .80)                                # share of right values
ICC = (0., .1, .2, .3)
CITED = np.array([.5, .9])                        # chance of a right citation where the value is wrong, right


def contributions(rng, n, n_na, paper, icc, p):
    "What each question adds to the composite (answerable ones first), and which values are right."
    latent = lambda: np.sqrt(icc) * rng.normal(size=paper.max() + 1)[paper] + np.sqrt(1 - icc) * rng.normal(size=n - n_na)
    right = latent() < ndtri(p)
    cited = latent() < ndtri(CITED[right.astype(int)])
    refused = rng.random(n_na) < .8
    return np.r_[.75 * right + .15 * cited, .75 + .15 * refused + .1 * n / n_na * refused], np.r_[right, np.ones(n_na, bool)]


def expected(n, n_na, p): return ((n - n_na) * (.75 * p + .15 * (p * CITED[1] + (1 - p) * CITED[0])) + n_na * (.75 + .15 * .8 + .1 * n / n_na * .8)) / n


def study(sets, n, n_na, papers, icc, p, reps=1000, seed=1):
    "Shares of simulated sets: coverage of the composite and of a difference, false alarms of the test on the composite and of McNemar; independent and by paper each."
    rng, out, rare = np.random.default_rng(seed), np.zeros((4, 2)), np.r_[np.zeros(n - n_na, bool), np.ones(n_na, bool)]
    answerable, unanswerable = contribution_bounds(n, n_na)
    for _ in range(sets):
        paper = rng.choice(papers, n - n_na, p=rng.dirichlet(np.full(papers, 2.)))
        units = np.r_[paper, papers + np.arange(n_na)]
        (a, va), (b, vb) = (contributions(rng, n, n_na, paper, icc, p) for _ in range(2))
        d = np.where(np.abs(a - b) < 1e-12, 0, a - b)
        for k, by in enumerate((None, units)):
            ci = strata_ci([((n - n_na) / n, a[~rare], *answerable, by if by is None else by[~rare]), (n_na / n, a[rare], *unanswerable)])
            low, high = paired_ci(np.stack([a, b]), [(0, 1)], rare, *unanswerable, by, reps=reps)[0]
            out[:, k] += [ci[0] <= expected(n, n_na, p) <= ci[1], low <= 0 <= high, permutation_test(d, reps, clusters=by) <= .05,
                          permutation_test(va.astype(float) - vb, reps, clusters=by) <= .05]
    return out / sets


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=1000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('Each cell: questions taken as independent / by paper\n\n| questions | papers | latent ICC | skill | composite covered | difference covered | false alarms, composite | false alarms, McNemar |\n|---|---|---|---|---|---|---|---|')
    for n, n_na, papers in SIZES:
        for icc in ICC:
            for p in SKILL: print(f'| {n} | {papers} | {icc} | {p} | ' + ' | '.join(f'{a:.3f} / {b:.3f}' for a, b in study(sets, n, n_na, papers, icc, p)) + ' |', flush=True)
