"""A workspace that somebody else made is looked at: nothing of it runs, nothing is written outside of it, no address is contacted, and
neither a report nor a terminal gets script or control sequences. A test per sentence of nbs/guides/13_trust.ipynb."""
import hashlib, json, math, os, re, shutil, struct, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np, pytest

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


def test_a_file_that_is_a_link_is_not_written_through(there, tmp_path):
    ws, _ = there
    mine, run = tmp_path/'mine.txt', names(ws)[0]
    mine.write_text('mine')
    for words in (['matrix'], ['submit', run], ['bundle', run]):
        before = set((ws/'artifacts').rglob('*'))
        assert wattnb(*words, cwd=ws)[0] in (0, 1)
        made = [p for p in (ws/'artifacts').rglob('*') if p.is_file() and p not in before]
        assert made
        for p in made: p.unlink(); p.symlink_to(mine)
        status, out, err = wattnb(*words, cwd=ws)
        for p in made: p.unlink()
        assert status == 1 and 'it is a link' in err and 'defect' not in err and mine.read_text() == 'mine', (words, err)


def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(there, tmp_path):
    ws, _ = there
    run = names(ws)[0]
    for name, words in (('results.json', ['verify', run]), ('submission.csv', ['bundle', run]), ('.lock', ['audit'])):
        at, kept = ws/'artifacts/experiments'/run/name, tmp_path/name
        if at.exists(): shutil.move(at, kept)
        os.mkfifo(at)
        try: status, out, err = wattnb(*words, cwd=ws, timeout=100)
        finally:
            at.unlink()
            if kept.exists(): shutil.move(kept, at)
        assert status in (0, 1) and 'defect' not in err, (words, err)


def test_folders_on_another_disk_are_followed(there, tmp_path):
    from wattnb.cli.command import main
    ws, _ = there
    shutil.copytree(ws/'artifacts', tmp_path/'disk'); shutil.copytree(ws/'data', tmp_path/'ws/data')
    (tmp_path/'ws/artifacts').symlink_to(tmp_path/'disk')
    for words in (['results'], ['results', '--json'], ['audit'], ['matrix']): assert main([*words, '--root', str(tmp_path/'ws')]) in (0, 1), words
    from wattnb.experiment.stored import results_table
    from wattnb.core.workspace import Workspace
    table = results_table(Workspace.find(tmp_path/'ws'))
    assert table.numbers and all(nb is None or nb.startswith('artifacts/experiments/') for _, nb in table.numbers)


def test_papers_that_links_lead_to_are_indexed_and_not_drawn(there, tmp_path):
    from wattnb.core.workspace import WorkError, Workspace
    from wattnb.index.page_images import page_image_apart
    ws = Workspace(tmp_path/'ws')
    shutil.copytree(there[0]/'data', ws.data, ignore=shutil.ignore_patterns('corpus', 'embeddings'))
    pdf = sorted(ws.pdfs.glob('*.pdf'))[0]
    shutil.move(pdf, tmp_path/'mine.pdf'); pdf.symlink_to(tmp_path/'mine.pdf')
    status, _, err = wattnb('index', '--embedder', 'none', '--offline', '--root', '.', cwd=ws.root)
    assert status == 0 and (ws.corpus/f'{pdf.stem}.json').exists(), err
    with pytest.raises(WorkError, match=f'{pdf.name} is a link out of the workspace'): page_image_apart(ws, pdf.stem, 1)


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


@pytest.mark.parametrize('text,why', [('a=' + '[' * 100_000, 'nested too deeply'), ('a=' + '9' * 5000, 'digits'), ('embedder = 3', ''), ('[embedder]\nx = 3', '')],
                         ids=['deep', 'long', 'number', 'entry'])
def test_odd_toml_of_others_is_a_line(there, capsys, text, why):
    "Deep nesting, numbers of thousands of digits and values for tables, in each file that a workspace may have, are one line that names the file."
    from wattnb.cli.command import main
    ws, _ = there
    for file, verb in (('models.toml', ['search', 'energy', '--preset', 'words']), ('models.toml', ['models']), ('wattnb.toml', ['index', '--offline']), ('study.toml', ['benchmark', '--study', str(ws/'study.toml'), '--dry-run'])):
        before = (ws/file).read_text() if (ws/file).exists() else None
        (ws/file).write_text(text)
        try: status = main([*verb, '--root', str(ws)])
        finally: (ws/file).unlink() if before is None else (ws/file).write_text(before)
        said = capsys.readouterr().err
        assert 'defect' not in said, (file, verb, said)
        if text[0] == 'a': assert status == 2 and file in said and why in said, (file, verb, said)


def sealed(folder):
    "The manifest of an index that was changed by somebody who knows the format."
    from wattnb.core.workspace import file_sha256, read_json, write_json
    from wattnb.index.store import _sealed
    files = {f.relative_to(folder).as_posix(): f for f in folder.rglob('*') if f.is_file() and f.name != 'manifest.json'}
    write_json(folder/'manifest.json', _sealed(read_json(folder/'manifest.json') | dict(files={k: f.stat().st_size for k, f in files.items()}, sha256={k: file_sha256(f) for k, f in files.items()})))


def test_rows_of_a_foreign_index_are_checked(there, tmp_path, capsys):
    "Fields of another type, rows that are no lists, ranges beyond the units and arrays of 36 TiB in an index that fits its hashes: damaged, in one line."
    from wattnb.cli.command import main
    ws, _ = there
    def changed(name, f):
        def g(folder): (folder/name).write_text(''.join(json.dumps(f(json.loads(l))) + '\n' for l in (folder/name).read_text().splitlines()))
        return g
    def huge(folder):
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(117) + b'\n'
        (folder/'bm25/data.csc.index.npy').write_bytes(b'\x93NUMPY\x01\x00' + len(head).to_bytes(2, 'little') + head + bytes(64))
    put = lambda row, k, v: [*row[:k], v, *row[k + 1:]]
    def array(name, kind):
        def g(folder):
            f = folder/f'bm25/{name}.csc.index.npy'
            a = np.load(f)
            if kind != 'archive': return np.save(f, a.astype(kind))
            with open(f, 'wb') as out: np.savez(out, a=a)
        return g
    faults = [array(name, kind) for name in ('data', 'indices', 'indptr') for kind in ('archive', 'U4', 'M8[s]', 'c8')]
    faults += [array('indices', 'f2'), array('indptr', 'f2'), lambda folder: (folder/'bm25/vocab.index.json').write_text('{"train": true}')]
    faults += [huge, lambda folder: (folder/'units.jsonl').write_text('[' * 100_000), changed('units.jsonl', lambda r: 7), changed('units.jsonl', lambda r: dict(a=1))]
    faults += [changed('units.jsonl', lambda r, k=k, v=v: put(r, k, v)) for k in range(5) for v in (None, 1.5, [1], dict(a=1)) ]
    faults += [changed('passages.jsonl', lambda r, k=k, v=v: put(r, k, v)) for k in range(8) for v in (None, [1])]
    faults += [changed('passages.jsonl', lambda r, v=v: put(r, k, v)) for k, v in ((5, -3), (6, 10**9), (6, 0))]
    for k, fault in enumerate(faults):
        shutil.copytree(ws/'data/embeddings/none', root_ := tmp_path/f'{k}/data/embeddings/none')
        (tmp_path/f'{k}/models.toml').write_text('')
        fault(root_); sealed(root_)
        status = main(['search', 'energy of training', '--preset', 'words', '--root', str(tmp_path/f'{k}')])
        said = capsys.readouterr().err
        assert status == 2 and 'is damaged' in said and 'defect' not in said, (k, status, said)


def gguf_file(*fields):
    "A GGUF file with these (name, number of its type, bytes of its value)."
    text = lambda s: struct.pack('<Q', len(s)) + s
    return b'GGUF' + struct.pack('<IQQ', 3, 0, len(fields)) + b''.join(text(k) + struct.pack('<I', kind) + value for k, kind, value in fields)


@pytest.mark.parametrize('fields', [((b'x', 9, struct.pack('<IQ', 9, 1) * 5000),), ((b'x', 9, struct.pack('<IQ', 4, 2**63)),), ((b'x', 9, struct.pack('<IQQ', 8, 3, 2**64 - 1)),),
    ((b'general.file_type', 9, struct.pack('<IQI', 4, 1, 3)),), ((b'.attention.head_count', 9, struct.pack('<IQ', 4, 0)), (b'.embedding_length', 4, struct.pack('<I', 9))),
    ((b'.attention.head_count_kv', 8, struct.pack('<Q', 1) + b'x'),), ((b'.attention.head_count_kv', 4, struct.pack('<I', 1)), (b'.block_count', 4, struct.pack('<I', 1)), (b'.attention.key_length', 6, struct.pack('<f', math.inf)))],
    ids='depth seek text type heads word infinite'.split())
def test_headers_of_foreign_gguf_files_are_a_line(tmp_path, fields):
    from wattnb.core.workspace import WorkError
    from wattnb.llm.gguf import read_gguf
    (tmp_path/'x.gguf').write_bytes(gguf_file(*fields))
    with pytest.raises(WorkError, match=r'x\.gguf (is not a GGUF file, or is cut off|has sizes in its header that no model has)'): read_gguf(tmp_path/'x.gguf')


@pytest.mark.parametrize('tensor', [dict(data_offsets=[1]), dict(data_offsets=[None, 3]), dict(shape=None), dict(shape='ab'), dict(shape=[math.inf]), dict(shape=[-1, 4]), dict(dtype=5), '['])
def test_tensors_that_are_none_are_left_out(tmp_path, tensor):
    "Headers of safetensors files with other values than a checkpoint has."
    from wattnb.llm.memory import checkpoint_tensors
    good = dict(dtype='F32', shape=[2, 2], data_offsets=[0, 16])
    raw = (tensor * 200_000 if tensor == '[' else json.dumps(dict(good=good, bad=good | tensor))).encode()
    (tmp_path/'model.safetensors').write_bytes(struct.pack('<Q', len(raw)) + raw)
    assert [t.name for t in checkpoint_tensors(tmp_path)] == ['good'] * (tensor != '[')


LOCAL = '127.1 2130706433 0x7f000001 017700000001 0 [::1] [::] [::ffff:127.0.0.1] [::127.0.0.1] [::ffff:0:127.0.0.1] [fec0::1] [fe80::1] [fd00::1] [64:ff9b::10.0.0.1] [64:ff9b:1::7f00:1] [2002:7f00:1::] [ff02::1] 169.254.169.254 100.64.0.1 240.0.0.1'

def test_no_spelling_of_a_local_address_is_fetched(tmp_path, monkeypatch):
    "Every spelling of an address of this machine or a private network is refused, also where a proxy would ask; an address that is none is that paper's line."
    from wattnb.core.workspace import Workspace
    from wattnb.index.corpus import Paper, fetch_papers
    monkeypatch.delenv('WATTNB_ALLOW_LOCAL', raising=False)
    (tmp_path/'data').mkdir()
    hosts = LOCAL.split()
    papers = [Paper(f'p{k}', url=f'http://{h}:9/x.pdf') for k, h in enumerate([*hosts, 'localhost', 'localhost.', 'x.localhost'])]
    odd = [Paper(f'o{k}', url=u) for k, u in enumerate(('http://xn--/', 'http://[x', 'http://a:99999/', 'file:///etc/passwd', 'data:,x', 'gopher://x', 'http://user@127.0.0.1:9/', ''))]
    for proxy in (None, 'http://127.0.0.1:9'):
        if proxy: monkeypatch.setenv('http_proxy', proxy)
        got = {r.id: r.reason for r in fetch_papers(Workspace(tmp_path), [*papers, *odd], retries=0, timeout=2)}
        for p in papers: assert '--allow-local' in got[p.id], (p.url, got[p.id])
        assert all(got[p.id] for p in odd), got


def test_a_key_goes_to_no_server_that_only_a_file_names(tmp_path, monkeypatch, caplog):
    "A models.toml that gives a familiar model another address gets no key, unless the environment names its host."
    from wattnb.core.workspace import Workspace
    from wattnb.llm import calls
    from wattnb.llm.protocol import Request, open_model
    from wattnb.llm.registry import load_registry
    from wattnb.testing.server import FakeServer
    monkeypatch.setattr(calls, 'loopback_port', lambda url: None) # the server stands for one elsewhere
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-never-sent-0123456789')
    (tmp_path/'data').mkdir()
    with FakeServer() as server:
        seen, serve, tell = [], server._serve, server._tell
        server._serve = lambda h: (seen.append(h.headers.get('Authorization')), serve(h))
        server._tell = lambda h, *a: (seen.append(h.headers.get('Authorization')), tell(h, *a))
        url = server.env()['OPENAI_BASE_URL']
        (tmp_path/'models.toml').write_text(f'[model.gpt-mine]\nprovider = "openai"\nid = "gpt-mine"\noptions = {{ base_url = "{url}" }}\n')
        entry = load_registry(Workspace(tmp_path)).find('gpt-mine')
        for hosts, sent in (('', {None}), ('other.example', {None}), ('127.0.0.1', {'Bearer sk-never-sent-0123456789'})):
            monkeypatch.setenv('WATTNB_KEY_HOSTS', hosts)
            seen.clear(); caplog.clear()
            with open_model(entry, ws=Workspace(tmp_path)) as m: m.complete([Request('q', '', 'hello')])
            assert seen and set(seen) == sent, (hosts, seen)
            assert ('OPENAI_API_KEY is not sent' in caplog.text) == (sent == {None})


def test_texts_of_others_in_markdown_and_latex_are_texts():
    "No HTML, link, picture or formula of a name, an answer or a paper is live in the Markdown of a result; no brace or command of one in its LaTeX."
    MarkdownIt = pytest.importorskip('markdown_it').MarkdownIt
    from wattnb.core.tables import ResultTable
    from wattnb.retrieval.context import Block, Context
    bad = ['<img src=x onerror=alert(1)>', '<script>x</script>', '![p](http://e/i)', '[l](javascript:alert(1))', '\\<b>', '\\\\<b>', '<http://e>', '[r]: http://e', '[r]', '&lt;b&gt;', '$x$', '|', '`<b>`', '</td><b>', '<!-- x', '[a][r]', '\r\n\r\n<b>x</b>']
    t = ResultTable(bad[:3], [bad[:3], bad[3:6]], ' '.join(bad), bad)
    md = MarkdownIt('commonmark', dict(html=True)).enable('table')
    for text in (t.to_markdown(), *(ResultTable(['x'], [[b]], b, [b, 'x ' + b]).to_markdown() for b in bad), Context((Block('a', 1, ' '.join(bad), '\n'.join(bad), 1., 1, ()),))._repr_markdown_()):
        live = re.findall(r'<(?!/?(?:table|thead|tbody|tr|th|td|p|em|strong|code|br|blockquote|ul|li)\b)[^>]*>', md.render(text))
        assert not live, (live, text)
    tex = ResultTable(['x'], [[r'\input{/etc/passwd}\write18{id}^^M' + '\r\n\r\n']]).to_latex()
    assert '\\input' not in tex and '\\write' not in tex and '^' not in tex.replace('\\textasciicircum', '') and '\r' not in tex


def test_pages_permit_no_script_but_the_one_that_sorts(there):
    "The head of the report and of its tables permits no request, and of scripts only the handler that is in the page."
    import base64, html
    ws, _ = there
    if not (page := ws/'artifacts/reports/report.html').exists(): assert wattnb('report', '--html', cwd=ws)[0] == 0
    text = page.read_text('utf-8')
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    handlers = {html.unescape(h) for h in re.findall(r'\sonclick="([^"]*)"', text)}
    assert handlers and {base64.b64encode(hashlib.sha256(h.encode()).digest()).decode() for h in handlers} == allowed
    assert "default-src 'none'" in policy and "'unsafe-inline'" not in policy.split('script-src')[1] and text.index('Content-Security-Policy') < text.index('<main')
    assert 'Content-Security-Policy' in (ws/'artifacts/reports/report-tables/tables.html').read_text('utf-8')
