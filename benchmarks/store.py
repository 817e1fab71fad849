"""The tidy store at size: many runs of 300 questions, read once, read again, filtered. Prints Markdown.

    python benchmarks/store.py [--runs 10000] [--questions 300] [--keep FOLDER]
"""
import argparse, os, platform, resource, shutil, tempfile, time
from pathlib import Path


def make(root, runs, questions):
    "A tree of runs with submissions, summaries and short records, written as plain files."
    import csv, json, random
    rng = random.Random(0)
    (root / 'data').mkdir(parents=True)
    truth = [(f'q{i:03d}', f'Question {i}?', 'is_blank' if i % 18 == 0 else str(i * 7), 'MWh', 'is_blank' if i % 18 == 0 else f"['p{i % 32}']", i % 2, 1 - i % 2) for i in range(questions)]
    with open(root / 'data/bench_QA.csv', 'w', newline='') as f:
        w = csv.writer(f); w.writerow('id question answer_value answer_unit ref_id Quote Table'.split()); w.writerows(truth)
    for k in range(runs):
        d = root / f'artifacts/experiments/env{k % 10}/bench_QA/run{k:05d}'
        d.mkdir(parents=True)
        rows = [(i, q, 'a', v if rng.random() < .7 else '-1', u, r.replace("'", '"'), '', '', 'why') for i, q, v, u, r, *_ in truth]
        with open(d / 'submission.csv', 'w', newline='') as f:
            w = csv.writer(f); w.writerow('id question answer answer_value answer_unit ref_id ref_url supporting_materials explanation'.split()); w.writerows(rows)
        (d / 'results.json').write_text(json.dumps([dict(id=r[0], pred_value=r[3], pred_ref=r[5], status='answered', latency_seconds=rng.random(), tokens=dict(prompt=900, completion=40), energy=dict(decode=dict(joules=rng.random() * 100)), gold_rank=1, gold_in_context=True) for r in rows]))
        (d / 'summary.json').write_text(json.dumps(dict(name=d.name, model_id=f'org/m{k % 40}', num_questions=questions, questions_file='bench_QA.csv', run_environment=f'env{k % 10}', schema_version=1)))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--runs', type=int, default=10_000); p.add_argument('--questions', type=int, default=300); p.add_argument('--keep', help='make the tree here and leave it')
    a = p.parse_args()
    root = Path(a.keep or tempfile.mkdtemp())
    os.environ['WATTNB_CACHE'], os.environ['WATTNB_PROGRESS'] = str(root / 'cache'), '0'
    if not (root / 'data').exists(): make(root, a.runs, a.questions)
    from wattnb.scoring.store import Store, load
    from wattnb.scoring.run_folders import find_runs
    rows = []
    def timed(what, f):
        t = time.perf_counter(); out = f(); rows.append((what, time.perf_counter() - t, out)); return out
    n = timed('list the runs', lambda: len(find_runs(root)))
    timed('first time: read and score every run, write Parquet', lambda: len(Store(root).refresh()))
    timed('again: nothing changed', lambda: len(Store(root).refresh()))
    timed('two columns of all runs', lambda: len(load(root, columns=['run', 'contribution'])))
    timed('mean score of every run', lambda: len(load(root, columns=['run', 'contribution']).groupby('run', observed=True).contribution.mean()))
    timed('one machine, all columns', lambda: len(load(root, env='env3')))
    timed('three runs, all columns', lambda: len(load(root, runs=[r.id for r in find_runs(root, env='env1')[:3]])))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    some = find_runs(root)[0]; (some.path / 'summary.json').write_text((some.path / 'summary.json').read_text() + ' ')
    timed('after one run changed', lambda: len(Store(root).refresh()))
    mb = sum(f.stat().st_size for f in (root / 'cache').rglob('*') if f.is_file()) / 1e6
    raw = sum(f.stat().st_size for f in (root / 'artifacts').rglob('*') if f.is_file()) / 1e6
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {n:,} runs × {a.questions} questions, {raw:,.0f} MB of files, {mb:,.0f} MB of Parquet, {peak:,.0f} MB of memory at most\n\n| step | seconds | rows or runs |\n|---|---:|---:|')
    for what, s, k in rows: print(f'| {what} | {s:.2f} | {k:,} |')
    if not a.keep: shutil.rmtree(root)
