"""Pages per second of the PDF reader beside those of the first one (pypdf with guessed widths), in one run, in turns. Prints Markdown.

    python benchmarks/reader.py [--rounds 7] [--papers 280] [PDF or folder ...]

Without files the 14 papers of the demo are read, and the evidence of the demo's questions is looked up in the text of its page. The first reader is taken from git.
Each folder has a row, and so have all files together; a file that one of the two cannot read is named and left out.
Seconds are those of the processor, of one process that has read the files once. With `--papers` they are those by the clock that a user waits for: of the stage
"reading papers" of `wattnb index` in a new process, with the processes that it starts and the files that it writes, for a corpus of that many papers (copies of the files).
Python keeps the modules that it has compiled, as it does for users.
"""
import argparse, csv, io, json, os, statistics, subprocess, sys, tarfile, tempfile
from pathlib import Path

root = Path(__file__).resolve().parent.parent
FIRST = 'cdf77a4'
BYTECODE = tempfile.TemporaryDirectory() # modules are compiled once, as for a user
IMPORTS = dict(now='from wattnb.core.workspace import Workspace; from wattnb.index.corpus import build_corpus; from wattnb.index.documents import page_text, parse_pdf',
               first='from wattnb.workspace import Workspace; from wattnb.corpus import _page_text as page_text, build_corpus, parse_pdf')
READ = '''
import json, sys, time
def read(f):
    try: return parse_pdf(f)
    except Exception: return None
for line in sys.stdin:
    out = []
    for files in json.loads(line):
        t, n = time.process_time(), 0
        while (s := time.process_time() - t) < .5: docs, n = [read(f) for f in files], n + 1
        out.append(dict(seconds=s / n, pages=[d.pages if d else 0 for d in docs], texts=[[page_text(x) for x in d.sections] if d else [] for d in docs]))
    print(json.dumps(out), flush=True)
'''
CORPUS = '''
import shutil, sys, tempfile, json, time
from pathlib import Path
files, n = json.loads(sys.stdin.readline())[0], int(sys.argv[1])
with tempfile.TemporaryDirectory(dir=sys.argv[2]) as d:
    ws = Workspace(Path(d)); ws.pdfs.mkdir(parents=True)
    ids = [f'p{k}' for k in range(n)]
    ws.metadata.write_text('id,type,title,year,citation,url\\n' + ''.join(f'{i},paper,T,2030,C,\\n' for i in ids))
    for k, i in enumerate(ids): shutil.copy(files[k % len(files)], ws.pdfs/f'{i}.pdf')
    t = time.monotonic(); r = build_corpus(ws, fetch=False); s = time.monotonic() - t
print(json.dumps([dict(seconds=s, pages=[r.gates[i]['pages'] if i in r.ok else 0 for i in ids])]), flush=True)
'''


def start(which, package, *args):
    "A process with a reader, which measures once for each line with groups of files."
    code = IMPORTS[which] + (CORPUS if args else READ)
    env = os.environ | dict(PYTHONPATH=str(package), WATTNB_PROGRESS='0', PYTHONDONTWRITEBYTECODE='', PYTHONPYCACHEPREFIX=str(BYTECODE.name))
    return subprocess.Popen([sys.executable, '-c', code, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=package, env=env)


def ask(p, groups):
    p.stdin.write(json.dumps([list(map(str, g)) for g in groups]) + '\n'); p.stdin.flush()
    return json.loads(p.stdout.readline())


def end(p): p.stdin.close(); p.wait()


def asked_once(groups, which, *args):
    p = start(which, *args)
    try: return ask(p, groups)
    finally: end(p)


def found(texts, files):
    "Cells and quotes of the demo's evidence that are in the text of their page, of all."
    text, plain = {f.stem: t for f, t in zip(files, texts)}, lambda s: ' '.join(s.split())
    rows = list(csv.DictReader(open(root / 'data/demo_evidence.csv', encoding='utf-8')))
    has = lambda r: all(plain(part) in plain(text[r['document_id']][int(r['page']) - 1]) for part in ([r['evidence']] if r['kind'] != 'cell' else [x for x in r['evidence'].split(' | ')[::2]]))
    return {k: f'{sum(map(has, of))} of {len(of)}' for k in ('cell', 'quote', 'figure') if (of := [r for r in rows if r['kind'] == k])}


def measured(groups, papers, rounds, tmp):
    "(groups without the files that a reader cannot read, for each round what each reader took for each group)"
    packages = dict(now=root, first=tmp)
    corpora = lambda groups, n: {k: asked_once(groups, k, at, str(n), tmp) for k, at in packages.items()}
    readers = {} if papers else {k: start(k, at) for k, at in packages.items()}
    tried = [*(corpora(groups, len(groups[0])) if papers else {k: ask(r, groups) for k, r in readers.items()}).values()]
    read = [[f for k, f in enumerate(g) if all(t[i]['pages'][k] for t in tried)] for i, g in enumerate(groups)]
    for f in {*sum(groups, [])} - {*sum(read, [])}: print(f'left out: {f.name}, which one of the readers cannot read\n')
    out = [corpora(read, papers) if papers else {k: ask(r, read) for k, r in readers.items()} for _ in range(rounds)]
    for r in readers.values(): end(r)
    return read, out


def show(name, rounds, n):
    "A row of the table: a group of `n` files, or several groups."
    pages = sum(sum(x['pages']) for x in rounds[0]['now'])
    seconds = {k: [sum(x['seconds'] for x in r[k]) for r in rounds] for k in rounds[0]}
    ratio = [b / a for a, b in zip(seconds['now'], seconds['first'])]
    cells = [f'{statistics.median(pages / s for s in seconds[k]):.0f} ({1e3 * statistics.median(seconds[k]) / n:.2f})' for k in seconds]
    print('|', ' | '.join([name, str(n), str(pages), *cells, f'{statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})']), '|')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('pdfs', nargs='*', type=Path); p.add_argument('--rounds', type=int, default=7); p.add_argument('--papers', type=int)
    a = p.parse_args()
    folders = {}
    for f in a.pdfs or [root / 'data/pdfs']:
        for x in sorted(f.glob('*.pdf')) if f.is_dir() else [f]: folders.setdefault(x.resolve().parent, []).append(x.resolve())
    groups = [sum(folders.values(), [])] if a.papers else list(folders.values())
    with tempfile.TemporaryDirectory() as tmp:
        tarfile.open(fileobj=io.BytesIO(subprocess.run(['git', 'archive', FIRST, 'wattnb'], cwd=root, capture_output=True, check=True).stdout)).extractall(tmp, filter='data')
        groups, rounds = measured(groups, a.papers, a.rounds, tmp)
    print(f'pages per second{"" if a.papers else " of processor time"} (ms a paper), medians of {a.rounds} rounds\n')
    print('| files | papers | pages | now | first | ratio |', '|---' * 6 + '|', sep='\n')
    names = [f'{a.papers} papers'] if a.papers else [f.name for f in folders]
    for i, name in enumerate(names): show(name, [{k: v[i:i + 1] for k, v in r.items()} for r in rounds], a.papers or len(groups[i]))
    if len(names) > 1: show('together', rounds, sum(map(len, groups)))
    if not (a.pdfs or a.papers):
        for k, r in rounds[0].items(): print(f'\n{k}, found of the evidence: ' + ', '.join(f'{kind} {n}' for kind, n in found(r[0]['texts'], groups[0]).items()))


if __name__ == '__main__': main()
