"What a new user installs: light core, working wheel and sdist, workspace files inside, imports that load nothing heavy."
import json, os, re, subprocess, sys, tarfile, time, zipfile
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
HEAVY = ('torch', 'pandas', 'matplotlib', 'transformers', 'hnswlib', 'ray', 'scipy', 'sentence_transformers', 'IPython')
config = ConfigParser(delimiters=['='])
config.read(root / 'settings.ini')


def python(code, **env):
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, **env}, cwd='/')
    assert p.returncode == 0, p.stderr[-2000:]
    return p.stdout.strip()


def test_imports_are_light():
    "All modules, one after the other in one process: the first that loads something heavy is named."
    modules = sorted('.'.join(p.relative_to(root).with_suffix('').parts).removesuffix('.__init__') for p in (root / 'wattnb').rglob('*.py') if p.stem not in ('_modidx', '__main__'))
    assert len(modules) > 100
    code = f'import importlib, sys\nfor m in {modules}:\n    importlib.import_module(m)\n    if heavy := [x for x in {HEAVY} if x in sys.modules]: print(m, *heavy); break'
    assert python(code, PYTHONPATH=os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])) == ''


def requirement_name(r): return re.split(r'[\s;\[<>=!~(]', r, maxsplit=1)[0].lower().replace('_', '-')


def closure(names):
    "Distributions that the named ones bring on this interpreter, from the installed metadata (extras left out)."
    from packaging.requirements import Requirement
    todo, seen = list(names), set()
    while todo:
        n = todo.pop()
        if n in seen: continue
        seen.add(n)
        for r in metadata.requires(n) or []:
            r = Requirement(r)
            if r.marker is None or r.marker.evaluate({'extra': ''}): todo.append(requirement_name(r.name))
    return seen


def test_core_is_at_most_25_distributions_without_torch():
    got = closure(requirement_name(r) for r in config['DEFAULT']['requirements'].split())
    assert len(got) <= 25, sorted(got)
    assert not got & {'torch', 'transformers', 'matplotlib', 'jupyterlab', 'ray'}
    reasons = (root / 'CONTRIBUTING.md').read_text()
    assert not [n for n in got if not re.search(rf'\b{re.escape(n)}\b', reasons, re.I)], 'each has its reason in CONTRIBUTING.md'


def test_one_version_everywhere():
    said = {f: re.search(pattern, (root / f).read_text('utf-8'), re.M)[1] for f, pattern in {'wattnb/__init__.py': r'__version__ = "(.*)"', 'CITATION.cff': r'^version: (.*)', 'nbs/guides/16_publish.ipynb': r'version = {(.*)}', 'CHANGELOG.md': r'^## (\S+)'}.items()}
    assert set(said.values()) == {config['DEFAULT']['version']}, said


def test_the_deprecated_nvml_distribution_is_not_required():
    assert 'pynvml' not in (root / 'settings.ini').read_text().replace('module `pynvml`', '').split()


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "Wheel and sdist, built from a copy of the tracked files as a clone would have them."
    out, src = tmp_path_factory.mktemp('dist'), tmp_path_factory.mktemp('src')
    tracked = subprocess.run(['git', 'ls-files', '-z'], cwd=root, capture_output=True).stdout.decode().split('\0')
    for f in filter(None, tracked):
        if (root / f).is_file():
            (src / f).parent.mkdir(parents=True, exist_ok=True)
            (src / f).write_bytes((root / f).read_bytes())
    p = subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, src], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout[-1500:] + p.stderr[-1500:]
    return next(out.glob('*.whl')), next(out.glob('*.tar.gz'))


def test_wheel_carries_what_init_hands_out(built):
    names = zipfile.ZipFile(built[0]).namelist()
    for f in ('wattnb/models.toml', 'wattnb/explorer.css', 'wattnb/guests.css', 'wattnb/guests.js', 'wattnb/py.typed', 'wattnb/_workspace/data/demo_QA.csv', 'wattnb/_workspace/data/demo2026_QA.csv', 'wattnb/_workspace/data/metadata.csv', 'wattnb/_workspace/nbs/run_experiment.ipynb'):
        assert f in names, f
    assert sum(n.startswith('wattnb/_workspace/data/pdfs/') for n in names) >= 12
    assert not [n for n in names if 'test_solutions' in n or 'train_QA' in n]
    assert any('settings.ini' in n for n in tarfile.open(built[1]).getnames())


def test_wheel_works_away_from_the_checkout(built, tmp_path):
    "Unpacked beside the installed dependencies: `wattnb init --demo`, then the command finds its workspace from a folder below."
    zipfile.ZipFile(built[0]).extractall(tmp_path / 'site')
    env = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site'), 'WATTNB_PROGRESS': '0'}
    def run(*args, cwd=tmp_path):
        p = subprocess.run([sys.executable, '-m', 'wattnb.cli', *args], cwd=cwd, env=env, capture_output=True, text=True)
        assert p.returncode == 0, p.stderr
        return p.stdout
    made = json.loads(run('init', 'ws', '--demo', '--json'))['files']
    assert str(tmp_path / 'site') in subprocess.run([sys.executable, '-c', 'import wattnb; print(wattnb.__file__)'], env=env, cwd=tmp_path, capture_output=True, text=True).stdout
    assert len([f for f in made if f.endswith('.pdf')]) >= 12 and any(f.endswith('demo2026_QA.csv') for f in made)
    assert 'smollm2-135m' in run('models', cwd=tmp_path / 'ws/data')


def test_the_container_installs_what_there_is():
    "Extras of the Dockerfile exist, and its commands are commands."
    text = (root/'deploy/Dockerfile').read_text()
    known = {k.removesuffix('_requirements') for k in re.findall(r'^(\w+_requirements) =', (root/'settings.ini').read_text(), re.M)}
    named = re.findall(r'EXTRAS=([\w,]+)', text)
    assert len(named) == 2 and all(set(n.split(',')) <= known for n in named)
    assert re.findall(r'wattnb(?::cuda)? run (.*?)  ', text) == ['--model smollm2-135m --env box', '--model qwen7b --env H100']


def test_a_job_on_slurm_requeues_itself(tmp_path):
    "The scheduler sends SIGTERM to the script alone: the benchmark is ended, and the job is queued again."
    log, bin_ = tmp_path/'log', tmp_path/'bin'
    bin_.mkdir()
    for name, code in (('wattnb', 'trap "echo ended >> $LOG; exit 143" TERM; echo "$@" >> $LOG; sleep 5 & wait'), ('scontrol', 'echo scontrol "$@" >> $LOG')):
        (bin_/name).write_text(f'#!/bin/bash\n{code}\n'); (bin_/name).chmod(0o755)
    env = dict(PATH=f'{bin_}:{os.environ["PATH"]}', LOG=str(log), WATTNB_ROOT=str(tmp_path), SLURM_JOB_ID='7', SLURM_CLUSTER_NAME='lab')
    p = subprocess.Popen(['bash', root/'deploy/benchmark.sbatch', '--model', 'a b'], env=env)
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline: time.sleep(.05)
    p.terminate()
    assert p.wait(60) == 0
    assert log.read_text().splitlines() == ['benchmark --env lab --timeout 0 --model a b', 'ended', 'scontrol requeue 7']
