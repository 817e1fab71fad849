"""Is the minimum detectable difference found four times in five, at the level of its decision? Prints Markdown.

    python benchmarks/mde.py [--sets 20000]

McNemar: discordant questions are drawn at the difference that `mde` names. Composite: paired differences with the three-valued shape of the real ones are tested
by sign flips at the difference that `mde_mean` names, once independent and once by paper (latent ICC .2, 32 papers).
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np

from wattnb.scoring.statistics import mcnemar_exact, mcnemar_power, mde, mde_mean, permutation_test

SIZES = ((41, .35), (87, .25), (282, .2)) # questions, share of discordant ones
LEVELS = {'5 %': .05, 'Holm, 6 pairs': .05 / 6, 'Holm, 21 pairs': .05 / 21}


def mcnemar(sets, n, psi, alpha, seed=1):
    "(difference, power in simulation, power of the formula of Connor at its own difference)."
    from statistics import NormalDist
    rng, z = np.random.default_rng(seed), NormalDist().inv_cdf
    d = mde(n, psi, alpha=alpha) or psi # where no difference is found so often, the largest that there can be
    x, y, _ = rng.multinomial(n, [(psi + d) / 2, (psi - d) / 2, 1 - psi], size=sets).T
    found = {k: mcnemar_exact(*k) <= alpha for k in set(zip(x.tolist(), y.tolist()))}
    za, zb = z(1 - alpha / 2), z(.8)
    a, b, c = n + zb * zb, -2 * np.sqrt(n) * za * np.sqrt(psi), (za * za - zb * zb) * psi
    old = (-b + np.sqrt(b * b - 4 * a * c)) / (2 * a)
    return d, np.mean([found[k] for k in zip(x.tolist(), y.tolist())]), mcnemar_power(n, psi, old, alpha) if old <= psi else None


def composite(sets, n, alpha, papers=None, seed=1, psi=.25):
    "Power in simulation of sign flips (by paper) at the difference of `mde_mean`, with the true standard deviation and design effect."
    from scipy.special import ndtri
    rng, icc = np.random.default_rng(seed), 0. if papers is None else .2
    sample = lambda size, paper, shift: (lambda u: .9 * ((u > ndtri(1 - psi / 2)).astype(float) - (u < ndtri(psi / 2))) + shift)(
        (0 if paper is None else np.sqrt(icc) * rng.normal(size=(size, papers))[:, paper]) + np.sqrt(1 - icc) * rng.normal(size=(size, n)))
    paper = None if papers is None else rng.integers(0, papers, n)
    many = sample(20_000, paper, 0.)
    sd, of_mean = float(many.std()), float(many.mean(1).std())
    effect, size = n * of_mean ** 2 / sd ** 2, 1 if papers is None else np.sum(np.bincount(paper) ** 2) / n
    d = mde_mean(sd * effect ** .5, n, alpha=alpha, df=n / size - 1)
    return d, np.mean(permutation_test(sample(sets, paper, d).T, clusters=paper) <= alpha)


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=20_000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each (composite: {min(sets, 3000)})\n')
    print('| level | questions | value accuracy: points | found | Connor 1987 found | composite: points | found | by paper: points | found |\n|---|---|---|---|---|---|---|---|---|')
    for name, alpha in LEVELS.items():
        for n, psi in SIZES:
            d, power, old = mcnemar(sets, n, psi, alpha)
            (e, one), (f, by) = (composite(min(sets, 3000), n, alpha, p) for p in (None, 32))
            print(f'| {name} | {n} | {d * 100:.1f} | {power:.3f} | {"–" if old is None else f"{old:.3f}"} | {e * 100:.1f} | {one:.3f} | {f * 100:.1f} | {by:.3f} |', flush=True)
