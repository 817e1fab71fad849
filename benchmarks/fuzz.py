"""Mutated inputs of five kinds: journals, question files, replies of models, corpus documents, PDFs.

    python benchmarks/fuzz.py                       # an hour, seeds from the clock
    python benchmarks/fuzz.py --minutes 5 --only replies,pdfs --seed 7

Each input is a valid one with some bytes changed, cut, doubled or replaced by odd values. The call has to end within its time with a
result, or with the one-line error for users (`UserError`, `WorkError`); and a journal never yields an answer that was not given. Prints
how many inputs of each kind were tried and each that failed, with the seed that repeats it; exit status 1 if any did."""
import argparse, csv, io, json, os, random, sys, tempfile, time
from collections import Counter
from pathlib import Path

from wattnb.core.questions import read_questions
from wattnb.core.workspace import UserError, WorkError, Workspace
from wattnb.experiment.journal import read_journal
from wattnb.experiment.plan import plan_run
from wattnb.experiment.execute import run_all
from wattnb.experiment.settings import RunSettings
from wattnb.index.documents import Document, PdfReader
from wattnb.index.store import build_index
from wattnb.llm.parsing import parse_reply

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = (UserError, WorkError)
ODD = [b'\x00', b'\xff\xfe', b'\xef\xbb\xbf', b'\r', b'"', b"'", b',', b'{', b'}', b'[' * 300, b'\\', b'\xe2\x80\xa8', b'\xed\xa0\x80', b'1e999', b'NaN', b'-0',
       b'9' * 400, b' ' * 5000, b'null', b'\x1b[31m', b'<script>', b'../../x', b'is_blank', b'\n\n', b'a' * 20_000]
VALUES = [None, True, -1, 0, 1.5, 1e308, '', ' ', 'x' * 3000, '\x00', '\ud800', [], {}, [[]], {'a': {}}, ['x', 1, None], 10 ** 30, '1,234', '(1, 2)', '2e3 kWh', 'NaN']


def mutated(raw:bytes, rng) -> bytes:
    "`raw` with one to four changes."
    for _ in range(rng.randint(1, 4)):
        i, j = sorted(rng.randrange(len(raw) + 1) for _ in 'ij')
        j = min(j, i + rng.choice((1, 8, 200, len(raw))))
        how = rng.randrange(6)
        if how == 0: raw = raw[:i] + raw[j:]
        elif how == 1: raw = raw[:i] + rng.choice(ODD) + raw[i:]
        elif how == 2: raw = raw[:i] + raw[i:j] * 2 + raw[j:]
        elif how == 3: raw = raw[:i] + bytes(rng.randrange(256) for _ in range(min(j - i, 20))) + raw[j:]
        elif how == 4: raw = raw[:j]
        elif raw:
            k = rng.randrange(len(raw))
            raw = raw[:k] + bytes([raw[k] ^ 1 << rng.randrange(8)]) + raw[k + 1:]
        raw = raw[:2 ** 20]
    return raw


def reshaped(o, rng, depth=0):
    "The same JSON with a value replaced, dropped or added somewhere."
    if not o or not isinstance(o, (dict, list)) or depth > 6 or rng.random() < .1: return rng.choice(VALUES)
    o, keys = o.copy(), list(o) if isinstance(o, dict) else range(len(o))
    k, how = rng.choice(keys), rng.random()
    if how < .15: del o[k]
    elif how < .25 and isinstance(o, list): o.insert(k, rng.choice(VALUES))
    elif how < .25: o[str(rng.choice(VALUES))[:50]] = rng.choice(VALUES)
    else: o[k] = reshaped(o[k], rng, depth + 1)
    return o


class Kinds:
    "The valid inputs, and one call for each kind: `name(rng)` raises what is wrong."
    def __init__(self, folder:Path):
        self.folder = folder
        self.questions_file = (ROOT/'data/demo_QA.csv').read_bytes()
        self.questions = read_questions(ROOT/'data/demo_QA.csv')
        self.papers = [self._inflated(p) for p in sorted((ROOT/'data/pdfs').glob('*.pdf'))[:6]]
        self.corpus = Workspace(self._workspace('corpus'))
        docs = sorted((ROOT/'data/corpus').glob('*.json'))
        if not docs:
            with PdfReader() as read: self.document = json.loads(read(ROOT/'data/pdfs/novak2030.pdf', 'fuzzed', 'A paper', {})[0])
        else: self.document = json.loads(docs[0].read_text('utf-8'))
        self.reader = PdfReader(seconds=20)
        ws = Workspace(self._workspace('runs'))
        (ws.data/'demo_QA.csv').write_bytes(b''.join(self.questions_file.splitlines(True)[:9]))
        self.plan_settings = RunSettings('abstain', env='fuzz', mode='closed-book', name='fuzzed')
        self.ws, plan = ws, plan_run(self.plan_settings, ws)
        run_all(plan)
        self.run_dir = plan.run_dir
        self.journal = (plan.run_dir/'journal.jsonl').read_bytes()
        self.given = self._answers()

    def _inflated(self, path) -> bytes:
        "A PDF without compression, so that changes reach what it draws."
        import pypdf
        from pypdf.generic import NameObject, StreamObject
        w = pypdf.PdfWriter(clone_from=path)
        for page in w.pages:
            s = StreamObject(); s.set_data(page.get_contents().get_data())
            page[NameObject('/Contents')] = w._add_object(s)
        out = io.BytesIO(); w.write(out)
        return out.getvalue()

    def _workspace(self, name) -> Path:
        for part in ('data/corpus', 'artifacts'): (self.folder/name/part).mkdir(parents=True)
        return self.folder/name

    def _answers(self) -> set:
        found = read_journal(self.run_dir/'journal.jsonl').of('attempt')
        return {json.dumps(x, sort_keys=True, default=str) for x in found}

    def journals(self, rng):
        path = self.run_dir/'journal.jsonl'
        path.write_bytes(mutated(self.journal, rng))
        if extra := self._answers() - self.given: raise AssertionError(f'an answer that was not given: {extra.pop()[:200]}')
        plan_run(self.plan_settings, self.ws)

    def questions_files(self, rng):
        path = self.folder/'q.csv'
        if rng.random() < .5: path.write_bytes(mutated(self.questions_file, rng))
        else: # well-formed, with odd cells
            rows = list(csv.reader(io.StringIO(self.questions_file.decode('utf-8'))))[:30]
            for _ in range(rng.randint(1, 5)): r = rng.choice(rows); r[rng.randrange(len(r))] = str(rng.choice(VALUES)).replace('\ud800', '?')
            out = io.StringIO(newline=''); csv.writer(out).writerows(rows); path.write_text(out.getvalue(), 'utf-8', newline='')
        for q in read_questions(path): assert q.id and isinstance(q.answer_value, str)

    def replies(self, rng):
        q = rng.choice(self.questions)
        reply = dict(explanation='It is stated in the table.', answer='1,438 MWh', answer_value=1438, ref_id=['brandvik2031'], ref_url='is_blank')
        text = json.dumps(reshaped(reply, rng)) if rng.random() < .5 else f'<think>so</think>```json\n{json.dumps(reply)}\n```Answer: 12 kWh [brandvik2031]'
        text = mutated(text.encode('utf-8', 'surrogatepass'), rng).decode('utf-8', 'replace')
        a = parse_reply(text, q)
        assert isinstance(a.value, str) and len(a.value) <= 1000 and all(isinstance(x, str) for x in a.refs), (len(a.value), a.refs)

    def documents(self, rng):
        path = self.corpus.corpus/'fuzzed.json'
        raw = json.dumps(reshaped(self.document, rng)).encode('utf-8', 'surrogatepass')
        path.write_bytes(raw if rng.random() < .6 else mutated(raw, rng))
        build_index(self.corpus, embedder='none')

    def pdfs(self, rng):
        path = self.folder/'fuzzed.pdf'
        path.write_bytes(mutated(rng.choice(self.papers), rng))
        d = Document.from_json(json.loads(self.reader(path, 'fuzzed', 'A paper', {})[0]))
        assert len(d.text) < 5e6 and all(p.text for s in d.sections for p in s.paragraphs)


NAMES = ('journals', 'questions_files', 'replies', 'documents', 'pdfs')
SECONDS = dict(journals=3, questions_files=3, replies=2, documents=10, pdfs=25) # the longest that one input may take

def tried(kinds:Kinds, name:str, seed:str) -> tuple[str, str]:
    "(how it ended, what is wrong) of one input."
    clock = time.perf_counter if name == 'pdfs' else time.process_time # PDFs are read by a process of their own; a busy machine is no fault
    t = clock()
    try: getattr(kinds, name)(random.Random(f'{name}-{seed}')); end, wrong = 'taken', ''
    except EXPECTED as e: end, wrong = 'refused', '' if len(str(e).splitlines()) <= 1 else f'an error of several lines: {e}'
    except Exception as e: end, wrong = 'failed', f'{type(e).__name__}: {e}'
    took = clock() - t
    return end, wrong or (f'{took:.1f} s' if took > SECONDS[name] else '')


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--minutes', type=float, default=60); p.add_argument('--only', default=','.join(NAMES)); p.add_argument('--seed', default=str(time.time_ns()))
    a = p.parse_args()
    os.environ['WATTNB_PROGRESS'] = '0'
    names, count, bad, end = a.only.split(','), Counter(), 0, time.monotonic() + 60 * a.minutes
    with tempfile.TemporaryDirectory() as tmp:
        kinds, n = Kinds(Path(tmp)), 0
        while time.monotonic() < end:
            for name in names:
                until = time.monotonic() + 1 # the same time for each kind
                while time.monotonic() < min(until, end):
                    how, wrong = tried(kinds, name, f'{a.seed}-{n}')
                    count[name, how] += 1; n += 1
                    if wrong: bad += 1; print(f'{name} {a.seed}-{n - 1}: {wrong[:300]}', flush=True)
    for name in names: print(f'{name:16s}', *(f'{how} {count[name, how]:,}' for how in ('taken', 'refused', 'failed')))
    print(f'{sum(count.values()):,} inputs, {bad} wrong')
    return bool(bad)

if __name__ == '__main__': sys.exit(main())
