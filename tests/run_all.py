"""Everything CI checks, in one go: `python tests/run_all.py [part ...]` (parts: export, lint, site, index, notebooks, tests).

Prints a line for each check; the last line is "N passed, N failed" (and the number skipped, where there are any).
"""
import hashlib, importlib.util, json, os, queue, subprocess, sys, tempfile, time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pages

root = Path(__file__).resolve().parent.parent
bin_ = Path(sys.executable).parent
tally = dict(passed=0, failed=0, skipped=0)
env = {**os.environ, 'WATTNB_PROGRESS': '0', 'TOKENIZERS_PARALLELISM': 'false', 'MPLBACKEND': 'agg',
       'PYTHONDONTWRITEBYTECODE': '', # hundreds of processes import the library: .2 s each to compile it
       'PATH': f'{bin_}{os.pathsep}{os.environ.get("PATH", "")}'}


def report(state, what, seconds, detail=''):
    tally[state] += 1
    print(f'{state:7} {what:44} {seconds:6.1f} s', flush=True)
    if detail: print('\n'.join('        ' + l for l in detail.strip().splitlines()[-40:]), flush=True)


def run(*args, timeout=1800, **kw):
    try:
        p = subprocess.run(args, cwd=root, env={**env, **kw}, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        return p.returncode, p.stdout + p.stderr
    except subprocess.TimeoutExpired as e: return 1, f'{(e.stdout or b"").decode()}\nstopped after {timeout} s'


def hashes(pattern):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.glob(pattern))}


def leaves_no_diff():
    "Exporting and cleaning change nothing: the library is what the notebooks say, and no notebook carries noise."
    for what, cmd, pattern in (('nbdev_export leaves no diff', 'nbdev_export', 'wattnb/**/*.py'), ('nbdev_clean leaves no diff', 'nbdev_clean', 'nbs/**/*.ipynb')):
        t, before = time.time(), hashes(pattern)
        rc, out = run(bin_ / cmd)
        changed = [p.name for p, h in hashes(pattern).items() if before.get(p) != h]
        report('failed' if rc or changed else 'passed', what, time.time() - t, out * bool(rc) + ('changed: ' + ', '.join(changed) if changed else ''))


def lint():
    "Layout and types by the tables of pyproject.toml. Both are in the extra `dev`; one that is not installed is skipped."
    for what, module, args in (('ruff', 'ruff', ('check', '-q', '.')), ('mypy', 'mypy', ())):
        t = time.time()
        if find_spec(module) is None: report('skipped', f'{what}: not installed', 0); continue
        rc, out = run(sys.executable, '-m', module, *args)
        report('failed' if rc else 'passed', what, time.time() - t, out * bool(rc))


def index():
    t = time.time()
    rc, out = run(bin_ / 'wattnb', 'index', '--root', root)
    report('failed' if rc else 'passed', 'wattnb index (demo corpus)', time.time() - t, out * bool(rc))


class Checker:
    "A process of `outputs.py` that checks one notebook after the other: as nbdev_test does, and compares the outputs with the stored ones."
    def __init__(self): self.start()
    def start(self):
        self.p = subprocess.Popen([sys.executable, root / 'tests/outputs.py', '--serve'], cwd=root, env={**env, 'OMP_NUM_THREADS': '1'}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def __call__(self, path):
        try:
            self.p.stdin.write(f'{path}\n'); self.p.stdin.flush()
            return json.loads(self.p.stdout.readline())
        except (OSError, ValueError):
            self.p.kill(); self.p.wait(); self.start()
            return 1, 'the process that runs the notebooks ended'
    def close(self): self.p.stdin.close(); self.p.wait()


def notebook(path, free):
    "`free`: a queue of checkers that have nothing to do."
    check, t = free.get(), time.time()
    try: rc, out = check(path)
    finally: free.put(check)
    report('failed' if rc else 'passed', f'notebook {path.relative_to(root / "nbs")}', time.time() - t, out * bool(rc))


OVER_RUNS = ('report.ipynb', 'explore.ipynb') # these read the runs that guides/17_overview.ipynb makes

def notebooks():
    found, free = [p for p in pages.notebooks() if p.stem not in pages.EXECUTED], queue.SimpleQueue() # the part `site` executes those
    checkers = [Checker(), Checker()]
    for c in checkers: free.put(c)
    with ThreadPoolExecutor(2) as pool:
        for over in (False, True): list(pool.map(lambda p: notebook(p, free), [p for p in found if (p.name in OVER_RUNS) == over]))
    for c in checkers: c.close()


BROWSER = 'tests/test_browser.py' # has the machine to itself: a server, a kernel and a browser need both cores

def tests():
    "Whole files in three processes, as tests also wait; those that take long first, so that none ends alone (`conftest.py`). Then the browser."
    three = ['-n', '3', '--dist', 'loadfile', '--no-loadscope-reorder'] if importlib.util.find_spec('xdist') else []
    pytest(*three, f'--ignore={BROWSER}', 'tests')
    pytest(BROWSER)


def pytest(*args):
    "Run pytest and count its cases; what ends before it can report them is a failure."
    with tempfile.TemporaryDirectory() as tmp:
        xml = Path(tmp) / 'junit.xml'
        rc = subprocess.call([sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '--durations=10', f'--junitxml={xml}', *args], cwd=root, env={**env, 'OMP_NUM_THREADS': '1'})
        if not xml.exists(): return report('failed', f'pytest {args[-1]} did not finish', 0)
        cases = list(ET.parse(xml).getroot().iter('testcase'))
        for case in cases:
            kinds = {c.tag for c in case}
            tally['failed' if kinds & {'failure', 'error'} else 'skipped' if 'skipped' in kinds else 'passed'] += 1
        if rc not in (0, 1) and not (rc == 5 and cases): report('failed', f'pytest {args[-1]} ended with {rc}', 0) # 5: all was skipped


def site():
    t = time.time()
    rc, out = run(sys.executable, root / 'tests/site.py')
    report('failed' if rc else 'passed', 'documentation site', time.time() - t, out * bool(rc))


PARTS = dict(export=leaves_no_diff, lint=lint, site=site, index=index, notebooks=notebooks, tests=tests)
ONE_CORE = ('lint', 'site', 'index') # run beside each other

if __name__ == '__main__':
    asked = sys.argv[1:] or list(PARTS)
    if unknown := [n for n in asked if n not in PARTS]: sys.exit(f'no part {unknown[0]!r}; there are: {", ".join(PARTS)}')
    for together, names in groupby(asked, lambda n: n in ONE_CORE):
        with ThreadPoolExecutor(2 if together else 1) as pool: list(pool.map(lambda n: PARTS[n](), names))
    skipped = f', {tally["skipped"]} skipped' if tally['skipped'] else ''
    print(f'{tally["passed"]} passed, {tally["failed"]} failed{skipped}')
    sys.exit(bool(tally['failed']))
