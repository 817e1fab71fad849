"""What `import wattnb` costs over a bare interpreter: python benchmarks/imports.py [repeats]. Medians of one run, alternating."""
import statistics, subprocess, sys, time

def seconds(code):
    t = time.perf_counter(); subprocess.run([sys.executable, '-c', code], check=True, capture_output=True); return time.perf_counter() - t

n = int(sys.argv[1]) if len(sys.argv) > 1 else 15
what = {'bare': 'pass', 'wattnb': 'import wattnb', 'wattnb.scoring': 'import wattnb.scoring.scores', 'wattnb.experiment': 'import wattnb.experiment.execute', 'wattnb.cli': 'import wattnb.cli.verbs'}
times = {k: [] for k in what}
for _ in range(n):
    for k, c in what.items(): times[k].append(seconds(c))
base = statistics.median(times['bare'])
for k, ts in times.items(): print(f'{k:20} {statistics.median(ts):6.3f} s  (+{statistics.median(ts) - base:.3f} s over bare; min {min(ts):.3f}, max {max(ts):.3f})')
