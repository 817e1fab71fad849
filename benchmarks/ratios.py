"""Does the interval of a ratio of costs cover? Prints Markdown.

    python benchmarks/ratios.py [--sets 4000]

Costs per question of two runs are lognormal: `paired` where the question sets both costs (long questions are expensive for both runs), `independent` where each
run has its own. The last two are what Fieller's interval is not made for: a spread of σ = 1 in the ratio itself, and one run that is far more skewed.
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np

from wattnb.scoring.statistics import ratio_ci, resamples

SIZES = (8, 20, 41, 87, 282)
KINDS = {'paired, σ .5 and .1': lambda r, n: (lambda b: (b * r.lognormal(-.005, .1, n), b))(r.lognormal(0, .5, n)),
         'paired, σ .5 and .5': lambda r, n: (lambda b: (b * r.lognormal(-.125, .5, n), b))(r.lognormal(0, .5, n)),
         'independent, σ .5': lambda r, n: (r.lognormal(0, .5, n), r.lognormal(0, .5, n))}
HARD = {'paired, σ 1 and 1': lambda r, n: (lambda b: (b * r.lognormal(-.5, 1, n), b))(r.lognormal(0, 1, n)),
        'one run σ 1, the other .3': lambda r, n: (r.lognormal(-.5, 1, n), r.lognormal(-.045, .3, n))}


def study(sets, n, kinds=KINDS, seed=1):
    "(kind, share of sets whose Fieller interval holds the true ratio 1, the same of a percentile bootstrap)."
    out = []
    for name, draw in kinds.items():
        rng, hit = np.random.default_rng(seed), np.zeros(2)
        w = resamples(n, reps=1000)
        for _ in range(sets):
            a, b = draw(rng, n)
            _, lo, hi = ratio_ci(a, b)
            q = np.quantile(w @ a / (w @ b), (.025, .975))
            hit += [lo <= 1 and (hi is None or 1 <= hi), q[0] <= 1 <= q[1]]
        out.append((name, *(hit / sets)))
    return out


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=4000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('| costs | questions | Fieller covers | percentile bootstrap covers |\n|---|---|---|---|')
    for n in SIZES:
        for name, fieller, percentile in study(sets, n, {**KINDS, **HARD}): print(f'| {name} | {n} | {fieller:.3f} | {percentile:.3f} |', flush=True)
