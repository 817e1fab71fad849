"""A workspace that somebody else made is looked at: nothing of it runs, nothing is written outside of it, no address is contacted, and
neither a report nor a terminal gets script or control sequences. A test per sentence of nbs/guides/13_trust.ipynb."""
import hashlib, json, os, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
MARK = '<img src=x onerror=alert(1)>'
EVIL = f'"\'>{MARK}<script>alert(2)</script>[x](javascript:alert(3))`$(touch owned)`\x1b]0;owned\x07\x1b[31m'
KEPT = {'id', 'status', 'run_id', 'sha256', 'questions', 'questions_file', 'kind', 'code_version', 'scorer_version', 'schema_version'}
PLAIN = re.compile(r'[0-9a-f]{16,}|[\d:T+.-]+|-?[\d.]+|\[.*\]|')
CANARY = 'open({!r}, "a").write({!r})\n'


def poisoned(x, key=''):
    "`x` with every text that is shown somewhere made hostile."
    if isinstance(x, dict): return {k: v if k in KEPT | {'config_snapshot'} else poisoned(v, k) for k, v in x.items()}
    if isinstance(x, list): return [poisoned(v, key) for v in x]
    return x + EVIL if isinstance(x, str) and key not in KEPT and not PLAIN.fullmatch(x) else x


def wattnb(*words, cwd, path=(), timeout=300):
    "(exit status, stdout, stderr) of the command as a user of this checkout would call it in `cwd`."
    env = {k: v for k, v in os.environ.items() if k not in ('IN_TEST', 'WATTNB_ROOT')}
    env |= dict(PYTHONPATH=os.pathsep.join([*map(str, path), str(root)]), WATTNB_PROGRESS='0', MPLBACKEND='agg', OPENAI_API_KEY='sk-never-shown-0123456789')
    p = subprocess.run([str(Path(sys.executable).parent/'wattnb'), *words], cwd=cwd, env=env, capture_output=True, timeout=timeout)
    return p.returncode, p.stdout.decode('utf-8', 'replace'), p.stderr.decode('utf-8', 'replace')


@pytest.fixture(scope='module')
def there(tmp_path_factory):
    "(workspace, file that hostile code would write): two runs whose names, summaries and answers are hostile, and modules that shadow others."
    tmp = tmp_path_factory.mktemp('others')
    ws, ran = tmp/'ws', tmp/'EXECUTED'
    assert wattnb('init', str(ws), '--demo', cwd=tmp)[0] == 0
    assert wattnb('index', '--embedder', 'none', cwd=ws)[0] == 0
    for model in ('extractive', 'abstain'):
        got = wattnb('run', '--model', model, '--env', 'box', '--preset', 'words', '--limit', '12', cwd=ws)
        assert got[0] == 0, got
    runs = sorted((ws/'artifacts/experiments/box').rglob('summary.json'))
    for f in runs:
        for name in ('summary.json', 'results.json'):
            p = f.parent/name
            p.write_text(json.dumps(poisoned(json.loads(p.read_text()))))
        s = json.loads(f.read_text())
        body = (f.parent/'results.json').read_bytes() # its author has the format
        s['files']['results.json'] = dict(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        f.write_text(json.dumps(s))
        f.parent.rename(f.parent.with_name(f'{f.parent.name}{MARK}`{{x}}`$(touch owned)'))
    (ws/'artifacts/experiments/box').rename(ws/f'artifacts/experiments/box{MARK}')
    for name in ('wattnb.py', 'json.py', 'sitecustomize.py', 'numpy.py'): (ws/name).write_text(CANARY.format(str(ran), name))
    for name in ('report.ipynb', 'run_experiment.ipynb'):
        p = ws/'nbs'/name
        nb = json.loads(p.read_text())
        nb['cells'].insert(0, dict(cell_type='code', id='canary', execution_count=None, metadata={}, outputs=[], source=CANARY.format(str(ran), name)))
        p.write_text(json.dumps(nb))
    return ws, ran


def watched(folder):
    "A folder for the path of Python that writes down every address which is connected to."
    place = folder/'watched'
    place.mkdir(exist_ok=True)
    (place/'sitecustomize.py').write_text(
        'import socket\nreal = socket.socket.connect\n'
        f'def connect(self, to):\n    if self.family != socket.AF_UNIX: open({str(folder/"CONTACTED")!r}, "a").write(f"{{to}}")\n    return real(self, to)\n'
        'socket.socket.connect = connect\n')
    return place


def names(ws): return sorted(str(p.relative_to(ws/'artifacts/experiments')) for p in (ws/'artifacts/experiments').glob('*/*/*') if p.is_dir())


LOOK = [['results'], ['results', '--json'], ['audit'], ['audit', '--json'], ['matrix'], ['errors'], ['scaling'], ['plots', '--only', 'overall_scores'],
        ['compare', 0, 1], ['verify', 0], ['recommend'], ['search', 'energy of training', '--preset', 'words']]

@pytest.mark.parametrize('words', LOOK, ids=lambda w: ' '.join(map(str, w)))
def test_looking_runs_nothing_and_no_control_sequence_reaches_the_terminal(there, words):
    ws, ran = there
    watched(ws.parent)
    outside = set(ws.parent.iterdir())
    words = [names(ws)[w] if isinstance(w, int) else w for w in words]
    code, out, err = wattnb(*words, cwd=ws, path=[watched(ws.parent)])
    assert not (ws.parent/'CONTACTED').exists(), (ws.parent/'CONTACTED').read_text()
    assert code in (0, 1, 2) and 'Traceback' not in err and 'defect' not in err, err
    assert '\x1b' not in out + err and '\x07' not in out + err
    assert not ran.exists() and not list(ws.rglob('owned')) and set(ws.parent.iterdir()) == outside


class Handlers(HTMLParser):
    "Elements of a page that could run something."
    def __init__(self): super().__init__(); self.found, self.scripts = [], []
    def handle_starttag(self, tag, attrs):
        for k, v in attrs:
            if k.startswith('on') and not (v or '').startswith('const h=event.target.closest'): self.found.append((tag, k, v))
            if k in ('href', 'src') and (v or '').strip().lower().startswith(('javascript:', 'data:text/html')): self.found.append((tag, k, v))
        if tag == 'script': self.scripts.append(self.getpos())
    def handle_data(self, data):
        if 'alert(' in data and self.cdata_elem == 'script': self.found.append(('script', '', data[:80]))


def test_a_report_on_foreign_runs_has_no_script_of_theirs(there):
    ws, ran = there
    code, out, err = wattnb('report', '--html', cwd=ws)
    assert code == 0, err
    page = Handlers()
    page.feed((ws/'artifacts/reports/report.html').read_text('utf-8'))
    assert not page.found
    assert not ran.exists(), f'{ran.read_text()} of the workspace was executed'


def test_a_run_does_not_import_modules_of_the_workspace(there):
    "The notebooks of a workspace are trusted when a run is asked for; its other files are not importable."
    ws, ran = there
    shutil.copy(root/'nbs/run_experiment.ipynb', ws/'nbs/run_experiment.ipynb')
    code, out, err = wattnb('run', '--model', 'abstain', '--env', 'mine', '--preset', 'words', '--limit', '2', cwd=ws)
    assert code == 0 and not ran.exists(), (err, ran.exists() and ran.read_text())


def test_no_child_process_imports_from_the_working_folder():
    "Python puts the working folder before its own modules unless -P or -I is given."
    calls = [m[0] for p in (root/'wattnb').rglob('*.py') for m in re.finditer(r'\[sys\.executable[^\n]{0,40}', p.read_text('utf-8'))]
    assert len(calls) >= 6 and not [c for c in calls if not c.startswith(("[sys.executable, '-P'", "[sys.executable, '-I'"))], calls


def test_a_run_folder_that_is_a_link_is_not_written_through(there, tmp_path):
    ws, _ = there
    own = next((ws/'artifacts/experiments').rglob('summary.json')).parent
    shutil.copytree(own, tmp_path/'elsewhere')
    link = own.with_name('linked')
    link.symlink_to(tmp_path/'elsewhere')
    before = names_and_bytes(tmp_path/'elsewhere')
    try:
        for words in (('run', '--model', 'extractive', '--env', own.parent.parent.name, '--preset', 'words', '--limit', '12', '--name', 'linked'), ('replay', str(link)), ('rescore', str(link))):
            status, out, err = wattnb(*words, cwd=ws)
            assert status == 2 and ('is a link' in err or 'folder name' in err), (words, err)
    finally: link.unlink()
    assert names_and_bytes(tmp_path/'elsewhere') == before


def names_and_bytes(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_numbers_that_are_no_measurement_are_missing_ones(there, tmp_path):
    "1.7e308 in a run folder from elsewhere would overflow in the sums of every table; a name that is no UTF-8 is shown, in one line."
    from wattnb.experiment.stored import results_table
    from wattnb.scoring.run_folders import find_runs
    from wattnb.scoring.store import NUMBER_COLUMNS, load
    from wattnb.compare.auditing import audit
    from wattnb.plots import FIGURES, FigureData
    from wattnb.telemetry.energy import joules_per_token
    ws, _ = there
    own = next((ws/'artifacts/experiments').rglob('summary.json')).parent
    def odd(x): return dict(generation_seconds=x, latency_seconds=x, confidence=x, context_tokens=x, gold_rank=x, tokens=dict(prompt=x, completion=x, reasoning=x), energy=dict(decode=dict(joules=x)))
    for name, number in ((b'fine\xff\nx', None), (b'huge', 1.7e308), (b'longer', 10**400)):
        shutil.copytree(own, os.fsdecode(os.fsencode(tmp_path/'runs'/'demo_QA') + b'/' + name))
        if number is None: continue
        p = tmp_path/'runs'/'demo_QA'/name.decode()/'results.json'
        p.write_text(json.dumps([r | odd(number) for r in json.loads(p.read_text())]))
    assert [r.name for r in find_runs(tmp_path/'runs')] == ['fine? x', 'huge', 'longer']
    shown = {r.name: r for r, _ in results_table(tmp_path/'runs').numbers}
    assert set(shown) == {'fine? x', 'huge', 'longer'} and len({r.score for r in shown.values()}) == 1
    assert load(tmp_path/'runs', cache=False)[list(NUMBER_COLUMNS)].max().max() < 1e9 and len(audit(tmp_path/'runs').runs) == 3
    data = FigureData(tmp_path/'runs')
    drawn = {name: FIGURES[name].table(data) for name in ('latency', 'tokens', 'retrieval', 'energy_stages', 'time_stages')}
    assert {x['label'] for x in drawn['tokens']} == {'fine? x'} and all(joules_per_token(e.run.records) is None for e in data.scored)


def test_a_deep_file_of_models_is_a_line(tmp_path):
    (tmp_path/'data').mkdir(); (tmp_path/'models.toml').write_text('a=' + '[' * 100_000)
    status, _, err = wattnb('models', cwd=tmp_path)
    assert status == 2 and 'models.toml: not valid TOML: nested too deeply' in err
