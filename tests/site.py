"""The documentation site, prepared and checked without Quarto (which the publishing workflow uses): every notebook in nbs/ is
rendered to HTML under _docs/ with a sidebar in reading order; then links, anchors, images and outputs are checked.
`python tests/site.py` exits 1 with a list of faults."""
import html, re, sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbconvert import HTMLExporter

root = Path(__file__).resolve().parent.parent
out = root / '_docs'
MACHINE = re.compile(r'(?<![\w/.])/(?:home|root|work|tmp|Users|var/folders)/[\w.-]+')


def sections():
    "The sidebar: section → pages, in reading order. `nbs/sidebar.yml` is written from it (`python tests/site.py --sidebar`)."
    names = sorted(p.stem for p in (root / 'nbs').glob('*.ipynb'))
    live = [n for n in ('run_experiment', 'report', 'explore', 'gallery') if n in names]
    guides = [n for n in names if n.startswith('guide_')]
    return {'': ['index'], 'Guides': guides, 'Notebooks to run': live, 'The library, chapter by chapter': [n for n in names if n not in ['index', *live, *guides]]}


def order(): return [n for names in sections().values() for n in names]


def sidebar():
    lines = ['# Written by `python tests/site.py --sidebar` from the notebooks in this folder.', 'website:', '  sidebar:', '    style: docked', '    search: true', '    contents:']
    for section, names in sections().items():
        if section: lines += [f'      - section: "{section}"', '        contents:']
        lines += [f'{"          " if section else "      "}- {n}.ipynb' for n in names]
    return '\n'.join(lines) + '\n'


def title_of(nb, name):
    for c in nb.cells:
        if m := re.match(r'#\s+(.+)', c.source): return m[1].strip()
    return name


def about_of(nb):
    "The line that describes the page, `> ...` under the title."
    return next((m[1].strip() for c in nb.cells if c.cell_type == 'markdown' and (m := re.search(r'^>\s*(.+)', c.source, re.M))), '')


def prepare(nb):
    "What readers see: hidden cells gone, directives stripped, code of `echo: false` cells left out."
    cells = []
    for c in nb.cells:
        if c.cell_type == 'code':
            flags = {l.strip() for l in c.source.splitlines() if l.startswith('#|')}
            if flags & {'#| hide', '#| default_exp'} or any(f.startswith('#| default_exp') for f in flags): continue
            c.source = '' if '#| echo: false' in flags else '\n'.join(l for l in c.source.splitlines() if not l.startswith('#|'))
            if not c.source.strip() and not c.outputs: continue
        cells.append(c)
    nb.cells = cells
    return nb


def faults_of(name, nb):
    for i, c in enumerate(nb.cells):
        for o in c.get('outputs', []):
            if o.output_type == 'error': yield f'{name}: cell {i} stores the error {o.ename}'
            text = ''.join(''.join(v) if isinstance(v, list) else str(v) for k, v in o.get('data', {}).items() if k.startswith('text')) + ''.join(o.get('text', ''))
            if 'Traceback (most recent call last)' in text: yield f'{name}: cell {i} stores a traceback'
            if m := MACHINE.search(text): yield f'{name}: cell {i} stores a path of a machine: {m[0]}'
        if c.cell_type == 'markdown':
            for m in re.finditer(r'!\[(.*?)\]\((.+?)\)', c.source):
                if not m[1].strip(): yield f'{name}: cell {i} has an image without alt text'


def main():
    written = root / 'nbs/sidebar.yml'
    if '--sidebar' in sys.argv[1:]: written.write_text(sidebar(), 'utf-8'); return
    faults, pages = [], {}
    if not written.exists() or written.read_text('utf-8') != sidebar(): faults.append('nbs/sidebar.yml lacks a page: `python tests/site.py --sidebar` writes it')
    names = order()
    titles = {n: title_of(nbformat.read(root / f'nbs/{n}.ipynb', 4), n) for n in names}
    about = {n: about_of(nbformat.read(root / f'nbs/{n}.ipynb', 4)) for n in names}
    faults += [f'{n}: no description under its title' for n in names if not about[n]]
    out.mkdir(exist_ok=True)
    exporter = HTMLExporter(template_name='lab', embed_images=True)
    entry = lambda n: f'<li><a href="{n}.html">{html.escape(titles[n])}</a></li>'
    bar = ''.join((f'<li style="list-style:none;margin-top:.6em"><b>{s}</b></li>' if s else '') + ''.join(map(entry, ns)) for s, ns in sections().items())
    nav = f'<nav aria-label="pages" style="position:fixed;left:0;top:0;bottom:0;width:15rem;overflow:auto;padding:1rem;font:14px sans-serif;background:#f6f6f6"><b>wattnb</b><ul>{bar}</ul></nav><div style="margin-left:17rem">'
    for n in names:
        nb = nbformat.read(root / f'nbs/{n}.ipynb', 4)
        faults += faults_of(n, nb)
        try: body, _ = exporter.from_notebook_node(prepare(nb))
        except Exception as e: faults.append(f'{n}: does not render: {type(e).__name__}: {e}'); continue
        body = body.replace('<title>Notebook</title>', f'<title>{html.escape(titles[n])} – wattnb</title>')
        body = re.sub(r'(<body[^>]*>)', lambda m: m[1] + nav, body, count=1).replace('</body>', '</div></body>')
        body = re.sub(r'<img(?![^>]*\balt=)', f'<img alt="Figure of {html.escape(titles[n])}"', body)
        body = re.sub(r'alt="No description has been provided for this image"', f'alt="Figure of {html.escape(titles[n])}"', body)
        (out / f'{n}.html').write_text(body, 'utf-8')
        pages[f'{n}.html'] = body
    ids = {p: set(re.findall(r'\bid="([^"]+)"', b)) for p, b in pages.items()}
    for p, b in pages.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"#:]*)(?:#([^"]+))?"', b):
            target, anchor = link[0] or p, link[1]
            target = target.replace('.ipynb', '.html')
            if target not in pages and not (root / 'nbs' / target).exists(): faults.append(f'{p}: link to {target}, which is not there')
            elif anchor and target in pages and unquote(anchor) not in ids[target] and html.unescape(unquote(anchor)) not in ids[target]: faults.append(f'{p}: no anchor #{anchor} in {target}')
        for src in re.findall(r'<img\b[^>]*\bsrc="([^"]+)"', b):
            if not src.startswith('data:') and not (root / 'nbs' / src).exists(): faults.append(f'{p}: image {src[:80]} is not there')
    (out / 'llms.txt').write_text('# wattnb\n' + ''.join(f'\n## {s or "Start here"}\n\n' + ''.join(f'- [{titles[n]}]({n}.html): {about[n]}\n' for n in ns) for s, ns in sections().items()), 'utf-8')
    if faults: sys.exit('\n'.join(faults[:60]))
    print(f'{len(pages)} pages, no faults')


if __name__ == '__main__': main()
