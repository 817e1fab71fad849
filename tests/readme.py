"Writes README.md from nbs/index.ipynb: `python tests/readme.py`; with --check it only says whether they agree (exit 1 if not)."
import base64, re, sys
from pathlib import Path

import nbformat

from pages import chapters

root = Path(__file__).resolve().parent.parent


def render():
    "(text of README.md, file name → bytes of its images)"
    nb = nbformat.read(root / 'nbs/index.ipynb', 4)
    out, images = ['<!-- Written from nbs/index.ipynb by `make readme`; edit that. -->'], {}
    for cell in nb.cells:
        if cell.cell_type == 'markdown': out.append(cell.source.replace('<!-- chapters -->', chapters())); continue
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
            elif 'text/markdown' in data: out.append(''.join(data['text/markdown']))
    return '\n\n'.join(re.sub(r'\n{3,}', '\n\n', p.strip()) for p in out) + '\n', images


if __name__ == '__main__':
    text, images = render()
    if '--check' in sys.argv:
        same = (root / 'README.md').read_text('utf-8') == text and all((root / 'nbs/images' / n).exists() and (root / 'nbs/images' / n).read_bytes() == b for n, b in images.items())
        if not same: sys.exit('README.md is not what nbs/index.ipynb says: run `make readme`')
    else:
        (root / 'nbs/images').mkdir(exist_ok=True)
        for n, b in images.items(): (root / 'nbs/images' / n).write_bytes(b)
        (root / 'README.md').write_text(text, 'utf-8')
