"""Cost of an index: python benchmarks/index.py [WORKSPACE] [--embedder KEY] [--copies] [--json FILE]

Build time beside a bare loop that only embeds the same passages, by the clock and in seconds of the processor (which other work on the machine does not change);
and with texts without the titles of their papers, to see what these cost; size on disk; opening it and the first query in a fresh process (torch is not
loaded: the preset `words`); and with --copies the peak memory of a build over the papers and over ten copies of each."""
import json, os, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

os.environ.setdefault('WATTNB_PROGRESS', '0')
from wattnb.index.corpus import build_corpus
from wattnb.index.store import DEFAULT_EMBEDDER, build_index, open_index
from wattnb.core.workspace import Workspace

FRESH = '''import sys, time; t = time.perf_counter()
from wattnb.index.store import open_index; from wattnb.retrieval.queries import PRESETS; from wattnb.retrieval.search import retrieve; from wattnb.core.workspace import Workspace
r = retrieve(open_index(Workspace.find(sys.argv[1]), sys.argv[2]), ["How much electricity did training take?"], PRESETS["words"])
assert r[0].hits and "torch" not in sys.modules; print(time.perf_counter() - t)'''
BUILD = '''import os, resource, sys; os.environ["WATTNB_PROGRESS"] = "0"
from wattnb.index.store import build_index; from wattnb.core.workspace import Workspace
if sys.argv[2] != "none": import onnxruntime, tokenizers
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
r = build_index(Workspace.find(sys.argv[1]), embedder=sys.argv[2])
print(r.documents, r.passages, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, r.seconds)'''


def copies(ws, tmp, n):
    "A workspace in which each JSON document of `ws` is there n times."
    root = Path(tmp) / f'x{n}'
    for d in ('data/corpus', 'artifacts'): (root / d).mkdir(parents=True)
    for p in sorted(ws.corpus.glob('*.json')):
        o = json.loads(p.read_text('utf-8'))
        o['metadata'] = {k: v for k, v in o['metadata'].items() if k != 'pdf_sha256'}
        for i in range(n): (root / f'data/corpus/{p.stem}-{i}.json').write_text(json.dumps(o | dict(document_id=f'{p.stem}-{i}')), 'utf-8')
    return root


def memory(ws):
    out = {}
    with tempfile.TemporaryDirectory() as tmp:
        for embedder in ('none', DEFAULT_EMBEDDER):
            for n in (1, 10):
                root = Path(tmp) / f'x{n}'
                if not root.exists(): copies(ws, tmp, n)
                p = subprocess.run([sys.executable, '-c', BUILD, str(root), embedder], capture_output=True, text=True)
                if p.returncode: raise SystemExit(p.stderr)
                d, k, before, peak, s = map(float, p.stdout.split()[-5:])
                out[f'{embedder} x{n}'] = dict(documents=int(d), passages=int(k), peak_mb=peak / 1e3, above_imports_mb=(peak - before) / 1e3, seconds=s)
                print(f'memory, embedder {embedder}: {d:.0f} documents, {k:,.0f} passages: peak {peak / 1e3:,.0f} MB ({(peak - before) / 1e3:,.0f} above the imports), {s:.1f} s', flush=True)
    return out


def bare(embedder, texts):
    "Seconds by the clock and of the processor to embed texts, longest first, and nothing else."
    order, model = sorted(texts, key=len, reverse=True), embedder.load()._model
    options = {} if embedder.entry.provider == 'onnx' else dict(batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    n = 32 if options else 256
    t, c = time.perf_counter(), time.process_time()
    for a in range(0, len(order), n): model.encode(order[a:a + n], **options)
    return time.perf_counter() - t, time.process_time() - c


def cost(ws, key):
    corpus = build_corpus(ws)
    name = f'bench-{os.getpid()}'
    try:
        b = build_index(ws, name=f'{name}-warm', embedder='none', corpus=corpus) # imports and file cache
        shutil.rmtree(b.index_dir)
        build_index(ws, name=name, embedder=key, corpus=corpus)
        ix = open_index(ws, name).load_embedder()
        texts = [p.search_text for p in ix.passages]
        short = [p.section + '\n' + p.text for p in ix.passages]
        ratios, cpu = [], []
        for _ in range(2):
            shutil.rmtree(ix.folder)
            t, c = time.perf_counter(), time.process_time()
            built = build_index(ws, name=name, embedder=key, corpus=corpus)
            build, build_cpu = time.perf_counter() - t, time.process_time() - c
            (loop, loop_cpu), (_, short_cpu) = bare(ix._embedder, texts), bare(ix._embedder, short)
            ratios.append(build / loop); cpu.append(build_cpu / loop_cpu)
            print(f'{built.documents} documents, {built.passages:,} passages, {key}: index built in {build:.1f} s, bare embedding loop {loop:.1f} s, ratio {ratios[-1]:.3f}; '
                  f'of the processor {build_cpu:.1f} and {loop_cpu:.1f} s, ratio {cpu[-1]:.3f}; without titles {short_cpu:.1f} s', flush=True)
        size = sum(f.stat().st_size for f in ix.folder.rglob('*') if f.is_file()) / 1e6
        runs = [float(subprocess.run([sys.executable, '-c', FRESH, str(ws.root), name], capture_output=True, text=True, check=True).stdout) for _ in range(5)]
        print(f'{size:.1f} MB on disk; cold open and first query in a fresh process: {statistics.median(runs):.2f} s (median of 5, worst {max(runs):.2f})')
        return dict(passages=built.passages, embedder=key, build_s=build, bare_s=loop, ratio=min(ratios), ratio_cpu=min(cpu), without_titles=short_cpu / loop_cpu, mb=size, first_query_s=statistics.median(runs))
    finally: shutil.rmtree(ws.embeddings / name, ignore_errors=True); shutil.rmtree(ws.embeddings / f'.{name}.build', ignore_errors=True); shutil.rmtree(ws.embeddings / f'.{name}-warm.build', ignore_errors=True)


if __name__ == '__main__':
    key = sys.argv[sys.argv.index('--embedder') + 1] if '--embedder' in sys.argv else DEFAULT_EMBEDDER
    paths = [a for a in sys.argv[1:] if not a.startswith('--') and not a.endswith('.json') and a != key]
    ws = Workspace.find(paths[0] if paths else None)
    out = dict(memory=memory(ws)) if '--copies' in sys.argv else dict(cost=cost(ws, key))
    if '--json' in sys.argv: Path(sys.argv[sys.argv.index('--json') + 1]).write_text(json.dumps(out, indent=1))
