"""Retrieval: quality and cost, one command. python benchmarks/retrieval.py [WORKSPACE] [--big]

Quality of every preset on the workspace's question files (the demo set, and train_QA.csv where it is); the index's build time beside
a bare loop that only embeds the same passages; its size; the first query of a fresh process; 1,200 queries in one batch beside the bare
matrix product; with --big also HNSW on a million made-up vectors."""
import os, resource, subprocess, sys, tempfile, time
from pathlib import Path

os.environ.setdefault('WATTNB_PROGRESS', '0')
import numpy as np
from wattnb.corpus import build_corpus
from wattnb.index import Index, build_index, open_index
from wattnb.questions import read_questions
from wattnb.retrieval import PRESETS
from wattnb.retrieval_metrics import evaluate_retrieval
from wattnb.workspace import Workspace

args = [a for a in sys.argv[1:] if not a.startswith('--')]
ws = Workspace.find(args[0] if args else None)
corpus = build_corpus(ws)
print(f'{len(corpus.ok)} documents, {os.cpu_count()} cores')

with tempfile.TemporaryDirectory(dir=ws.embeddings.parent) as tmp:
    name = Path(tmp).name
    t = time.perf_counter(); built = build_index(ws, name=f'bench-{name}', corpus=corpus); build = time.perf_counter() - t
ix = open_index(ws, f'bench-{name}'); ix.load_embedder()
texts = [p.search_text for p in ix.passages]
t = time.perf_counter(); ix._embedder.passages(texts); bare = time.perf_counter() - t
size = sum(f.stat().st_size for f in ix.folder.rglob('*') if f.is_file()) / 1e6
print(f'index: {len(ix)} passages, built in {build:.1f} s, bare embedding {bare:.1f} s, ratio {build / bare:.2f}; {size:.1f} MB on disk')

code = f'''import time; t = time.perf_counter()
from wattnb.index import open_index; from wattnb.retrieval import PRESETS, retrieve; from wattnb.workspace import Workspace
retrieve(open_index(Workspace.find({str(ws.root)!r}), {ix.name!r}), ["What was the energy of training?"], PRESETS["words"]); print(time.perf_counter() - t)'''
print('cold open and first query, fresh process, no torch:', subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip()[:6], 's')

n = max(len(ix), 25_000)
big = np.random.default_rng(0).normal(size=(n, 384)).astype('float32'); big /= np.linalg.norm(big, axis=1, keepdims=True)
q = big[:1200] + .1
ix.__dict__['vectors'], ix.manifest['n_passages'] = big, n
best = lambda f: min((lambda t: (f(), time.perf_counter() - t)[1])(time.perf_counter()) for _ in range(3))
product, search = best(lambda: q @ big.T), best(lambda: ix.dense(q, 60, 'exact'))
print(f'1,200 queries over {n:,} vectors: matrix product {product:.3f} s, search {search:.3f} s (ratio {search / product:.2f}), {1200 / search:,.0f} queries/s')

if '--big' in sys.argv:
    import hnswlib
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(2000, 384)).astype('float32')
    v = centres[rng.integers(0, 2000, 1_000_000)] + .5 * rng.normal(size=(1_000_000, 384)).astype('float32'); v /= np.linalg.norm(v, axis=1, keepdims=True)
    g = hnswlib.Index('ip', 384); g.init_index(len(v), ef_construction=100, M=16); t = time.perf_counter(); g.add_items(v); print(f'HNSW of 1M vectors built in {time.perf_counter() - t:.0f} s')
    qs = v[rng.integers(0, len(v), 1000)] + .02 * rng.normal(size=(1000, 384)).astype('float32')
    true = np.vstack([np.argpartition(-(qs[i:i + 100] @ v.T), 10, 1)[:, :10] for i in range(0, 1000, 100)])
    for ef in (40, 80, 160, 320):
        g.set_ef(ef); t = time.perf_counter(); rows, _ = g.knn_query(qs, 10); s = time.perf_counter() - t
        print(f'  ef {ef}: recall@10 {np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, true)]):.3f}, {1000 / s:,.0f} queries/s')

ix = open_index(ws, ix.name)
for f in ('demo_QA.csv', 'train_QA.csv'):
    if (ws.data / f).exists():
        gold = {r.lower() for q in read_questions(ws.data / f) for r in q.refs}
        if not gold <= {d.lower() for d in ix.manifest['documents']}: continue
        print(f'\n{f}'); print(evaluate_retrieval(ix, read_questions(ws.data / f), [p for p in PRESETS if p != 'legacy']).to_text())
import shutil; shutil.rmtree(ix.folder)
