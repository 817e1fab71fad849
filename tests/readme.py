"""Writes README.md from nbs/index.ipynb: `python tests/readme.py`; with --check it only checks whether they agree (exit 1 if not).

With --session FILE it first puts the text of that file, a recorded terminal session, into the page `guides/17_overview`:

    (set -x; wattnb benchmark --model smollm2-135m --env laptop) > FILE 2>&1; python tests/readme.py --session FILE
"""
import base64, re, sys
from pathlib import Path

import nbformat

from pages import SITE

root = Path(__file__).resolve().parent.parent


def in_the_repository(text):
    "Links to pages of the site lead to their notebooks: those are there in every checkout, and GitHub shows them. Pictures are in `nbs/images`."
    text = text.replace('](images/', '](nbs/images/')
    return re.sub(re.escape(SITE) + r'/([\w/]+)\.html', lambda m: f'nbs/{m[1]}.ipynb' if (root / f'nbs/{m[1]}.ipynb').exists() else m[0], text)


def render():
    "(text of README.md, file name → bytes of its images)"
    nb = nbformat.read(root / 'nbs/index.ipynb', 4)
    out, images = ['<!-- Written from nbs/index.ipynb by `make readme`; edit that. -->'], {}
    for cell in nb.cells:
        if cell.cell_type == 'markdown': out.append(in_the_repository(cell.source)); continue
        lines = cell.source.splitlines()
        flags = {l.strip() for l in lines if l.startswith('#|')}
        if '#| hide' in flags: continue
        if '#| echo: false' not in flags: out.append('```python\n' + '\n'.join(l for l in lines if not l.startswith('#|')) + '\n```')
        for o in cell.get('outputs', []):
            data = o.get('data', {})
            if 'image/png' in data:
                name = f'runs-{len(images) + 1}.png'
                images[name] = base64.b64decode(data['image/png'])
                alt = re.search(r'^#\| fig-alt: "(.+)"', cell.source, re.M)
                if not alt: sys.exit(f'nbs/index.ipynb: cell {cell.id} shows a picture and has no `#| fig-alt: "..."`')
                out.append(f'![{alt[1]}](nbs/images/{name})')
    return '\n\n'.join(re.sub(r'\n{3,}', '\n\n', p.strip()) for p in out) + '\n', images


SESSION = re.compile(r'(<!-- session: .*? -->\n```console\n).*?(?=```)', re.S)


def put_session(text):
    "Put a terminal session into its place in nbs/guides/17_overview.ipynb, without lines that only show progress and without blanks at the ends."
    path = root / 'nbs/guides/17_overview.ipynb'
    nb = nbformat.read(path, 4)
    [cell] = [c for c in nb.cells if SESSION.search(c.source)]
    lines = [re.sub(r'^\++ ', '$ ', l.rstrip()) for l in text.strip().splitlines() if not re.search(r' so far(, about .*)?$|^\+\+? set ', l)]
    cell.source = SESSION.sub(lambda m: m[1] + '\n'.join(lines) + '\n', cell.source)
    nbformat.write(nb, path)


if __name__ == '__main__':
    if '--session' in sys.argv: put_session(Path(sys.argv[sys.argv.index('--session') + 1]).read_text('utf-8'))
    text, images = render()
    if '--check' in sys.argv:
        same = (root / 'README.md').read_text('utf-8') == text and all((root / 'nbs/images' / n).exists() and (root / 'nbs/images' / n).read_bytes() == b for n, b in images.items())
        if not same: sys.exit('README.md differs from nbs/index.ipynb: run `make readme`')
    else:
        (root / 'nbs/images').mkdir(exist_ok=True)
        for n, b in images.items(): (root / 'nbs/images' / n).write_bytes(b)
        (root / 'README.md').write_text(text, 'utf-8')
