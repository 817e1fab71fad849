"""What the journal costs, and how long and large 100,000 questions are.

    python benchmarks/journal.py            # both tables
    python benchmarks/journal.py 20000      # another number of questions

The share is the time inside `Journal.append`, `sync` and `close` over the time of the whole run, both clocks read in one run. The long
run is a process of its own: the abstain baseline in closed-book mode, its seconds, those of the processor, and its peak memory (RSS);
then the same by the command, with its notebook: the largest of its processes counts."""
import os, resource, subprocess, sys, tempfile, time
from pathlib import Path

os.environ['WATTNB_PROGRESS'] = '0'


def shares(limit=40):
    from wattnb.cli.command import init_workspace
    from wattnb.index.corpus import build_corpus
    from wattnb.experiment.settings import RunSettings
    from wattnb.experiment.plan import plan_run
    from wattnb.experiment.execute import run_all
    from wattnb.index.store import build_index
    from wattnb.experiment.journal import Journal
    from wattnb.core.workspace import Workspace
    spent = dict(s=0., depth=0, lines=0)
    def timed(f):
        def g(*a, **kw):
            t0 = time.perf_counter(); spent['depth'] += 1
            try: return f(*a, **kw)
            finally:
                spent['depth'] -= 1
                if not spent['depth']: spent['s'] += time.perf_counter() - t0
        return g
    append = Journal.append
    def counted(self, kind, *items): spent['lines'] += len(items); return append(self, kind, *items)
    Journal.append, Journal.close = timed(counted), timed(Journal.close)
    with tempfile.TemporaryDirectory() as d:
        init_workspace(d, demo=True)
        ws = Workspace.find(d)
        build_index(ws, embedder='none', corpus=build_corpus(ws))
        print(f'{"run":34} {"seconds":>8} {"lines":>6} {"journal, s":>10} {"share":>7}')
        for model, mode in (('extractive', 'rag'), ('extractive', 'oracle'), ('abstain', 'rag')):
            spent.update(s=0., lines=0)
            t0 = time.perf_counter()
            run_all(plan_run(RunSettings(model, env='j', mode=mode, preset='words', limit=limit), ws))
            took = time.perf_counter() - t0
            print(f'{model + ", " + mode:34} {took:8.2f} {spent["lines"]:6} {spent["s"]:10.3f} {spent["s"] / took:7.2%}', flush=True)


def long_run(n):
    with tempfile.TemporaryDirectory() as d:
        data = Path(d) / 'data'; data.mkdir(); (Path(d) / 'artifacts').mkdir()
        with open(data / 'demo_QA.csv', 'w', encoding='utf-8') as f:
            f.write('id,question,answer,answer_value,answer_unit,ref_id,ref_url,supporting_materials,explanation\n')
            for i in range(n): f.write(f'''q{i:06d},How many watts does server {i} take?,{i} W,{i if i % 10 else "is_blank"},W,"['a2024']",is_blank,is_blank,Quote\n''')
        code = f'''
import sys
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.experiment.execute import run_all
run_all(plan_run(RunSettings('abstain', env='j', mode='closed-book', idle_seconds=0), {d!r}))'''
        words = ['-m', 'wattnb.cli', 'run', '--root', d, '--model', 'abstain', '--mode', 'closed-book', '--env', 'command']
        for what, argv in (('in a process', ['-c', code]), ('wattnb run', words)):
            before, t0 = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            peak = _watch(subprocess.Popen([sys.executable, *argv], stdout=subprocess.DEVNULL))
            took, cpu = time.perf_counter() - t0, resource.getrusage(resource.RUSAGE_CHILDREN)
            used = cpu.ru_utime + cpu.ru_stime - before.ru_utime - before.ru_stime
            print(f'{n:,} questions, abstain, closed-book, {what}: {took:.1f} s ({used:.1f} s of CPU), peak memory {peak / 1e6:.0f} MB', flush=True)
        size = sum(p.stat().st_size for p in Path(d).rglob('artifacts/**/*') if p.is_file())
        print(f'{size / 2e6:.0f} MB written by each')


def _watch(p):
    "Wait for a process; the largest RSS of it and its descendants, in bytes."
    import psutil
    root, peak = psutil.Process(p.pid), 0
    while p.poll() is None:
        try: peak = max([peak, *(x.memory_info().rss for x in (root, *root.children(recursive=True)))])
        except psutil.Error: pass
        time.sleep(.1)
    if p.returncode: raise SystemExit(p.returncode)
    return peak


if __name__ == '__main__':
    import platform
    print(f'{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}')
    if len(sys.argv) < 2: shares()
    long_run(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
