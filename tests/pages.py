"""From notebooks to pages: what readers of the site see, prepared with nbdev's processors under `_proc/`.

Quarto renders `_proc/` when the site is published, and `tests/site.py` checks the same files. Behind each exported cell stands its reference, made from signatures and docments; the cell
itself is folded. `exec_show_docs` of nbdev, which would run the imports of every notebook again, is left out for that."""
import ast, importlib, inspect, os, re, shutil
from pathlib import Path

from execnb.nbio import mk_cell, read_nb, write_nb
from fastcore.docments import docments
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, Processor
from nbdev.processors import (clean_magics, filter_stream_, hide_, hide_line, populate_language, rm_header_dash, strip_ansi,
                              strip_hidden_metadata)

root = Path(__file__).resolve().parent.parent
proc = root / '_proc'
REPO = 'https://github.com/wattnb/wattnb/blob/main'
SITE = 'https://wattnb.github.io/wattnb'
LIVE = ('run_experiment', 'report', 'explore', 'gallery')
EXECUTED = ('gallery',) # stored without outputs: they are made with the site, so that a new figure appears by itself


def sections() -> dict:
    "The sidebar: section → pages (paths below `nbs/`, without suffix) in reading order. `nbs/sidebar.yml` is written from it (`python tests/site.py --sidebar`)."
    names = sorted(p.relative_to(root / 'nbs').with_suffix('').as_posix() for p in notebooks())
    live, guides = [n for n in LIVE if n in names], [n for n in names if n.startswith('guides/')]
    tutorials, reference = ([n for n in guides if n in kind] for kind in (TUTORIALS, REFERENCE))
    out = {'': ['index'], 'Start': tutorials, 'How to': [n for n in guides if n not in TUTORIALS + REFERENCE], 'To run and to look at': live,
           'Reference': [*reference, 'api']}
    for n in names:
        if n not in ('index', *live, *guides): out.setdefault(n.rpartition('/')[0], []).append(n)
    return out


def notebooks() -> list:
    "The paths of all notebooks of the project."
    return sorted(p for p in (root / 'nbs').rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(root / 'nbs').parts))


def library() -> list: return [n for folder, names in sections().items() if folder in FOLDERS for n in names]


FOLDERS = sorted(p.name for p in (root / 'nbs').iterdir() if p.is_dir() and p.name not in ('guides', 'images') and p.name[0] not in '._')
TUTORIALS = ['guides/01_start', 'guides/02_own_papers']
REFERENCE = ['guides/09_methods', 'guides/10_files', 'guides/11_faq', 'guides/12_glossary', 'guides/13_trust']


def order() -> list: return [n for names in sections().values() for n in names]


def source_of(name:str) -> str: return f'{name}.qmd' if name == 'api' else f'{name}.ipynb'


def sidebar() -> str:
    lines = ['# Written by `python tests/site.py --sidebar` from the notebooks in this folder.', 'website:', '  sidebar:', '    style: docked', '    search: true', '    contents:']
    for section, names in sections().items():
        if section: lines += [f'      - section: "{section}"', '        contents:']
        lines += [f'{"          " if section else "      "}- {source_of(n)}' for n in names]
    return '\n'.join(lines) + '\n'


def module_of(nb):
    "The module that a notebook writes, or None."
    for c in nb.cells:
        if c.cell_type == 'code' and (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c.source, re.M)): return m[1]


def one_line(text) -> str: return ' '.join(str(text or '').split())


def _cell(text) -> str: return one_line(text).replace('|', '\\|')


def _code(text) -> str: return f'`{_cell(text)}`' if one_line(text) else ''


def _type(anno) -> str:
    if anno in (inspect.Parameter.empty, None, type(None)) or isinstance(anno, type(inspect.Parameter.VAR_KEYWORD)): return ''
    return anno if isinstance(anno, str) else getattr(anno, '__name__', '') if isinstance(anno, type) else re.sub(r'\b(?:typing|collections\.abc|pathlib|wattnb(?:\.\w+)+)\.', '', str(anno))


def _default(value) -> str:
    if value is inspect.Parameter.empty: return ''
    text = re.sub(r' at 0x[0-9a-f]+', '', repr(value))
    return text if len(text) < 40 else text[:37] + '…'


def signature_of(name:str, obj) -> str:
    try: s = inspect.signature(obj)
    except (TypeError, ValueError): return name
    marks = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}
    said = [marks.get(p.kind, '') + p.name + ('' if p.default is p.empty else f'={_default(p.default)}')
            for p in s.parameters.values() if p.name != 'self']
    back = _type(s.return_annotation)
    one = f'{name}({", ".join(said)})'
    if len(one) > 100: one = f'{name}(\n    ' + ',\n    '.join(said) + ')'
    return one + (f' -> {back}' if back else '')


def entry(name:str, obj, module:str, level:int=3) -> str:
    "Reference of one function or class in Markdown: signature, what it does, its parameters, where it is."
    bare = name.rpartition('.')[2]
    out = [f'{"#" * level} {name}', f'```python\n{signature_of(bare, obj)}\n```', one_line(inspect.getdoc(obj)) if obj.__doc__ and not obj.__doc__.startswith(f'{bare}(') else '']
    try: docs = docments(obj, full=True, returns=True)
    except Exception as e: raise RuntimeError(f'{module}.{name}: its docments cannot be read') from e
    rows = [(p, d) for p, d in docs.items() if p not in ('self', 'return') and hasattr(d, 'get')]
    if rows:
        columns = dict(parameter=[f'`{p}`' for p, _ in rows], type=[_code(_type(d.get('anno'))) for _, d in rows],
                       default=[_code(_default(d.get('default'))) for _, d in rows], what=[_cell(d.get('docment')) for _, d in rows])
        columns = {k: v for k, v in columns.items() if any(v)}
        row = lambda cells: f'| {" | ".join(cells)} |'
        out.append('\n'.join([row(columns), '|' + '---|' * len(columns), *map(row, zip(*columns.values()))]))
    back = docs.get('return')
    if hasattr(back, 'get') and back.get('docment'): out.append(f'Returns {one_line(back["docment"])}.')
    try: out.append(f'[source]({REPO}/wattnb/{module.replace(".", "/")}.py#L{inspect.getsourcelines(obj)[1]})')
    except (OSError, TypeError): pass
    return '\n\n'.join(o for o in out if o)


def defined(tree) -> list:
    "Public names that a cell defines, in order: (name, class that it was patched into or None)."
    out = []
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith('_'): continue
        owner = None
        if not isinstance(node, ast.ClassDef) and any(getattr(getattr(d, 'func', d), 'id', '').startswith('patch') for d in node.decorator_list):
            owner = ast.unparse(node.args.args[0].annotation).strip("'\"") if node.args.args and node.args.args[0].annotation else None
        out.append((node.name, owner))
    return out


def entries(source:str, module:str) -> list:
    "(name, object, level) of everything public that an exported cell defines, methods of classes behind them."
    mod, out = importlib.import_module(f'wattnb.{module}'), []
    for name, owner in defined(ast.parse(source)):
        if owner: out.append((f'{owner}.{name}', inspect.getattr_static(getattr(mod, owner), name), 3)); continue
        obj = getattr(mod, name, None)
        if obj is None: continue
        out.append((name, obj, 3))
        if not inspect.isclass(obj): continue
        for k, m in vars(obj).items():
            f = getattr(m, '__func__', m)
            if not k.startswith('_') and inspect.isfunction(f) and f.__doc__ and f.__module__ == mod.__name__: out.append((f'{name}.{k}', f, 4))
    return out


class Reference(Processor):
    "Behind each exported cell, the reference of what it defines; the cell is folded."
    def begin(self):
        nb, module = self.nb, module_of_nb[self.nb.path_]
        for cell in reversed(list(nb.cells)):
            if cell.cell_type != 'code' or not set(cell.directives_) & {'export', 'exports', 'exporti'} or 'hide' in cell.directives_: continue
            found = entries(cell.source, module)
            for name, obj, level in reversed(found): nb.cells.insert(cell.idx_ + 1, _plain(mk_cell(entry(name, obj, module, level), 'markdown')))
            what = ', '.join(n for n, _, level in found if level == 3)
            cell.source = f'#| code-fold: true\n#| code-summary: "Source{": " + what if what else ""}"\n{cell.source}'


def _plain(cell): cell.directives_ = {}; return cell


module_of_nb = {} # path of a notebook → its module, told before nbdev takes the directives away


def drop_hidden(cell):
    if cell.cell_type == 'code' and set(cell.directives_) & {'hide', 'default_exp'}: cell.source = None


class OwnName(Processor):
    "Pages keep the names of their notebooks, see `output_of`."
    def begin(self):
        first = self.nb.cells[0]
        if first.cell_type == 'raw': first.source = re.sub(r'^output-file:.*\n', '', first.source, flags=re.M)


class Described(Processor):
    "A picture says what it is of: the nearest heading above it, unless the cell has its own `fig-alt`."
    def begin(self): self.heading = ''
    def cell(self, cell):
        if cell.cell_type == 'markdown':
            if found := re.findall(r'^#+\s+(.+)$', cell.source, re.M): self.heading = found[-1].replace('"', "'").replace('`', '')
        elif cell.cell_type == 'code' and 'fig-alt' not in cell.source and any('image/png' in o.get('data', {}) for o in cell.get('outputs', [])):
            title = self.nb.get('frontmatter_', {}).get('title', '')
            said = f'Figure: {self.heading}' + (f' ({title})' if title and title != self.heading else '')
            cell.source = f'#| fig-alt: "{said}"\n{cell.source}'


def symbols() -> dict:
    "Public name → page#anchor, for names that one module only defines."
    seen = {}
    for n in order():
        if n == 'api': continue
        for name, *_ in exported(n): seen.setdefault(name, set()).add(f'{n}.ipynb#{anchor(name)}')
    return {k: v.pop() for k, v in seen.items() if len(v) == 1 and len(k) > 3}


def exported(name:str) -> list:
    "(name, object, module) of everything public in a notebook."
    nb = read_nb(root / f'nbs/{name}.ipynb')
    module, out = module_of(nb), []
    for c in nb.cells if module else ():
        if c.cell_type == 'code' and re.search(r'^#\|\s*exports?\s*$', c.source, re.M):
            out += [(k, o, module) for k, o, _ in entries(re.sub(r'^#\|.*$', '', c.source, flags=re.M), module)]
    return out


def anchor(heading:str) -> str:
    "The id that Quarto (pandoc) gives a heading."
    text = re.sub(r'[^\w\s.-]', '', re.sub(r'<[^>]+>', '', heading)).strip().lower()
    return re.sub(r'^[^a-z]+', '', re.sub(r'\s+', '-', text)) or 'section'


def relative(target:str, page:str) -> str:
    "A link to `target` (a path below `nbs/`) as the page `page` writes it."
    return os.path.relpath(target, os.path.dirname(page) or '.').replace(os.sep, '/')


def linker(table:dict, page:str):
    "A function that links `names` of the library in a text, once each, outside of headings, links and code."
    def link(text:str) -> str:
        done, fence, out = set(), False, []
        for line in text.split('\n'):
            if line.lstrip().startswith('```'): fence = not fence
            if not fence and not line.startswith(('#', '    ')):
                def one(m):
                    name = m[1].removesuffix('()')
                    if name in done or name not in table or table[name].startswith(f'{page}.ipynb'): return m[0]
                    done.add(name)
                    return f'[{m[0]}]({relative(table[name], page)})'
                line = re.sub(r'(?<![\[`])`([A-Za-z_][\w.]*(?:\(\))?)`(?!\]|`)', one, line)
            out.append(line)
        return '\n'.join(out)
    return link


def notebook(name:str):
    "A notebook with its stored outputs, or for `EXECUTED` with new ones."
    nb = read_nb(root / f'nbs/{name}.ipynb')
    if name in EXECUTED:
        from outputs import execute
        made, fault = execute(root / f'nbs/{name}.ipynb')
        if fault: raise RuntimeError(f'{name}: {fault}')
        for cell, new in zip(nb.cells, made.cells):
            if cell.cell_type == 'code': cell.outputs = new.get('outputs', [])
    return nb


def prepare(name:str, table:dict):
    "One notebook as readers see it, written to `_proc/`."
    nb = notebook(name)
    module_of_nb[nb.path_] = module_of(nb)
    link = linker(table, name)
    if m := re.fullmatch(r'(# [^\n]*\n+(?:> [^\n]*\n?)?)\s*(\S.*)', nb.cells[0].source, re.S): # title and description become the front matter; the rest stays on the page
        nb.cells[:1] = [_plain(mk_cell(part.strip(), 'markdown')) for part in m.groups()]
        for i, cell in enumerate(nb.cells): cell.idx_ = i
    for cell in nb.cells:
        if cell.cell_type == 'markdown' and '<!-- chapters -->' in cell.source: cell.source = cell.source.replace('<!-- chapters -->', chapters('../' * name.count('/') + '{}.ipynb'))
    def add_links(cell):
        if cell.cell_type == 'markdown' and cell.source and not cell.source.startswith('###'): cell.source = link(cell.source)
    NBProcessor(nb=nb, procs=[FrontmatterProc, OwnName, populate_language, Reference, strip_ansi, hide_line, filter_stream_, rm_header_dash,
                              drop_hidden, Described, clean_magics, hide_, add_links, strip_hidden_metadata], process=True)
    nb.cells = [c for c in nb.cells if c.cell_type != 'code' or c.source.strip() or c.get('outputs')]
    (proc / name).parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, proc / f'{name}.ipynb')


def chapters(link=SITE + '/{}.html') -> str:
    "The table of the overview: a row for each package, with links to its notebooks, made from the folders and the packages."
    rows = []
    for folder in FOLDERS:
        package = bare(folder)
        notebooks = ' · '.join(f'[{bare(n.rpartition("/")[2])}]({link.format(n)})' for n in sections()[folder])
        rows.append(f'| `{package}` | {_cell(ast.get_docstring(ast.parse((root / f"wattnb/{package}/__init__.py").read_text("utf-8"))))} | {notebooks} |')
    return '\n'.join(['| package | purpose | notebooks |', '|---|---|---|', *rows])


def bare(name:str) -> str:
    "A folder or notebook without the number in front: the name of its package or module."
    return re.sub(r'^\d+_', '', name)


def api_page() -> str:
    "Every public function and class with its first line, by chapter."
    out = ['---', 'title: Functions and classes', 'description: Everything public, by chapter, with a line on each', '---', '',
           'Made from the library itself. Each name leads to its signature and parameters.', '']
    for n in order():
        if n == 'api' or not (found := exported(n)): continue
        out += [f'## wattnb.{found[0][2]}', '', f'Chapter: [{n}]({n}.ipynb)', '', '| name | what |', '|---|---|']
        out += [f'| [`{k}`]({n}.ipynb#{anchor(k)}) | {_cell((inspect.getdoc(o) or "").split(chr(10))[0] if o.__doc__ and not o.__doc__.startswith(k + "(") else "")} |' for k, o, _ in found]
        out.append('')
    return '\n'.join(out)


def about(name:str) -> tuple:
    "(title, the line that describes the page), from the top of the prepared page."
    import yaml
    text = (proc / source_of(name)).read_text('utf-8') if name == 'api' else ''.join(read_nb(proc / f'{name}.ipynb').cells[0].source)
    fm = yaml.safe_load(text.split('---')[1])
    return fm.get('title', name), fm.get('description', '')


def llms() -> str:
    "`llms.txt`: the pages in reading order, for readers that are programs."
    out = ['# wattnb', '', f'> {about("index")[1]}', '']
    for section, names in sections().items():
        out += [f'## {section or "Start here"}', ''] + [f'- [{about(n)[0]}]({SITE}/{output_of(n)}): {about(n)[1]}' for n in names] + ['']
    return '\n'.join(out)


def output_of(name:str) -> str:
    "File name of a page. nbdev would drop the numbers in front."
    return f'{name}.html'


def prepare_all():
    "Fill `_proc/`: prepared notebooks, the list of functions, pictures, configuration, `llms.txt`."
    if proc.exists(): shutil.rmtree(proc)
    proc.mkdir()
    table = symbols()
    for n in order():
        if n != 'api': prepare(n, table)
    (proc / 'api.qmd').write_text(api_page(), 'utf-8')
    for f in ('_quarto.yml', 'sidebar.yml', 'site.scss', 'dark.scss'):
        if (root / 'nbs' / f).exists(): shutil.copy2(root / 'nbs' / f, proc / f)
    if (root / 'nbs/images').exists(): shutil.copytree(root / 'nbs/images', proc / 'images')
    (proc / 'llms.txt').write_text(llms(), 'utf-8')
