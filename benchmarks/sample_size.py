"""Do the numbers of questions that `wattnb design` asks for have the power it states? Prints Markdown.

    python benchmarks/sample_size.py [--sets 4000]

Right and wrong answers of two runs are drawn at the stated rates for as many questions as `questions_for_accuracy` asks for, and tested by McNemar's exact test; differences of the
composite (a whole question or a citation) at `questions_for_mean` by the permutation test, once by paper (nine questions each, latent ICC .2); two equally good runs at `questions_for_margin` by `margin_test`. At 5 % and at the first
step of Holm over 21 pairs. The stated power is 80 %.
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtri

from wattnb.scoring.equivalence import margin_test
from wattnb.scoring.sample_size import questions_for_accuracy, questions_for_margin, questions_for_mean, three_valued
from wattnb.scoring.statistics import mcnemar_exact, permutation_test


def accuracy(sets, diff, psi, alpha, seed=1):
    "(questions, power in simulation)."
    n = questions_for_accuracy(diff, psi, alpha=alpha)
    x, y, _ = np.random.default_rng(seed).multinomial(n, [(psi + diff) / 2, (psi - diff) / 2, 1 - psi], size=sets).T
    p = {k: mcnemar_exact(*k) for k in set(zip(x.tolist(), y.tolist()))}
    return n, np.mean([p[k] <= alpha for k in zip(x.tolist(), y.tolist())])


def mean(sets, diff, psi, alpha, papers=False, seed=1, reps=2000):
    "(questions, power in simulation) of sign flips, by paper with nine questions each."
    rng, p, icc = np.random.default_rng(seed), three_valued(psi, .9, diff)[1], .2 if papers else 0.
    def sample(sets, n):
        paper = np.arange(n) // 9
        latent = np.sqrt(icc) * rng.normal(size=(sets, paper[-1] + 1))[:, paper] + np.sqrt(1 - icc) * rng.normal(size=(sets, n))
        cited = rng.integers(-1, 2, (sets, n)) * (rng.random((sets, n)) < .3) # a tenth each way
        return np.where(latent > ndtri(1 - p[2]), .9, np.where(latent < ndtri(p[0]), -.9, .15 * cited))
    pilot = sample(2000, 90)
    sd = float(pilot.std())
    effect = 90 * float(pilot.mean(1).var()) / sd ** 2 if papers else 1.
    n = questions_for_mean(diff, sd, alpha=alpha, effect=effect, per_paper=9 if papers else 1)
    d = sample(sets, n)
    return n, np.mean(permutation_test(d.T, reps, clusters=np.arange(n) // 9 if papers else None) <= alpha)


def margin(sets, delta, psi, alpha, seed=1):
    "(questions, power in simulation) of the claim that one of two equally good runs is not worse."
    n, (v, p) = questions_for_margin(delta, *three_valued(psi), alpha=alpha), three_valued(psi)
    counts, found = np.random.default_rng(seed).multinomial(n, p, size=sets), {}
    for c in {tuple(c) for c in counts.tolist()}:
        d = np.repeat(v, c)
        found[c] = margin_test(np.stack([np.maximum(d, 0), np.maximum(-d, 0)]), delta, bounds=((0, .9), (0, 1))).p_not_worse <= alpha
    return n, np.mean([found[tuple(c)] for c in counts.tolist()])


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=4000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('| level | points | discordant | accuracy: questions | found | composite: questions | found | by paper: questions | found | not worse: questions | found |\n|---|---|---|---|---|---|---|---|---|---|---|')
    for name, alpha in (('5 %', .05), ('Holm, 21 pairs', .05 / 21)):
        for diff, psi in ((.10, .3), (.05, .2), (.05, .1), (.03, .1)):
            got = accuracy(sets, diff, psi, alpha), mean(min(sets, 1000), diff, psi, alpha), mean(min(sets, 1000), diff, psi, alpha, papers=True), margin(sets, diff, psi, alpha)
            print(f'| {name} | {diff * 100:g} | {psi} | ' + ' | '.join(f'{n} | {p:.3f}' for n, p in got) + ' |', flush=True)
