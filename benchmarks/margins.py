"""Does "not worse by the margin" keep its error rate, and how often is it found where it is true? Prints Markdown.

    python benchmarks/margins.py [--sets 4000]

Two runs differ on a share of the answerable questions (`discordant`); in `error` A truly is worse by exactly the margin of two or five points, in `power` the two are equally good.
The unanswerable questions are refused independently. Beside the score test of `margin_test`: the percentile bootstrap of the paired differences (90 % interval) and sign flips of the
differences plus the margin. With papers, 32 of them, the discordance comes by paper (latent ICC .2).
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtri

from wattnb.scoring.equivalence import margin_test
from wattnb.scoring.scores import contribution_bounds

SIZES = ((41, 2), (87, 5), (282, 16)) # questions, unanswerable ones
DISCORDANT = (.03, .06, .1, .2, .3)


def draw(rng, n, n_na, psi, loss, paper=None):
    "Contributions of A and B: A loses `loss` points of the composite against B, on answerable questions."
    a = n - n_na
    down = (psi + loss / .9 * n / a) / 2 # share of the answerable questions that A alone has wrong
    latent = rng.normal(size=a) if paper is None else np.sqrt(.2) * rng.normal(size=paper.max() + 1)[paper] + np.sqrt(.8) * rng.normal(size=a)
    lost, won = latent < ndtri(down), latent > ndtri(1 - (psi - down)) if psi > down else np.zeros(a, bool)
    both = rng.random(a) < .7
    x = np.stack([np.where(lost, 0, np.where(won, .9, .9 * both)), np.where(lost, .9, np.where(won, 0, .9 * both))])
    return np.c_[x, .75 + (.15 + .1 * n / n_na) * (rng.random((2, n_na)) < .8)]


def study(sets, n, n_na, psi, margin, papers=False, seed=1, others=True):
    "Shares of sets in which A is called not worse, (error, power) for the score test, the bootstrap and sign flips. None where no such loss is possible."
    rng, rare, bounds, out = np.random.default_rng(seed), np.arange(n) >= n - n_na, contribution_bounds(n, n_na), []
    if margin / .9 * n / (n - n_na) > psi: return None
    for loss in (margin, 0.):
        found = np.zeros(3)
        for _ in range(sets):
            paper = rng.integers(0, 32, n - n_na) if papers else None
            x = draw(rng, n, n_na, psi, loss, paper)
            by = None if paper is None else np.r_[paper, 32 + np.arange(n_na)]
            found[0] += margin_test(x, margin, rare, bounds, by).p_not_worse <= .05
            if not others: continue
            d = x[0] - x[1]
            means = rng.multinomial(n, np.full(n, 1 / n), 400) @ d / n
            flips = (rng.integers(0, 2, (400, n)) * 2 - 1) @ (d + margin) / n
            found[1:] += np.quantile(means, .05) > -margin, (1 + (flips >= d.mean() + margin - 1e-12).sum()) / 401 <= .05
        out.append(found / sets)
    return np.array(out)


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=4000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('| questions | margin | discordant | error: score test | bootstrap | sign flips | power: score test | by paper: error | power |\n|---|---|---|---|---|---|---|---|---|')
    for n, n_na in SIZES:
        for margin in (.02, .05):
            for psi in DISCORDANT:
                got = study(sets, n, n_na, psi, margin)
                if got is None: continue
                by = study(max(1, sets // 4), n, n_na, psi, margin, papers=True, others=False)
                print(f'| {n} | {margin * 100:g} | {psi} | ' + ' | '.join(f'{v:.3f}' for v in (*got[0], got[1, 0], by[0, 0], by[1, 0])) + ' |', flush=True)
