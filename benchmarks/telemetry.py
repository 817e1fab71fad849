"""The cost of measuring: the share of a core that the sampler takes, and the slowdown of the work that it measures.

    python benchmarks/telemetry.py --pairs 40

The share is the sampler thread's own CPU time over the time of the session. The slowdown is paired: the same work with and without a
session, in alternating order, each pair beside the other in time. GPUs are simulated, so the calls of a
real driver are not included, except under `here` on a machine that has one.
"""
import argparse, random, statistics, time

import numpy as np

from wattnb.core.hardware import cpu_name
from wattnb.testing.simulated import SimulatedGpu, simulated_nvml
from wattnb.telemetry.session import Session
from wattnb.core.tables import ResultTable


def work(size=256, rounds=60):
    "Matrix products and Python, as a run does both: CPU seconds and wall seconds."
    c, t = time.thread_time(), time.perf_counter()
    m = np.ones((size, size), np.float32)
    for _ in range(rounds):
        m @ m
        sum(i * i for i in range(2000))
    return time.thread_time() - c, time.perf_counter() - t


def share(seconds):
    "(share of a core, readings per second) of a session of some seconds."
    with Session() as s:
        time.sleep(seconds)
        r = s.report()['energy']['sampler']
    return r['cpu_seconds'] / seconds, r['samples'] / seconds


def ratios(pairs):
    "Wall and CPU time of the working thread with a session over without, per pair."
    wall, cpu, rng = [], [], random.Random(1)
    for _ in range(pairs):
        got = {}
        for metered in rng.sample((True, False), 2):
            if metered:
                with Session():
                    time.sleep(.05)
                    got[True] = work()
            else: time.sleep(.05); got[False] = work()
        cpu.append(got[True][0] / got[False][0]); wall.append(got[True][1] / got[False][1])
    return wall, cpu


def interval(values):
    "Median with the 95 % interval of its bootstrap."
    rng = random.Random(2)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(2000))
    return statistics.median(values), medians[50], medians[-51]


def main():
    p = argparse.ArgumentParser(); p.add_argument('--pairs', type=int, default=40); p.add_argument('--seconds', type=float, default=10)
    a = p.parse_args()
    from contextlib import nullcontext
    places = dict(here=nullcontext, **{f'{n} simulated GPU{"s" * (n > 1)}': (lambda n=n: simulated_nvml([SimulatedGpu(200.) for _ in range(n)])) for n in (1, 2, 8)})
    rows = []
    for name, place in places.items():
        with place():
            core, rate = share(a.seconds)
            wall, cpu = (interval(x) for x in ratios(a.pairs))
        rows.append((name, 100 * core, rate, *(100 * (x - 1) for x in wall), *(100 * (x - 1) for x in cpu)))
    print(ResultTable(['meters', '% of a core', 'readings/s', 'slower by, %', 'low', 'high', 'CPU of the work, %', 'low ', 'high '], rows, title=f'{cpu_name()}, {a.pairs} pairs', digits=2).to_text())


if __name__ == '__main__': main()
