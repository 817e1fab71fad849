"""Does `wattnb recommend` claim winners that are not there, and does the interval of the chosen system hold its truth? Prints Markdown.

    python benchmarks/decision.py [--sets 500]

Runs share the difficulty of questions (and with `papers` that of the paper: latent ICC .2); a few questions are unanswerable. In `equal` seven single models and
forty-two cascades that switch between two of them have the same true score; in `votes` twelve models and twelve independent systems; in
`one good model` one of seven is as good as all 42 rivals. `better` has a rival that is truly better by five points, `cheap` has a model at half the energy
that is truly worse by the margin of two points (to name it is an error), `cheap, equal` one that is not worse.
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtri

from wattnb.ensemble.choice import MARGIN, choose_out_of_bag, decide_between
from wattnb.ensemble.systems import System

SIZES = ((41, 2), (87, 5), (282, 16))
CITED = np.array([.5, .9])
SCENARIOS = ('equal', 'equal, papers', 'votes', 'one good model', 'better', 'cheap', 'cheap, equal')


def expected(n, n_na, p): return ((n - n_na) * (.75 * p + .15 * (p * CITED[1] + (1 - p) * CITED[0])) + n_na * (.75 + .15 * .8 + .1 * n / n_na * .8)) / n


def models(rng, n, n_na, skills, paper=None):
    "Contributions of runs with these shares of right values; answerable questions first."
    a, icc = n - n_na, 0. if paper is None else .2
    hard, out = rng.normal(size=a), []
    for p in skills:
        own = np.sqrt(1 - icc) * rng.normal(size=a) + (0. if paper is None else np.sqrt(icc) * rng.normal(size=paper.max() + 1)[paper])
        right = np.sqrt(.5) * (hard + own) < ndtri(p)
        cited, refused = rng.random(a) < CITED[right.astype(int)], rng.random(n_na) < .8
        out.append(np.r_[.75 * right + .15 * cited, .75 + .15 * refused + .1 * n / n_na * refused])
    return np.array(out)


def system(label, kind, x, joules): return System(label, kind, (label,), '', x, x > .5, np.full(len(x), float(joules)), np.full(len(x), np.nan), np.full(len(x), 1.))


def draw(rng, scenario, n, n_na):
    "Families of systems, the true skill of each label, and the paper of each question (or None)."
    paper = rng.choice(32, n - n_na, p=rng.dirichlet(np.full(32, 2.))) if 'papers' in scenario else None
    units, by = None if paper is None else [f'p{k}' for k in paper] + [f'q{k}' for k in range(n_na)], {}
    def family(kind, xs, skills, joules):
        out = [system(f'{kind}{k}', kind, x, j) for k, (x, j) in enumerate(zip(xs, joules))]
        by.update((s.label, p) for s, p in zip(out, skills))
        return out
    # what a difference in the composite is in right values
    worth = (n - n_na) / n * (.75 + .15 * (CITED[1] - CITED[0]))
    if scenario.startswith('cheap'):
        skills = [.75 - (MARGIN / worth + 1e-9 if scenario == 'cheap' else 0), .75]
        x = models(rng, n, n_na, [.75, .75])
        # the cheap one answers as the expensive one does, but for a few questions: the closest contest there is
        swap = np.r_[rng.random(n - n_na) < .05, np.zeros(n_na, bool)]
        x[0] = np.where(swap, x[0], x[1])
        if scenario == 'cheap': x[0, :n - n_na] *= rng.random(n - n_na) >= MARGIN / expected(n, n_na, .75) * n / (n - n_na) * (expected(n, n_na, .75) / x[1, :n - n_na].mean())
        return dict(single=family('single', x, skills, [1800, 3600])), by, units
    skills = [.75] * 12 if scenario == 'votes' else [.75] + [.50 if scenario == 'one good model' else .75] * 6
    x = models(rng, n, n_na, skills, paper)
    if scenario.startswith('equal'): rivals = [np.where(rng.random(n) < .3, x[j], x[i]) for i in range(7) for j in range(7) if i != j]
    else: rivals = models(rng, n, n_na, [.75] * (12 if scenario == 'votes' else 42))
    tall = [.75] * len(rivals)
    if scenario == 'better':
        tall[0] = .75 + .05 / worth
        rivals[0] = models(rng, n, n_na, [tall[0]])[0]
    return dict(single=family('single', x, skills, 3600 * (1 + np.arange(len(x)))), cascade=family('cascade', rivals, tall, 3600 * (2 + np.arange(len(rivals))))), by, units


def study(sets, scenario, n, n_na, seed=1):
    "(share of sets with a 'beats', with a cheaper system named, coverage of the interval of the best of all, its mean width, sd of the estimate)."
    rng, strata, out = np.random.default_rng(seed), np.r_[np.zeros(n - n_na, bool), np.ones(n_na, bool)], []
    for k in range(sets):
        families, skill, papers = draw(rng, scenario, n, n_na)
        d = decide_between(families, strata, papers, repeats=8, seed=k)
        every = choose_out_of_bag([s for v in families.values() for s in v], strata, 8, k, clusters=papers)
        low, high = every.ci
        true = expected(n, n_na, skill[every.best.label])
        named = d.saves and skill[d.choice.label] < .75
        out.append((bool(d.better), d.saves if scenario == 'cheap, equal' else named, low <= true <= high, high - low, every.score - true))
    out = np.array(out, float)
    return *out[:, :4].mean(0), out[:, 4].std()


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=500); args.add_argument('--only', default='')
    args = args.parse_args()
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {args.sets} sets each\n')
    print('| scenario | questions | a rival "beats" | a cheaper one is named | interval of the chosen covers | its width | sd of the estimate |\n|---|---|---|---|---|---|---|')
    for s in SCENARIOS:
        if args.only and args.only != s: continue
        for n, n_na in SIZES:
            b, c, cov, w, sd = study(args.sets, s, n, n_na)
            print(f'| {s} | {n} | {b:.3f} | {c:.3f} | {cov:.3f} | {w:.3f} | {sd:.3f} |', flush=True)
