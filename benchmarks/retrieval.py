"""Quality of retrieval: python benchmarks/retrieval.py [WORKSPACE] [--preset P ...] [--index NAME] [--known N] [--json FILE]

Every preset on the workspace's question files (the demo set, and train_QA.csv where it is). With --known also on questions that are made here,
N sentences and N table rows of each paper at most: what is wanted is the paper, and a number that is in the sentence or row; what is asked
are a few of its other words among words that come from anywhere. They are made from the papers' JSON without the units and passages of the
library, so that two ways of cutting can be compared; the numbers show which of two presets is better, not how good one is on real questions.

Cost of an index: benchmarks/index.py. Speed of the search: benchmarks/search.py."""
import argparse, json, os, random, re
from collections import Counter
from pathlib import Path

os.environ.setdefault('WATTNB_PROGRESS', '0')
from wattnb.index.corpus import build_corpus
from wattnb.index.documents import load_document
from wattnb.index.store import build_index, open_index
from wattnb.core.questions import Question, read_questions
from wattnb.retrieval.queries import PRESETS
from wattnb.scoring.retrieval_metrics import evaluate_retrieval
from wattnb.core.workspace import Workspace

NUMBER = re.compile(r'(?<![\w.,-])\d+(?:,\d{3})*(?:\.\d+)?(?!\w|[.,]\d)')
UNIT = re.compile(r'\s?(%|percent|[kMGT]?Wh|[kM]?W|[kgt]*CO2e?q?|kg|tons?|[GT]B|[mM]?L|hours?|days?|seconds?|years?|ms|USD|million|billion)\b')
SMALL = frozenset('a an and are as at be been by for from had has have in into is it its of on or that the their these this to was were what which who with '
                  'we our not than then can also more most such using used between while each both all over under per about only figure table section'.split())


def content(text): return list(dict.fromkeys(w for w in re.findall(r'[A-Za-z][\w.-]+\w', text) if w.lower() not in SMALL))


def distinctive(number): return not re.fullmatch(r'\d\d?|(?:19|20)\d\d', number) # small whole numbers and years are found by chance


def pages_of(doc):
    "The text of each page up to the references."
    out = []
    for s in doc.sections:
        text = '\n'.join(p.text for p in s.paragraphs if not p.is_image)
        if len(out) > .4 * len(doc.sections) and re.search(r'^\W*(?:\d+\.?\s*)?(?:references|bibliography)\s*$', text, re.I | re.M): break
        out.append(text)
    return out


def known_sentences(pages):
    "(number, unit, the other words) of sentences of running text."
    for page in pages:
        text = re.sub(r'\s+', ' ', re.sub(r'-\n(?=[a-z])', '', page))
        for s in re.split(r'(?<=[a-z\d)%]\.)\s+(?=[A-Z])', text):
            w = s.split()
            if not 10 <= len(w) <= 45 or sum(any(c.isdigit() for c in x) for x in w) > .35 * len(w) or len(re.findall(r'arXiv|doi|https?:|Proceedings|pp\.', s)) > 1: continue
            for m in NUMBER.finditer(re.sub(r'\[[\d,\s–-]+\]', lambda m: ' ' * len(m[0]), s)):
                if distinctive(m[0]): yield m[0], (UNIT.match(s, m.end()) or ['', ''])[1], content(s[:m.start()] + ' ' + s[m.end():]); break


def known_rows(pages):
    "(number, '', words of its label and of the caption) of table rows below a caption."
    for page in pages:
        caption = ''
        for line in page.split('\n'):
            w = line.split()
            if re.match(r'table\s+\w+\s*[.:|]', line.strip(), re.I): caption = line
            numbers, label = [x.strip('%()') for x in w if NUMBER.fullmatch(x.strip('%()'))], [x for x in content(line)]
            if caption and len(numbers) > 1 and 0 < len(label) < 7 and len(numbers) + len(label) >= .8 * len(w):
                good = [x for x in numbers if distinctive(x)]
                if good: yield good[len(good) // 2], '', label[:4] + content(caption)[:4]


def known_items(documents, n, seed=0):
    "Two question sets, one of sentences and one of rows."
    pages = {d.document_id: pages_of(d) for d in documents}
    seen = Counter(w for ps in pages.values() for w in content(' '.join(ps)) if w.islower())
    usual = sorted(w for w in seen if seen[w] >= max(3, len(pages) // 4))
    out = dict(sentences=[], rows=[])
    for id_, ps in sorted(pages.items()):
        for kind, found in (('sentences', known_sentences(ps)), ('rows', known_rows(ps))):
            r = random.Random(f'{seed} {id_} {kind}')
            items = [x for x in found if len(x[2]) > 2]
            for number, unit, others in r.sample(items, min(n, len(items))):
                asked = (r.sample(others, min(len(others), r.randint(3, 5))) if kind == 'sentences' else others) + r.sample(usual, min(3, len(usual)))
                out[kind].append(Question(f'{kind}-{len(out[kind])}', f"What is the value of {' '.join(asked)}?", answer_value=number.replace(',', ''), answer_unit=unit, ref_id=f"['{id_}']"))
    return out


def question_sets(ws, ix, known):
    have, out = {d.lower() for d in ix.manifest['documents']}, {}
    for f in ('demo_QA.csv', 'train_QA.csv'):
        qs = read_questions(ws.data / f) if (ws.data / f).exists() else []
        if len(qs) and {r.lower() for q in qs for r in q.refs} <= have: out[f] = qs
    if known: out |= {f'known {k}': qs for k, qs in known_items([load_document(p) for p in build_corpus(ws).ok.values()], known).items() if qs}
    return out


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    a.add_argument('workspace', nargs='?'); a.add_argument('--preset', nargs='+', default=[p for p in PRESETS if p != 'legacy'], choices=PRESETS)
    a.add_argument('--index'); a.add_argument('--known', type=int, default=0); a.add_argument('--json', type=Path)
    a = a.parse_args()
    ws = Workspace.find(a.workspace)
    if not a.index: build_index(ws)
    ix = open_index(ws, a.index)
    print(ix)
    reports = {f: evaluate_retrieval(ix, qs, a.preset) for f, qs in question_sets(ws, ix, a.known).items()}
    for f, r in reports.items(): print(f'\n{f}\n{r.to_text()}', flush=True)
    if a.json: a.json.write_text(json.dumps({f: dict(default=r.default, tokens_by=r.tokens_by, presets=r.presets) for f, r in reports.items()}, indent=1))
