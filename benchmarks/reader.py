"""Pages per second of the PDF reader beside those of the first one (pypdf with guessed widths), in one run, in turns. Prints Markdown.

    python benchmarks/reader.py [--rounds 7] [--papers 280] [PDF ...]

Without files the 14 papers of the demo are read, and the evidence of the demo's questions is looked up in the text of its page. The first reader is taken from git.
Seconds are those of the processor, of one process that has read the files once. With `--papers` they are those by the clock that a user waits for: of the stage
"reading papers" of `wattnb index` in a new process, with the processes that it starts and the files that it writes, for a corpus of that many papers (copies of the files).
"""
import argparse, csv, io, json, os, statistics, subprocess, sys, tarfile, tempfile
from pathlib import Path

root = Path(__file__).resolve().parent.parent
FIRST = 'cdf77a4'
IMPORTS = dict(now='from wattnb.core.workspace import Workspace; from wattnb.index.corpus import build_corpus; from wattnb.index.documents import page_text, parse_pdf',
               first='from wattnb.workspace import Workspace; from wattnb.corpus import _page_text as page_text, build_corpus, parse_pdf')
READ = '''
import json, sys, time
files = json.loads(sys.argv[1])
for f in files: parse_pdf(f)
for line in sys.stdin:
    t, n = time.process_time(), 0
    while (s := time.process_time() - t) < .5: docs, n = [parse_pdf(f) for f in files], n + 1
    print(json.dumps(dict(seconds=s / n, pages=sum(d.pages for d in docs), texts=[[page_text(x) for x in d.sections] for d in docs])), flush=True)
'''
CORPUS = '''
import shutil, sys, tempfile, json, time
from pathlib import Path
files, n = json.loads(sys.argv[1]), int(sys.argv[2])
sys.stdin.readline()
with tempfile.TemporaryDirectory(dir=sys.argv[3]) as d:
    ws = Workspace(Path(d)); ws.pdfs.mkdir(parents=True)
    ids = [f'p{k}' for k in range(n)]
    ws.metadata.write_text('id,type,title,year,citation,url\\n' + ''.join(f'{i},paper,T,2030,C,\\n' for i in ids))
    for k, i in enumerate(ids): shutil.copy(files[k % len(files)], ws.pdfs/f'{i}.pdf')
    t = time.monotonic(); r = build_corpus(ws, fetch=False); s = time.monotonic() - t
assert len(r.ok) == n, r.failed
print(json.dumps(dict(seconds=s, pages=sum(g['pages'] for g in r.gates.values()))), flush=True)
'''


def start(which, package, *args):
    "A process with a reader, which measures once for each line."
    code = IMPORTS[which] + (CORPUS if len(args) > 1 else READ)
    return subprocess.Popen([sys.executable, '-c', code, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=package, env=os.environ | dict(PYTHONPATH=str(package), WATTNB_PROGRESS='0'))


def ask(p):
    p.stdin.write('\n'); p.stdin.flush()
    return json.loads(p.stdout.readline())


def end(p): p.stdin.close(); p.wait()


def asked_once(which, *args):
    p = start(which, *args)
    try: return ask(p)
    finally: end(p)


def found(texts, files):
    "Cells and quotes of the demo's evidence that are in the text of their page, of all."
    text, plain = {f.stem: t for f, t in zip(files, texts)}, lambda s: ' '.join(s.split())
    rows = list(csv.DictReader(open(root / 'data/demo_evidence.csv', encoding='utf-8')))
    has = lambda r: all(plain(part) in plain(text[r['document_id']][int(r['page']) - 1]) for part in ([r['evidence']] if r['kind'] != 'cell' else [x for x in r['evidence'].split(' | ')[::2]]))
    return {k: f'{sum(map(has, of))} of {len(of)}' for k in ('cell', 'quote', 'figure') if (of := [r for r in rows if r['kind'] == k])}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('pdfs', nargs='*', type=Path); p.add_argument('--rounds', type=int, default=7); p.add_argument('--papers', type=int)
    a = p.parse_args()
    files = [f.resolve() for f in a.pdfs] or sorted((root / 'data/pdfs').glob('*.pdf'))
    with tempfile.TemporaryDirectory() as tmp:
        tarfile.open(fileobj=io.BytesIO(subprocess.run(['git', 'archive', FIRST, 'wattnb'], cwd=root, capture_output=True, check=True).stdout)).extractall(tmp, filter='data')
        args = [json.dumps(list(map(str, files))), *([str(a.papers), tmp] if a.papers else [])]
        packages = dict(now=root, first=tmp)
        if a.papers: rounds = [{k: asked_once(k, at, *args) for k, at in packages.items()} for _ in range(a.rounds)]
        else:
            readers = {k: start(k, at, *args) for k, at in packages.items()}
            rounds = [{k: ask(r) for k, r in readers.items()} for _ in range(a.rounds)]
            for r in readers.values(): end(r)
    rate = {k: [r[k]['pages'] / r[k]['seconds'] for r in rounds] for k in packages}
    columns = ['reader', f'pages per second{"" if a.papers else " of processor time"}', 'ms a paper', 'pages']
    if table := not (a.pdfs or a.papers): columns += ['cells', 'quotes', 'captions of figures']
    print(f'| {" | ".join(columns)} |', '|---' * len(columns) + '|', sep='\n')
    for k in rate:
        more = found(rounds[0][k]['texts'], files).values() if table else ()
        ms = 1e3 * statistics.median(r[k]['seconds'] for r in rounds) / (a.papers or len(files))
        print('|', ' | '.join([k, f'{statistics.median(rate[k]):.0f} ({min(rate[k]):.0f} to {max(rate[k]):.0f})', f'{ms:.2f}', str(rounds[0][k]['pages']), *more]), '|')
    ratios = [x / y for x, y in zip(rate['now'], rate['first'])]
    print(f'\nratio: {statistics.median(ratios):.2f}; of rounds: ' + ', '.join(f'{x:.2f}' for x in ratios))


if __name__ == '__main__': main()
