"""Pages per second of the PDF reader beside those of the reader that it replaced (pypdf with guessed widths), in one run, in turns. Prints Markdown.

    python benchmarks/reader.py [--rounds 7] [--papers 280] [PDF ...]

Without files the 14 papers of the demo are read, and the evidence of the demo's questions is looked up in the text of its page. The former reader is taken from git. `--papers`: the seconds of `wattnb index` up to its papers, for a corpus of that many papers (copies of the files), with its processes and its files.
"""
import argparse, csv, io, json, os, statistics, subprocess, sys, tarfile, tempfile
from pathlib import Path

root = Path(__file__).resolve().parent.parent
FORMER = '7c2971f'
READ = '''
import json, sys, time
from wattnb.index.documents import page_text, parse_pdf
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
from wattnb.core.workspace import Workspace
from wattnb.index.corpus import build_corpus
files, n = json.loads(sys.argv[1]), int(sys.argv[2])
for line in sys.stdin:
    with tempfile.TemporaryDirectory(dir=sys.argv[3]) as d:
        ws = Workspace(Path(d)); ws.pdfs.mkdir(parents=True)
        ids = [f'p{k}' for k in range(n)]
        ws.metadata.write_text('id,type,title,year,citation,url\\n' + ''.join(f'{i},paper,T,2030,C,\\n' for i in ids))
        for k, i in enumerate(ids): shutil.copy(files[k % len(files)], ws.pdfs/f'{i}.pdf')
        t = time.monotonic(); r = build_corpus(ws, fetch=False); s = time.monotonic() - t
    assert len(r.ok) == n, r.failed
    print(json.dumps(dict(seconds=s, pages=sum(g['pages'] for g in r.gates.values()))), flush=True)
'''


def reader(package, files, code=READ, *args):
    return subprocess.Popen([sys.executable, '-c', code, json.dumps(list(map(str, files))), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=package, env=os.environ | dict(PYTHONPATH=str(package), WATTNB_PROGRESS='0'))


def ask(p):
    p.stdin.write('\n'); p.stdin.flush()
    return json.loads(p.stdout.readline())


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
        tarfile.open(fileobj=io.BytesIO(subprocess.run(['git', 'archive', FORMER, 'wattnb'], cwd=root, capture_output=True, check=True).stdout)).extractall(tmp, filter='data')
        more = (CORPUS, str(a.papers), tmp) if a.papers else (READ,)
        readers = dict(now=reader(root, files, *more), former=reader(tmp, files, *more))
        rounds = [{k: ask(r) for k, r in readers.items()} for _ in range(a.rounds)]
        for r in readers.values(): r.stdin.close(); r.wait()
    rate = {k: [r[k]['pages'] / r[k]['seconds'] for r in rounds] for k in readers}
    columns = ['reader', f'pages per second{"" if a.papers else " of processor time"}', 'pages']
    if table := not (a.pdfs or a.papers): columns += ['cells', 'quotes', 'captions of figures']
    print(f'| {" | ".join(columns)} |', '|---' * len(columns) + '|', sep='\n')
    for k in rate:
        more = found(rounds[0][k]['texts'], files).values() if table else ()
        print('|', ' | '.join([k, f'{statistics.median(rate[k]):.0f} ({min(rate[k]):.0f} to {max(rate[k]):.0f})', str(rounds[0][k]['pages']), *more]), '|')
    print(f'\nratio of the medians: {statistics.median(rate["now"]) / statistics.median(rate["former"]):.2f}; of rounds: ' + ', '.join(f'{x / y:.2f}' for x, y in zip(rate['now'], rate['former'])))


if __name__ == '__main__': main()
