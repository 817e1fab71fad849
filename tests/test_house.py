"The house: how the notebooks are written. Layout and types are checked by ruff and mypy (`make lint`)."
import ast, collections, json, re
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
CELLS = {p.relative_to(root / 'nbs'): json.loads(p.read_text('utf-8'))['cells'] for p in sorted((root / 'nbs').glob('*/*.ipynb')) if '#| default_exp' in p.read_text('utf-8')}
text = lambda c: ''.join(c['source'])
exported = lambda c: c['cell_type'] == 'code' and re.search(r'^#\|\s*exports?\b', text(c), re.M)
words = lambda s: len(re.findall(r"[A-Za-z][A-Za-z'’-]*", s))
IMPORTS = re.compile(r'(#\|.*|from .*|import .*|\s.*|log = .*|_all_ = .*|)(\n(#.*|from .*|import .*|\s.*|log = .*|_all_ = .*|))*')
LONG = {('06_experiment/00_settings.ipynb', 'bb96b447'): 'one line for each setting'} # (notebook, id of a cell) -> why it has more than 40 lines

def exported_lines(cells): return sum(len(text(c).splitlines()) for c in cells if exported(c))
def prose(cells): return sum(words(text(c)) for c in cells if c['cell_type'] == 'markdown')


@pytest.mark.parametrize('notebook', CELLS, ids=str)
def test_an_exported_cell_has_at_most_40_lines(notebook):
    long = {c['id']: len(text(c).splitlines()) for c in CELLS[notebook] if exported(c)}
    assert {i: n for i, n in long.items() if n > 40 and (str(notebook), i) not in LONG} == {}


WIDER = ('01_index', '03_llm', '06_experiment', '07_benchmark', '09_compare', '10_plots', '11_cli/01_verbs') # lines of up to 130, as ruff allows

def test_an_exported_line_has_at_most_120_columns():
    "Ruff's limit is 130 for the library: nbdev writes `__all__` so."
    wide = [f'{p} {c["id"]}: {l}' for p, cells in CELLS.items() if not str(p.as_posix()).startswith(WIDER)
            for c in cells if exported(c) for l in text(c).splitlines() if len(l) > 120]
    assert wide == []


@pytest.mark.parametrize('notebook', CELLS, ids=str)
def test_prose_stands_before_the_exported_cells(notebook):
    "A markdown cell comes before each exported cell; one may introduce two. Imports need none."
    bare, free = [], 0
    for c in CELLS[notebook]:
        if c['cell_type'] == 'markdown': free = 2
        elif exported(c) and not IMPORTS.fullmatch(text(c)):
            if not free: bare.append(c['id'])
            free = max(0, free - 1)
    assert bare == []


def test_three_words_of_prose_per_exported_line():
    by = {k: [c for p, cells in CELLS.items() if p.parent.name == k for c in cells] for k in {p.parent.name for p in CELLS}}
    ratio = {k: round(prose(cells) / exported_lines(cells), 2) for k, cells in by.items()}
    assert {k: r for k, r in ratio.items() if r < 2.5} == {}, 'a package has less than 2.5'
    everything = [c for cells in CELLS.values() for c in cells]
    assert prose(everything) / exported_lines(everything) >= 3


FORBIDDEN = [ # home-made words, each with its standard term in the message of the test
    ('in company|(the|keeps?|of|what) company (wins|of)|keeps? company', 'batch'), ('told apart', 'significantly different'),
    ('dearer', 'more expensive'), ('in vain', 'wasted'), ('older tools?|existing tools?|peer tools?|old tools', 'WattBot'),
    ('strangers', 'other processes'), ('whose joules?', 'attribution'), ('colossus', 'a model that is too large'),
    ('rehearsals?', 'dry run'), ('ModelShelf', 'ModelCache'), ('Entrant', 'ScoredRun'), ('night_seconds', 'makespan'),
    ('choose_honestly|the honest score', 'cross-validation'), ('FewRowsLinear', 'small-batch linear'), ('TruthBook', 'GroundTruth'),
    ('run_words|machine_words', 'argv, description'), ('told_usd', 'reported cost'), ('CONTEXT_HOLE', 'placeholder'),
    ('existing system', 'WattBot'), ('riddles?', 'in plain words'), ('whoever', 'the person or program'), ("one's own", 'your own, local'),
    ('(?:set|moved?|move it) aside', 'archive'), ('called off', 'cancel'), ('goes on', 'continue, resume'), ('dear', 'expensive'),
    ('furniture', 'headers and footers'), ('witness(?:es)?', 'source'), ('keeps? (?:its|their) promise', 'coverage'),
    ("metavar='(?:HOW|WHOSE)", 'a noun: PLANNER, FORMAT, ORDER, RULE')]
ALLOWED = {} # (file, word as it is written there, lower case) -> why
TEXTS = [p for pattern in ('nbs/**/*.ipynb', 'tests/*.py', 'benchmarks/*.py', '*.md', 'wattnb/*.toml') for p in sorted(root.glob(pattern))
         if p.name not in ('test_house.py', 'CHANGELOG.md') and '.ipynb_checkpoints' not in p.parts]

@pytest.mark.parametrize('path', TEXTS, ids=lambda p: str(p.relative_to(root)))
def test_standard_words(path):
    "In prose, docstrings, messages and names."
    s = path.read_text('utf-8')
    if path.suffix == '.ipynb': s = '\n'.join(text(c) for c in json.loads(s)['cells'])
    found = {(m[0], say) for word, say in FORBIDDEN for m in re.finditer(rf'\b(?:{word})\b', s, re.I)}
    assert {(w, say) for w, say in found if (path.name, w.lower()) not in ALLOWED} == set()


FRONTED = re.compile(r'(?:^|(?<=[.:;!)] ))(?:What|Who|Whatever) [^.!?]*[.!](?!\w)')

@pytest.mark.parametrize('path', [p for p in TEXTS if p.suffix == '.ipynb'], ids=lambda p: str(p.relative_to(root)))
def test_subject_verb_object(path):
    "No statement begins with a relative clause ('What is missing is listed.'); questions may."
    cells = [text(c) for c in json.loads(path.read_text('utf-8'))['cells'] if c['cell_type'] == 'markdown']
    paragraphs = [' '.join(p.split()) for s in cells for p in re.split(r'\n\s*\n', re.sub(r'```.*?```', '', s, flags=re.S)) if p.strip()[:1] not in ('#', '|', '>', '*')]
    assert [m[0] for p in paragraphs for m in FRONTED.finditer(p)] == []

def test_a_public_name_is_defined_in_one_module():
    "Functions, classes and constants of the library; methods by `@patch` and the loggers are not names of a module."
    modules = collections.defaultdict(set)
    for p in sorted((root / 'wattnb').glob('*/*.py')):
        for n in ast.parse(p.read_text('utf-8')).body if p.name != '__init__.py' else []:
            names = []
            if isinstance(n, (ast.FunctionDef, ast.ClassDef)): names = [n.name] * (not any('patch' in ast.unparse(d) for d in n.decorator_list))
            if isinstance(n, (ast.Assign, ast.AnnAssign)):
                names = [x.id for t in getattr(n, 'targets', None) or [n.target] for x in ast.walk(t) if isinstance(x, ast.Name)]
            for name in names: modules[name].add(p.stem)
    assert {k: v for k, v in modules.items() if len(v) > 1 and not k.startswith('_') and k != 'log'} == {}


def test_no_module_defines_a_name_twice():
    "At top level, private names included: the second definition would hide the first. Methods by `@patch`, overloads and what stands under a condition are no such definitions."
    def names(n):
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return [n.name] * (not any(re.search(r'patch|overload', ast.unparse(d)) for d in n.decorator_list))
        targets = n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, ast.AnnAssign) else []
        return [x.id for t in targets for x in ast.walk(t) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)]
    twice = {}
    for p in sorted((root / 'wattnb').rglob('*.py')):
        count = collections.Counter(k for n in ast.parse(p.read_text('utf-8')).body for k in names(n))
        twice |= {f'{p.relative_to(root)}: {k}': c for k, c in count.items() if c > 1 and k != '_'}
    assert twice == {}
