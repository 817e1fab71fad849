"""Is a verdict that may be read off at any time wrong in at most 5 % of the studies, and how many questions does it save? Prints Markdown.

    python benchmarks/sequential.py [--sets 4000]

Paired differences of the composite (three-valued, .9 each way) are looked at after every question, or after every paper of nine (latent ICC .2). `wrong`: better or worse where the true difference is
zero, equivalent where it is the margin of five points or more, or the wrong sign. `p values`: a permutation test every ten questions that stops at the first p <= .05.
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtri

from wattnb.scoring.sequential import sequential_verdict
from wattnb.scoring.statistics import permutation_test

MARGIN = .05


def sample(rng, n, psi, diff, papers):
    icc = .2 if papers else 0.
    latent = np.sqrt(icc) * rng.normal(size=n // 9 + 1)[np.arange(n) // 9] + np.sqrt(1 - icc) * rng.normal(size=n)
    p = (psi + diff / .9) / 2, (psi - diff / .9) / 2
    return .9 * ((latent > ndtri(1 - p[0])).astype(float) - (latent < (ndtri(p[1]) if p[1] > 0 else -np.inf)))


def study(sets, n, psi, diff, papers=False, margin=MARGIN, seed=1, peeking=0):
    "(share of wrong verdicts, of right ones, mean share of the questions asked, wrong of p values looked at every ten questions over `peeking` sets)."
    rng, out, wrong = np.random.default_rng(seed), np.zeros(3), 0
    for k in range(sets):
        d = sample(rng, n, psi, diff, papers)
        if papers:
            at = np.arange(n) // 9
            sums, sizes = np.bincount(at, d), np.bincount(at)
            v = sequential_verdict(sums, .9 * 9, margin, sizes=sizes)
            asked = sizes[:v.units].sum() / n
        else:
            v = sequential_verdict(d, .9, margin)
            asked = v.units / n
        true = {'better': diff > 0, 'worse': diff < 0, 'equivalent': abs(diff) < margin}.get(v.word)
        out += true is False, true is True, asked
        if k < peeking: wrong += any(permutation_test(d[:m], reps=300) <= .05 for m in range(20, n + 1, 10))
    return *(out / sets), wrong / peeking if peeking else None


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=4000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('| true difference | discordant | questions | wrong | right | share asked | wrong by p values | by paper: wrong | right | share asked |\n|---|---|---|---|---|---|---|---|---|---|')
    for n in (282, 1000):
        for diff, psi in ((0., .02), (0., .1), (0., .3), (.05, .1), (.05, .3), (.1, .2), (.2, .3), (.3, .4)):
            a, b = study(sets, n, psi, diff, peeking=200 if n < 500 and not diff else 0), study(max(1, sets // 2), n, psi, diff, papers=True)
            print(f'| {diff * 100:g} | {psi} | {n} | {a[0]:.3f} | {a[1]:.3f} | {a[2]:.2f} | {"–" if a[3] is None else f"{a[3]:.3f}"} | {b[0]:.3f} | {b[1]:.3f} | {b[2]:.2f} |', flush=True)
