"""A synthetic competition of the form of WattBot 2026, from the four files to a gated submission and a bundle: papers fetched from a server of this
machine, answered by a baseline and by a real small model, scored by our rules and by a scorer that was written without our code."""
import contextlib, io, json, re, threading, zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from conftest import CANARY
from test_tasks import SCORER
from wattnb.cli.command import main
from wattnb.core.questions import GATES, TASKS, read_questions
from wattnb.core.workspace import file_sha256, read_csv, read_json, write_csv
from wattnb.experiment.bundles import bundle_run, check_bundle, unpack_bundle
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.index.corpus import read_bibliography, read_manifest
from wattnb.index.documents import load_document
from wattnb.scoring.run_folders import find_run
from wattnb.testing.synthetic import synthetic_competition

data = Path(__file__).resolve().parent.parent / 'data'


def wattnb(ws, *words):
    "(exit status, JSON) of a command in the workspace."
    out = io.StringIO()
    with contextlib.redirect_stdout(out): status = main([words[0], '--json', '--root', str(ws.root), *map(str, words[1:])])
    return status, json.loads(out.getvalue())


@pytest.fixture(scope='module')
def cup(tmp_path_factory):
    "The competition's files, and the papers at a server: PDFs at their versions, a report as a web page."
    from wattnb.testing.synthetic import _REPORT
    asked = []
    class Library(BaseHTTPRequestHandler):
        def log_message(self, *a): pass
        def do_GET(self):
            asked.append(self.path)
            m = re.fullmatch(r'/pdf/(\w+)v\d', self.path)
            body = (data / f'pdfs/{m[1]}.pdf').read_bytes() if m else _REPORT.encode() if self.path == '/reports/sundal2031' else b''
            self.send_response(200 if body else 404); self.send_header('content-length', str(len(body))); self.end_headers(); self.wfile.write(body)
    s = ThreadingHTTPServer(('127.0.0.1', 0), Library); s.daemon_threads = True
    threading.Thread(target=s.serve_forever, args=(.05,), daemon=True).start()
    ws = synthetic_competition(tmp_path_factory.mktemp('cup') / 'study', f'http://127.0.0.1:{s.server_address[1]}', papers=False)
    (ws.root / 'models.toml').write_text('')
    status, found = wattnb(ws, 'index', '--embedder', 'none', '--allow-local')
    s.shutdown(); s.server_close()
    assert status == 0 and found['documents'] == 15 and len(asked) == 15, found
    return ws


@pytest.fixture(scope='module')
def train(cup):
    "The baseline's answers to the training questions, as a submission; (ours and the official score, as `wattnb score` prints them; the file)."
    run_all(plan_run(RunSettings('extractive', preset='words', questions='train_QA.csv', env='cup', name='train'), cup))
    status, found = wattnb(cup, 'submit', 'train')
    assert status == 0 and found['passes'] and found['task'] == 'wattbot2026', found['faults']
    return Path(found['file'])


@pytest.fixture(scope='module')
def answered(cup, request):
    "A run of the test questions by the command, with its executed notebook and a key in the environment."
    patch = pytest.MonkeyPatch()
    patch.setenv('OPENAI_API_KEY', CANARY)
    try: status, found = wattnb(cup, 'run', '--model', 'extractive', '--preset', 'words', '--questions', 'test_Q.csv', '--env', 'cup')
    finally: patch.undo()
    assert status == 0 and found['summary']['scores'] is None and found['summary']['status'] == 'complete'
    return find_run(cup, 'cup/test_Q/extractive-bench-words')


def test_the_papers_are_those_of_the_addresses(cup):
    bib, m = read_bibliography(cup.metadata), read_manifest(cup)
    assert {k: v['url'] for k, v in m.items()} == {k: p.url for k, p in bib.items()} and m['sundal2031']['file'] == 'pdfs/sundal2031.html'
    assert bib['brandvik2031'].url.endswith('/pdf/brandvik2031v1') and bib['castellan2030'].url.endswith('v2') and bib['brandvik2031'].peer_reviewed and not bib['castellan2030'].peer_reviewed
    assert wattnb(cup, 'index', '--verify') == (0, dict(papers=15, ok=True, differs=[]))
    table = [p for p in load_document(cup.corpus / 'sundal2031.json').paragraphs if p.metadata['kind'] == 'table']
    assert [p.metadata['cells'] for p in table] == [['Asvik', '26', '19'], ['Berle', '4', '19'], ['Corno', '11', '15']] and 'Asvik: MW: 26; Calls: 19' in table[0].text


def test_ours_and_the_scorer_are_equal_row_by_row(cup, train):
    "Of a baseline's answers, of right answers in other spellings, and of wrong ones near to them."
    (cup.root / 'Score.py').write_text(SCORER)
    rows = read_csv(train).rows
    def other(value):
        if value.startswith('['): low, high = json.loads(value); return f'{(low + high) / 2:g}'
        if value.startswith('('): return '(' + ' , '.join(reversed(value[1:-1].split(','))) + ')' if re.search('[A-Z]', value) else value.replace(',', ', ')
        try: return f'{float(value) * 1.0005:.8g}'
        except ValueError: return value if value == 'is_blank' else f'The {value.upper()}.'
    truth = read_csv(cup.data / 'train_QA.csv').rows
    right = [r | dict(answer_value=other(t['answer_value']), ref_id=t['ref_id']) for r, t in zip(rows, truth)]
    near = [r | dict(answer_value=re.sub(r'\d', lambda m: str((int(m[0]) + 1) % 10), r['answer_value'], count=1), ref_id='["brandvik2031", "novak2030"]') for r in right]
    files = {'baseline': train, 'right': cup.root / 'right.csv', 'near': cup.root / 'near.csv'}
    for name, of in (('right', right), ('near', near)): write_csv(files[name], list(rows[0]), of)
    scores = {}
    for name, f in files.items():
        status, s = wattnb(cup, 'score', cup.data / 'train_QA.csv', f, '--scorer', cup.root / 'Score.py')
        assert status == 0 and abs(s['overall'] - s['official']['score']) < 1e-12 and s['official']['differences'] == [] and s['task']['name'] == 'wattbot2026', (name, s['official'])
        scores[name] = s
    kept = read_json(Path(scores['baseline']['official']['recorded'])) # of the run's submission, and of no other file
    assert kept['official'] == scores['baseline']['official']['score'] and kept['submission_sha256'] == file_sha256(train) and kept['scorer_sha256'] == file_sha256(cup.root / 'Score.py')
    assert Path(scores['baseline']['official']['recorded']).with_name('journal.jsonl').is_file() and not scores['right']['official']['recorded'] and not (cup.root / 'official_score.json').exists()
    assert scores['right']['value_accuracy'] == scores['right']['ref_overlap'] == 1 and scores['near']['value_accuracy'] < .3 < scores['baseline']['overall'] < .9
    assert {t['answer_value'][:1] for t in truth} >= {'[', '('} and {n for n in TASKS['wattbot2026'].flags} == set(read_questions(cup.data / 'train_QA.csv').flag_names)


def test_test_questions_are_answered_and_packed(cup, answered):
    "A file without answers is answered, passes the gate, and its score against the hidden answers is that of the scorer."
    status, found = wattnb(cup, 'submit', 'cup/test_Q/extractive-bench-words')
    questions = read_questions(cup.data / 'test_Q.csv')
    rows = read_csv(found['file']).rows
    assert status == 0 and found['passes'] and not questions.labelled and [r['id'] for r in rows] == [q.id for q in questions]
    assert [r['answer_unit'] for r in rows] == [q.answer_unit for q in questions]
    (cup.root / 'Score.py').write_text(SCORER)
    status, s = wattnb(cup, 'score', cup.data / 'test_solutions.csv', found['file'], '--scorer', cup.root / 'Score.py')
    assert status == 0 and abs(s['overall'] - s['official']['score']) < 1e-12 and not s['official']['differences']


FAULTS = [ # what is done to the file: a cell of the first answered row, or the rows; rule; a part of what the gate says
    (dict(answer_value='<3'), 'forbidden', 'contains <'), (dict(answer_value='~3'), 'forbidden', 'contains ~'), (dict(explanation=''), 'empty', 'missing cell'),
    (dict(answer='NA'), 'empty', "'NA'"), (dict(supporting_materials='null'), 'empty', "'null'"), (dict(answer_unit='parsecs'), 'unit', 'the question gives'),
    (dict(ref_id='["nobody2030"]'), 'unknown_paper', "'nobody2030' is not in the bibliography"), (dict(ref_url='["https://papers.example.org/pdf/x"]'), 'other_url', 'pins'),
    (dict(ref_url='is_blank'), 'blanks', 'all four belong together'), (dict(answer_value='is_blank'), 'blanks', 'all four belong together'),
    (dict(explanation='is_blank'), 'unexplained', 'needs an explanation'), (dict(ref_id='["brandvik2031", "castellan2030"]'), 'url_count', '2 papers and 1 addresses'),
    (dict.fromkeys(('answer_value', 'ref_url', 'supporting_materials'), 'is_blank') | dict(ref_id='[]'), 'refusal', "'[]' in a refusal"), (dict(answer='#N/A'), 'empty', "'#N/A'"),
    (lambda rows: rows[:3] + rows[4:], 'missing', 'has no row'), (lambda rows: [*rows, rows[0]], 'double', 'also on line 2'), (lambda rows: [rows[1], rows[0], *rows[2:]], 'order', 'not in the order'),
    (lambda rows: [rows[0] | dict(id='q999'), *rows[1:]], 'unknown', 'no question has this id')]


def test_the_gates_are_those_of_the_tasks(): assert {rule for _, rule, _ in FAULTS} == set(GATES) - {'uncited'} # that of 2025, where blanks stand alone


@pytest.mark.parametrize('change, rule, said', FAULTS, ids=[f'{rule}-{i}' for i, (_, rule, _) in enumerate(FAULTS)])
def test_a_planted_fault_fails_the_gate_with_its_row(cup, answered, tmp_path, change, rule, said):
    _, found = wattnb(cup, 'submit', 'cup/test_Q/extractive-bench-words')
    rows = read_csv(found['file']).rows
    k = next(i for i, r in enumerate(rows) if r['answer_value'] != 'is_blank')
    changed = change(rows) if callable(change) else [r | change if i == k else r for i, r in enumerate(rows)]
    write_csv(bad := tmp_path / 'bad.csv', list(rows[0]), changed)
    status, found = wattnb(cup, 'submit', bad, '--questions', 'test_Q.csv')
    hit = next(f for f in found['faults'] if f['rule'] == rule)
    assert status == 1 and not found['passes'] and said in hit['message'], found['faults']
    if not callable(change): assert (hit['line'], hit['id']) == (k + 2, rows[k]['id']) and {f['id'] for f in found['faults']} == {rows[k]['id']}


@pytest.fixture(scope='module')
def packed(cup, answered):
    "(zip, its texts) of the bundle of the test run."
    wattnb(cup, 'submit', 'cup/test_Q/extractive-bench-words')
    status, found = wattnb(cup, 'bundle', 'cup/test_Q/extractive-bench-words')
    assert status == 0 and found['gate_faults'] == 0 and not found['notes'], found['notes']
    with zipfile.ZipFile(found['file']) as z: return Path(found['file']), {n: z.read(n).decode() for n in z.namelist()}


def test_the_bundle_holds_the_submission_and_what_a_re_run_needs(cup, answered, packed):
    file, texts = packed
    assert texts['submission.csv'].encode() == (cup.artifacts / 'submissions/cup/test_Q/extractive-bench-words.csv').read_bytes()
    assert set(texts) == {'manifest.json', 'config.json', 'machine.json', 'papers.json', 'prompts.json', 'requirements.txt', 'ro-crate-metadata.json', 'submission.csv', 'writeup.md',
                          'run/journal.jsonl', 'run/submission.csv', 'run/summary.json', 'run/run_experiment.ipynb'}
    config, papers, prompts = (json.loads(texts[n]) for n in ('config.json', 'papers.json', 'prompts.json'))
    assert config['questions']['sha256'] == read_questions(cup.data / 'test_Q.csv').sha256 and config['task']['name'] == 'wattbot2026' and not config['questions']['labelled']
    assert {p['id']: p['sha256'] for p in papers} == {k: v['sha256'] for k, v in read_manifest(cup).items()} and all(p['pages'] for p in papers)
    assert len(prompts['sent']) >= config['questions']['n'] and 'Not scored: the question file has no answers' in texts['writeup.md'] and 'not measured: ' in texts['writeup.md']
    graph = {x['@id']: x for x in json.loads(texts['ro-crate-metadata.json'])['@graph']}
    refs = {r['@id'] for x in graph.values() for v in x.values() for r in (v if isinstance(v, list) else [v]) if isinstance(r, dict)}
    assert refs - set(graph) == {'https://w3id.org/ro/crate/1.1'} and graph['#questions']['sha256'] == config['questions']['sha256']
    assert {x.get('sha256') for k, x in graph.items() if k.startswith('#paper-')} == {p['sha256'] for p in papers} and not {'agent', 'author', 'publisher'} & {k for x in graph.values() for k in x}
    assert 'value' not in graph['#energy'] and graph['#energy']['description'].startswith('not measured: ') # a missing measurement is no 0
    assert file.read_bytes() == bundle_run(answered, cup, cup.root / 'again.zip')[0].read_bytes()


def test_no_key_and_no_path_of_the_machine_leaves_it(cup, packed):
    _, texts = packed
    for name, text in texts.items():
        assert CANARY not in text and str(cup.root) not in text, name
        assert not re.search(r'(?<![\w/.$])/(?:home|root|work|tmp|Users|var/folders)/[\w.-]+', text.replace('\\/', '/')), (name, re.search(r'.{60}(?<![\w/.$])/(?:home|root|work|tmp|Users|var/folders)/[\w.-]+', text))
    assert '$WORKSPACE' in texts['run/run_experiment.ipynb']


def planted(path, texts, **files):
    "The bundle with other texts, at `path`."
    with zipfile.ZipFile(path, 'w') as z:
        for n, t in {**texts, **files}.items(): z.writestr(n, t)
    return path


def test_the_check_derives_the_submission_and_names_what_differs(cup, packed, tmp_path):
    "Whole: passes in a folder without a workspace. Changed: one line for each thing that differs, and exit status 1."
    file, texts = packed
    assert main(['bundle', '--check', str(file)]) == 0
    swap = lambda name, old, new: {name: texts[name].replace(old, new, 1)}
    line = texts['run/journal.jsonl'].splitlines(keepends=True)
    plants = {
        'run/journal.jsonl': ({'run/journal.jsonl': ''.join(line[:9] + line[10:])}, 'journal is whole', 'lines missing: 1, the first is number 9'),
        'submission.csv': (swap('submission.csv', 'is_blank', 'is_blamk'), 'submission.csv follows from the journal', 'line '),
        'run/summary.json': (swap('run/summary.json', '"status": "complete"', '"status": "budget"'), 'run/summary.json follows from the journal', 'status: "budget", derived "complete"'),
        'run/run_experiment.ipynb': (swap('run/run_experiment.ipynb', '"cells"', '"cels"'), 'run/run_experiment.ipynb', 'another SHA-256'),
        'manifest.json': (swap('manifest.json', '"bytes": ', '"bytes": 1'), 'config.json', 'another SHA-256'),
        'papers.json': (swap('papers.json', '"id": "brandvik2031"', '"id": "brandvik2032"'), 'papers.json has every paper that was shown', 'brandvik2031 is missing'),
        'writeup.md': (swap('writeup.md', 'Limits', 'Merits'), 'writeup.md has the numbers of the run', "'## Merits', derived '## Limits'")}
    for name, (change, check, why) in plants.items():
        found = {r['check']: r['why'] for r in check_bundle(planted(tmp_path / 'p.zip', texts, **change)) if r['result'] == 'failed'}
        assert why in found.get(check, '') and (name in found or name == 'manifest.json') and all(len(w.splitlines()) == 1 for w in found.values()), (name, found)
    assert main(['bundle', '--check', str(tmp_path / 'p.zip')]) == 1
    with zipfile.ZipFile(tmp_path / 'p.zip', 'a') as z: z.writestr('run/more.csv', 'x')
    assert ('run/more.csv', 'is not in the manifest') in [(r['check'], r['why']) for r in check_bundle(tmp_path / 'p.zip')]


def test_a_bundle_of_somebody_else_is_unpacked_with_care(packed, tmp_path, monkeypatch):
    "Bombs, doubled files, what is no zip: one line each, and nothing outside of the folder."
    import wattnb.experiment.bundles as bundles
    from wattnb.core.workspace import UserError, WorkError
    file, texts = packed
    monkeypatch.setattr(bundles, 'MAX_BUNDLE', 1 << 20)
    with zipfile.ZipFile(tmp_path / 'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('run/journal.jsonl', b'0' * (64 << 20))
    assert (tmp_path / 'bomb.zip').stat().st_size < 100_000
    with pytest.raises(WorkError, match='unpacks to more than 1 MB'): unpack_bundle(tmp_path / 'bomb.zip', tmp_path / 'a') if (tmp_path / 'a').mkdir() is None else None
    assert sum(p.stat().st_size for p in (tmp_path / 'a').rglob('*') if p.is_file()) <= 2 << 20
    with pytest.warns(UserWarning), zipfile.ZipFile(tmp_path / 'twice.zip', 'w') as z: z.writestr('a.csv', '1'); z.writestr('a.csv', '2')
    for name, raw, why in [('twice.zip', None, 'twice'), ('text.zip', b'hello', 'not a whole bundle'), ('empty.zip', b'', 'not a whole bundle')]:
        if raw is not None: (tmp_path / name).write_bytes(raw)
        with pytest.raises(WorkError, match=why): check_bundle(tmp_path / name)
    for words in (['bundle'], ['bundle', 'x', '--check', 'y'], ['bundle', '--check', str(tmp_path / 'none.zip')]): assert main(words) == 2
    with pytest.raises(UserError, match='is a .zip'): bundle_run(None, None, 'x.tar')


def test_a_small_model_goes_the_same_way(cup, tmp_path):
    "The embedded model answers three questions by llama.cpp; its run is submitted and bundled like the baseline's."
    pytest.importorskip('xllamacpp')
    run_all(plan_run(RunSettings('smollm2-135m', preset='words', questions='test_Q.csv', env='cup', name='small', limit=3, max_new_tokens=60, max_retries=0), cup))
    status, found = wattnb(cup, 'submit', 'small')
    assert found['rows'] == len(read_questions(cup.data / 'test_Q.csv')) and {f['rule'] for f in found['faults']} <= {'forbidden', 'empty', 'uncited', 'blanks'}, found['faults']
    assert status == int(not found['passes'])
    file, manifest = bundle_run(find_run(cup, 'small'), cup, tmp_path / 'small.zip')
    assert not [r for r in check_bundle(file) if r['result'] == 'failed'] and 'SmolLM2' in zipfile.ZipFile(file).read('writeup.md').decode()
    paths = [s['loaded']['path'] for s in json.loads(zipfile.ZipFile(file).read('machine.json'))]
    assert all(re.match(r'\$[A-Z]+/', p) for p in paths) and read_json(cup.experiments / 'cup/test_Q/small/summary.json')['engine'] == 'llama.cpp'


def test_a_local_checkpoint_and_a_run_from_elsewhere_leave_no_folder(cup, tmp_path):
    "What a run on another machine left (its home, its workspace in the notebook) is replaced as well; the check says nothing of it."
    run_all(plan_run(RunSettings('extractive', preset='words', questions='test_Q.csv', env='cup', name='elsewhere', limit=2), cup))
    folder = cup.experiments / 'cup/test_Q/elsewhere'
    nb = dict(cells=[dict(cell_type='code', source=['root = "/mnt/big/study"'], outputs=[], metadata={})], nbformat=4, nbformat_minor=5,
              metadata=dict(papermill=dict(parameters=dict(root='/mnt/big/study'), input_path='/opt/site/wattnb/nbs/run_experiment.ipynb')))
    (folder / 'run_experiment.ipynb').write_text(json.dumps(nb))
    file, _ = bundle_run(find_run(cup, 'elsewhere'), cup, tmp_path / 'e.zip')
    text = zipfile.ZipFile(file).read('run/run_experiment.ipynb').decode()
    assert 'mnt' not in text and '/opt' not in text and '$WORKSPACE' in text and '$PATH/run_experiment.ipynb' in text
    assert not [r for r in check_bundle(file) if r['result'] == 'failed']


def test_runs_of_other_kinds(cup, tmp_path, capsys):
    "Without retrieval; ended before its last question; no run of wattnb; a model whose checkpoint is a folder of this machine."
    run_all(plan_run(RunSettings('extractive', mode='closed-book', questions='test_Q.csv', env='cup', name='closed', limit=2, max_retries=0), cup))
    file, m = bundle_run(find_run(cup, 'closed'), cup, tmp_path / 'closed.zip')
    assert not [r for r in check_bundle(file) if r['result'] == 'failed'] and m['gate_faults'] == 0
    folder = cup.experiments / 'cup/test_Q/closed'
    lines = (folder / 'journal.jsonl').read_bytes().splitlines(keepends=True)
    (folder / 'journal.jsonl').write_bytes(b''.join(lines[:-1]) + b'{"torn')
    file, m = bundle_run(find_run(cup, 'closed'), cup, tmp_path / 'cut.zip')
    assert any('ended as killed' in n for n in m['notes']) and any('1 damaged lines' in n for n in m['notes']) and not [r for r in check_bundle(file) if r['result'] == 'failed']
    (folder / 'journal.jsonl').unlink()
    assert main(['bundle', 'cup/test_Q/closed', '--root', str(cup.root)]) == 2 and 'only runs of wattnb can be bundled' in capsys.readouterr().err
    assert not list(tmp_path.glob('*.tmp')) and not (cup.artifacts / 'bundles/cup/test_Q/closed.zip').exists()


KNOWN = {'/home/ada/study': '$WORKSPACE', '/home/ada': '$HOME', '/tmp': '$TMP'}
text = st.lists(st.sampled_from([*KNOWN, '/', 'x', ' ', '\n', '"', 'home', '.', '-', 'ada', '\\n', 'é', ':', '=']), max_size=9).map(''.join)


@settings(max_examples=300)
@given(st.recursive(text | st.integers() | st.none(), lambda c: st.lists(c, max_size=3) | st.dictionaries(text, c, max_size=3), max_leaves=6))
def test_cleaning_is_done_after_one_pass_and_changes_nothing_else(x):
    from wattnb.experiment.bundles import path_cleaner
    clean = path_cleaner(KNOWN)
    once = clean(x)
    assert clean(once) == once
    def texts(v): return [v] if isinstance(v, str) else [t for e in v for t in texts(e)] if isinstance(v, list) else [t for k, e in v.items() for t in (k, *texts(e))] if isinstance(v, dict) else []
    assert not [t for t in texts(once) if re.search(r'(?:^|[\s"=:])(?:/home/ada|/tmp)(?:$|[/\s"])', t)]
    if not any(k in t for t in texts(x) for k in KNOWN): assert once == x


def test_a_run_over_other_questions_is_no_submission(cup, answered, capsys):
    "Nothing is written, and a misspelt run is named as one."
    before = sorted((cup.artifacts / 'submissions').rglob('*.csv'))
    assert main(['submit', answered.id, '--questions', str(cup.data / 'train_QA.csv'), '--root', str(cup.root)]) == 2
    assert 'answers no question of train_QA.csv' in capsys.readouterr().err and before == sorted((cup.artifacts / 'submissions').rglob('*.csv'))
    for verb in ('submit', 'bundle', 'verify'):
        assert main([verb, 'nope', '--root', str(cup.root)]) == 2
        err = capsys.readouterr().err
        assert 'nope' in err and 'random_weights' not in err
