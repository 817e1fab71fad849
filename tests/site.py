"""Checks what Quarto will render: `python tests/site.py` prepares the pages in `_proc/` and checks links, anchors, pictures, outputs
and configuration; it exits 1 with a list of faults. `--prepare` only prepares, `--sidebar` writes `nbs/sidebar.yml`.
The publishing workflow then runs Quarto on the same `_proc/`."""
import html, json, os, re, sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).resolve().parent))
try:
    import mistune, yaml
    import pages
    from pages import REPO, SITE, order, output_of, proc, root, source_of
except ModuleNotFoundError as e: sys.exit(f"the site needs {e.name}: pip install -e '.[plots,notebook,dev]'")

nbs = root / 'nbs'
MACHINE = re.compile(r'(?<![\w/.])/(?:home|root|work|tmp|Users|var/folders)/[\w.-]+')


@dataclass
class Page:
    "What a text offers to links and what it asks for."
    ids: set = field(default_factory=set)       # anchors, as Quarto (pandoc) makes them
    links: list = field(default_factory=list)   # targets
    images: list = field(default_factory=list)  # (source, alternative text)

    def add_markdown(self, text:str):
        parse = mistune.create_markdown(renderer='ast', plugins=['table', 'strikethrough', 'url'])
        for node in walk(parse(text)):
            attrs = node.get('attrs') or {}
            if node['type'] == 'heading': self._heading(plain(node))
            elif node['type'] == 'link': self.links.append(attrs['url'])
            elif node['type'] == 'image': self.images.append((attrs['url'], plain(node)))
            elif node['type'] in ('block_html', 'inline_html'): self.add_html(node['raw'])

    def add_html(self, text:str):
        self.ids |= set(re.findall(r'\bid="([^"]+)"', text))
        self.links += map(html.unescape, re.findall(r'<a\b[^>]*\bhref="([^"]*)"', text))
        for img in re.findall(r'<img\b[^>]*>', text):
            src, alt = (re.search(rf'\b{k}="([^"]*)"', img) for k in ('src', 'alt'))
            self.images.append((src[1] if src else '', alt[1] if alt else ''))

    def _heading(self, text:str):
        key = pages.anchor(text)
        if key in self.ids: key = next(k for i in range(1, 999) if (k := f'{key}-{i}') not in self.ids)
        self.ids.add(key)


def walk(nodes):
    for n in nodes:
        yield n
        yield from walk(n.get('children') or ())


def plain(node) -> str: return html.unescape(node['raw'] if 'raw' in node else ''.join(map(plain, node.get('children') or ())))


def text_of(value) -> str: return ''.join(value) if isinstance(value, list) else str(value)


def read_page(name:str) -> Page:
    "A prepared page."
    page = Page()
    if name == 'api': page.add_markdown((proc / source_of(name)).read_text('utf-8').split('---', 2)[2]); return page
    for c in json.loads((proc / source_of(name)).read_text('utf-8'))['cells']:
        source = text_of(c['source'])
        if c['cell_type'] == 'markdown': page.add_markdown(source)
        for o in c.get('outputs', []):
            data = {k: text_of(v) for k, v in o.get('data', {}).items()}
            if 'text/html' in data: page.add_html(data['text/html'])
            elif 'text/markdown' in data: page.add_markdown(data['text/markdown'])
            elif any(k.startswith('image/') for k in data):
                alt = re.search(r'^#\|\s*fig-alt:\s*"?(.+?)"?$', source, re.M)
                page.images.append(('data:', alt[1] if alt else ''))
    return page


def stored_faults(name:str):
    "What no notebook may store: errors and paths of the machine it ran on, in hidden cells and the state of widgets too."
    nb = json.loads((root / f'nbs/{name}.ipynb').read_text('utf-8'))
    if m := MACHINE.search(json.dumps(nb['metadata'].get('widgets', ''), ensure_ascii=False)): yield f'{name}: a widget stores a path of a machine: {m[0]}'
    for i, c in enumerate(nb['cells']):
        for o in c.get('outputs', []):
            if o['output_type'] == 'error': yield f'{name}: cell {i} stores the error {o["ename"]}'
            text = ''.join(text_of(v) for k, v in o.get('data', {}).items() if k.startswith('text')) + text_of(o.get('text', ''))
            if 'Traceback (most recent call last)' in text: yield f'{name}: cell {i} stores a traceback'
            if m := MACHINE.search(text): yield f'{name}: cell {i} stores a path of a machine: {m[0]}'


def link_faults(where:str, page:Page, site:dict, here:Path):
    "Every internal link, anchor and picture of a page is there. `site`: name of a page → Page; `here`: the folder that relative links start from."
    for link in page.links:
        target, _, anchor = unquote(link).partition('#')
        if target.startswith(SITE): path = nbs / (Path(target.removeprefix(SITE).strip('/') or 'index.html').with_suffix('.ipynb'))
        elif target.startswith(REPO + '/'): path = root / target.removeprefix(REPO + '/')
        elif re.match(r'\w+:', target): continue
        else: path = Path(os.path.normpath(here / target))
        name = path.relative_to(nbs).with_suffix('').as_posix() if path.is_relative_to(nbs) and path != nbs else ''
        if target.endswith('.html') and not target.startswith(SITE) and name in site: yield f'{where}: link to {target}: write the notebook\'s name, {path.stem}.ipynb'; continue
        goal = page if not target else site.get(name) if path.suffix in ('.ipynb', '.qmd') else None
        if goal is None and not path.exists(): yield f'{where}: link to {link}, which is not there'
        elif goal and anchor and anchor not in goal.ids: yield f'{where}: no anchor #{anchor} in {name or where}'
    for src, alt in page.images:
        if not alt.strip() or 'No description' in alt: yield f'{where}: picture without alt text: {src[:90]}'
        if not re.match(r'data:|https?:', src) and not (here / src).exists(): yield f'{where}: picture {src[:80]} is not there'


def configuration_faults():
    "What Quarto will read is valid, and names what exists."
    if (root / 'nbs/sidebar.yml').read_text('utf-8') != pages.sidebar(): yield 'nbs/sidebar.yml lacks a page: `python tests/site.py --sidebar` writes it'
    conf = yaml.safe_load((proc / '_quarto.yml').read_text('utf-8'))
    named = [*conf.get('metadata-files', []), *(x for v in conf['format']['html']['theme'].values() for x in (v if isinstance(v, list) else [v]) if x.endswith('.scss'))]
    for f in named:
        if not (proc / f).exists(): yield f'_quarto.yml names {f}, which is not there'
    def leaves(x): return [x] if isinstance(x, str) else [l for e in (x if isinstance(x, list) else x['contents']) for l in leaves(e)]
    listed = leaves(yaml.safe_load((proc / 'sidebar.yml').read_text('utf-8'))['website']['sidebar']['contents'])
    for f in listed:
        if not (proc / f).exists(): yield f'sidebar.yml names {f}, which is not prepared'
    for p in proc.rglob('*.ipynb'):
        if p.relative_to(proc).as_posix() not in listed: yield f'{p.name} is not in the sidebar'
    names = [output_of(n) for n in order()]
    yield from (f'two pages are called {n}' for n in sorted({n for n in names if names.count(n) > 1}))


def all_faults() -> list:
    site, faults = {n: read_page(n) for n in order()}, []
    for n, page in site.items():
        if not pages.about(n)[1]: faults.append(f'{n}: no description under its title')
        if n != 'api': faults += stored_faults(n)
        faults += link_faults(n, page, site, (nbs / n).parent)
    for f in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'):
        page = Page(); page.add_markdown((root / f).read_text('utf-8'))
        faults += link_faults(f, page, site, root)
    return list(dict.fromkeys([*faults, *configuration_faults()]))


def main():
    if '--sidebar' in sys.argv[1:]: return (root / 'nbs/sidebar.yml').write_text(pages.sidebar(), 'utf-8')
    pages.prepare_all()
    if '--prepare' in sys.argv[1:]: return print(f'{len(order())} pages are prepared in {proc.name}/')
    if faults := all_faults(): sys.exit('\n'.join(faults[:80]))
    print(f'{len(order())} pages, no faults')


if __name__ == '__main__': main()
