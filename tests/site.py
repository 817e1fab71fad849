"""The documentation site, rendered and checked without Quarto (which the publishing workflow uses on the same `_proc/`):
`python tests/site.py` prepares the pages, renders them to HTML under `_docs/`, and checks links, anchors, pictures and outputs;
it exits 1 with a list of faults. `--prepare` only prepares (what the publishing workflow wants), `--sidebar` writes `nbs/sidebar.yml`."""
import html, json, re, shutil, sys
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pages
from pages import REPO, SITE, order, output_of, proc, root, sections, source_of

out = root / '_docs'
MACHINE = re.compile(r'(?<![\w/.])/(?:home|root|work|tmp|Users|var/folders)/[\w.-]+')
LINK = re.compile(r'<a\b[^>]*\bhref="([^"]*)"')


def markdown(text:str) -> str:
    from nbconvert.filters.markdown_mistune import MarkdownWithMath, IPythonRenderer
    made = MarkdownWithMath(renderer=IPythonRenderer(escape=False)).render(text)
    made = re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', '', made, flags=re.S)
    return made.replace('<table>', '<div class="wide"><table>').replace('</table>', '</table></div>')


def code(text:str, language:str='python') -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    return highlight(text, get_lexer_by_name({'sh': 'bash'}.get(language, language)), HtmlFormatter(cssclass='highlight'))


def colours() -> str:
    from pygments.formatters import HtmlFormatter
    dark = HtmlFormatter(style='github-dark').get_style_defs('[data-theme=dark] .highlight')
    return HtmlFormatter(style='tango').get_style_defs('.highlight') + '\n' + dark


def options(source:str) -> tuple:
    "(Quarto's options of a cell, the code without them)"
    lines = source.split('\n')
    found = dict(m.groups() for l in lines if (m := re.match(r'#\|\s*([\w-]+):\s*(.*)', l)))
    return {k: v.strip('"') for k, v in found.items()}, '\n'.join(l for l in lines if not l.startswith('#|')).strip('\n')


def text_of(value) -> str: return ''.join(value) if isinstance(value, list) else str(value)


def output(o:dict, alt:str) -> str:
    "One output of a cell, in the richest form that a page can show."
    if o['output_type'] == 'stream': return f'<pre class="out {o["name"]}">{html.escape(text_of(o["text"]).rstrip())}</pre>'
    if o['output_type'] == 'error': return f'<pre class="out stderr">{html.escape(o["ename"])}: {html.escape(o["evalue"])}</pre>'
    data = {k: text_of(v) for k, v in o.get('data', {}).items()}
    if 'text/html' in data: return f'<div class="out wide">{data["text/html"]}</div>'
    if 'text/markdown' in data: return f'<div class="out">{markdown(data["text/markdown"])}</div>'
    for kind in ('image/svg+xml', 'image/png', 'image/jpeg'):
        if kind == 'image/svg+xml' and kind in data: return f'<figure role="img" aria-label="{html.escape(alt)}">{data[kind]}</figure>'
        if kind in data: return f'<figure><img src="data:{kind};base64,{data[kind].strip()}" alt="{html.escape(alt)}" loading="lazy"></figure>'
    return f'<pre class="out">{html.escape(data.get("text/plain", ""))}</pre>'


def cell(c:dict) -> str:
    source = text_of(c['source'])
    if c['cell_type'] == 'markdown': return markdown(source)
    if c['cell_type'] != 'code': return ''
    said, body = options(source)
    shown = '' if said.get('echo') == 'false' or not body.strip() else code(body, c['metadata'].get('language', 'python'))
    if shown and said.get('code-fold') == 'true': shown = f'<details><summary>{html.escape(said.get("code-summary", "Source"))}</summary>{shown}</details>'
    outs = ''.join(output(o, said.get('fig-alt', '')) for o in c.get('outputs', []))
    return f'<div class="cell">{shown}{outs}</div>' if shown or outs else ''


def anchored(body:str) -> tuple:
    "Headings with the ids that Quarto gives them; (body, [(level, id, text)])"
    seen, toc = {}, []
    def one(m):
        level, inner = int(m[1]), re.sub(r'<a\b[^>]*class="anchor-link".*?</a>', '', m[3])
        plain = html.unescape(re.sub(r'<[^>]+>', '', inner)).strip()
        key = pages.anchor(plain)
        n = seen[key] = seen.get(key, -1) + 1
        key = f'{key}-{n}' if n else key
        toc.append((level, key, plain))
        return f'<h{level} id="{key}">{inner}<a class="here" href="#{key}" aria-label="link to this heading">#</a></h{level}>'
    return re.sub(r'<h([1-6])([^>]*)>(.*?)</h\1>', one, body, flags=re.S), toc


def linked(body:str, name:str, faults:list) -> str:
    "Links between notebooks become links between pages."
    def one(m):
        target, _, anchor = m[2].partition('#')
        if target.startswith(SITE): target = target.removeprefix(SITE).lstrip('/') or 'index.html'
        elif re.match(r'\w+:', target): return m[0]
        target = target.removeprefix('./')
        if (stem := Path(target).stem) in order() and target in (f'{stem}.ipynb', f'{stem}.qmd'): target = output_of(stem)
        elif target.startswith('../'): target = f'{REPO}/{target[3:]}'
        elif stem in order() and target == f'{stem}.html' and not m[2].startswith(SITE): faults.append(f'{name}: link to {target}: write the notebook\'s name, {Path(target).stem}.ipynb')
        return f'{m[1]}"{target}{"#" + anchor if anchor else ""}"'
    return re.sub(r'(<a\b[^>]*\bhref=)"([^"]*)"', one, body)


def faults_of(name):
    "What no notebook may store, cells that the page hides and the state of widgets included."
    nb = json.loads((root / f'nbs/{name}.ipynb').read_text('utf-8'))
    if m := MACHINE.search(json.dumps(nb['metadata'].get('widgets', ''), ensure_ascii=False)): yield f'{name}: a widget stores a path of a machine: {m[0]}'
    for i, c in enumerate(nb['cells']):
        for o in c.get('outputs', []):
            if o['output_type'] == 'error': yield f'{name}: cell {i} stores the error {o["ename"]}'
            text = ''.join(text_of(v) for k, v in o.get('data', {}).items() if k.startswith('text')) + text_of(o.get('text', ''))
            if 'Traceback (most recent call last)' in text: yield f'{name}: cell {i} stores a traceback'
            if m := MACHINE.search(text): yield f'{name}: cell {i} stores a path of a machine: {m[0]}'


STYLE = """
:root{--bg:#fff;--fg:#1d2329;--dim:#59636e;--line:#d9dee3;--soft:#f5f7f8;--accent:#00629b;--mark:#fff3bf;color-scheme:light}
[data-theme=dark]{--bg:#14181c;--fg:#dfe4e8;--dim:#98a3ad;--line:#333b43;--soft:#1c2228;--accent:#6cb8f0;--mark:#4a4010;color-scheme:dark}
*{box-sizing:border-box}
html{scroll-padding-top:4rem}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.6 system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
a:focus-visible,button:focus-visible,input:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
header{position:sticky;top:0;z-index:5;display:flex;gap:.8rem;align-items:center;padding:.5rem 1rem;background:var(--bg);border-bottom:1px solid var(--line)}
header .name{font-weight:700;font-size:1.15rem;color:var(--fg)}header form{margin-left:auto;flex:0 1 18rem}
header input,main input[type=search]{width:100%;padding:.35rem .6rem;border:1px solid var(--line);border-radius:6px;background:var(--soft);color:var(--fg);font:inherit;font-size:.9rem}
header button{border:1px solid var(--line);border-radius:6px;background:var(--soft);color:var(--fg);padding:.3rem .6rem;font:inherit;font-size:.9rem;cursor:pointer;white-space:nowrap}
#menu{display:none}
.page{display:grid;grid-template-columns:16.5rem minmax(0,1fr) 13rem;gap:2.2rem;max-width:86rem;margin:0 auto;padding:0 1rem}
nav.bar,nav.toc{position:sticky;top:3.4rem;align-self:start;max-height:calc(100vh - 3.6rem);overflow:auto;padding:1.2rem .3rem 2rem 0;font-size:.87rem;line-height:1.4}
nav ul{list-style:none;margin:0 0 .8rem;padding:0}nav li{margin:.1rem 0}nav b{display:block;margin:.9rem 0 .3rem;font-size:.78rem;text-transform:uppercase;letter-spacing:.05em;color:var(--dim)}
nav a{display:block;padding:.15rem .5rem;color:var(--fg);border-radius:4px}nav a:hover{background:var(--soft);text-decoration:none}
nav a[aria-current]{background:var(--soft);color:var(--accent);font-weight:600}
nav.toc a{color:var(--dim)}nav.toc .l3{padding-left:1.2rem;font-size:.82rem}
main{padding:1.5rem 0 4rem;min-width:0}
h1{font-size:2rem;line-height:1.2;margin:.2rem 0 .4rem}.about{font-size:1.1rem;color:var(--dim);margin:0 0 1.6rem}
h2{margin:2.4rem 0 .7rem;padding-bottom:.25rem;border-bottom:1px solid var(--line);font-size:1.4rem;line-height:1.3}
h3{margin:1.8rem 0 .5rem;font-size:1.12rem}h4{margin:1.4rem 0 .4rem;font-size:1rem}
.here{margin-left:.4rem;color:var(--line);opacity:0;font-weight:400}h1:hover .here,h2:hover .here,h3:hover .here,h4:hover .here,.here:focus{opacity:1}
code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;background:var(--soft);padding:.1em .3em;border-radius:4px}
pre{overflow:auto;padding:.7rem .9rem;border-radius:6px;background:var(--soft);line-height:1.45;font-size:.85rem;margin:.6rem 0}
pre,pre code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}pre code{background:none;padding:0;font-size:inherit}
.highlight{background:none!important;position:relative}.highlight pre{border:1px solid var(--line)}
pre.out{background:none;border-left:3px solid var(--line);border-radius:0;padding:.2rem .9rem;font-size:.8rem}pre.stderr{color:var(--dim)}
.wide{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse;font-size:.88rem;line-height:1.4}
th,td{padding:.35rem .65rem;border-bottom:1px solid var(--line);vertical-align:top}th{text-align:left;font-weight:600;color:var(--dim);white-space:nowrap}tr:hover td{background:var(--soft)}
caption{text-align:left;padding:.2rem .65rem;color:var(--fg)}
figure{margin:1rem 0}img{max-width:100%;height:auto}figure img,main p img{background:#fff;border-radius:6px}[data-theme=dark] figure img,[data-theme=dark] main p img{padding:6px}
[data-theme=dark] .out [style*="color"]:not(a){color:inherit!important}[data-theme=dark] .out [style*="background"]{background:var(--soft)!important}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--dim);font-size:.87rem}
blockquote{margin:1rem 0;padding:.1rem 1rem;border-left:3px solid var(--accent);color:var(--dim)}
.turn{display:flex;justify-content:space-between;gap:1rem;margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.95rem}
.hit{margin:1.1rem 0}.hit small{color:var(--dim);display:block}mark{background:var(--mark);color:inherit}
.skip{position:absolute;left:-99em}.skip:focus{left:1rem;top:.6rem;z-index:9;background:var(--bg);padding:.3rem}
@media(max-width:75rem){.page{grid-template-columns:15rem minmax(0,1fr)}nav.toc{display:none}}
@media(max-width:52rem){#menu{display:inline-block}.page{display:block}nav.bar{display:none;position:static;max-height:none;border-bottom:1px solid var(--line)}nav.bar.open{display:block}
h1{font-size:1.6rem}header form{flex:1 1 6rem;margin-left:0}th,td{padding:.3rem .45rem}main{padding-top:1rem}}
@media print{header,nav,.turn{display:none!important}.page{display:block}}
"""

SCRIPT = """
(function(){var r=document.documentElement,k='wattnb-theme',s=null;try{s=localStorage.getItem(k)}catch(e){}
function set(t){r.dataset.theme=t;var b=document.getElementById('theme');if(b){b.textContent=t=='dark'?'light':'dark';b.setAttribute('aria-label','switch to '+b.textContent+' colours')}}
set(s||(window.matchMedia&&matchMedia('(prefers-color-scheme: dark)').matches?'dark':'light'));
document.addEventListener('DOMContentLoaded',function(){set(r.dataset.theme);
document.getElementById('theme').onclick=function(){var t=r.dataset.theme=='dark'?'light':'dark';set(t);try{localStorage.setItem(k,t)}catch(e){}};
var m=document.getElementById('menu'),n=document.querySelector('nav.bar');m.onclick=function(){m.setAttribute('aria-expanded',n.classList.toggle('open'))};
document.addEventListener('keydown',function(e){if(e.key=='/'&&!/INPUT|TEXTAREA/.test(document.activeElement.tagName)){e.preventDefault();document.querySelector('header input').focus()}})})})();
"""

SEARCH = """
(function(){var q=document.getElementById('q'),o=document.getElementById('hits'),esc=function(s){return s.replace(/[&<>"]/g,function(c){return{'&':'&amp;','<':'&lt;','>':'&gt;','"':'&quot;'}[c]})};
function show(){var w=q.value.toLowerCase().split(/[^\\p{L}\\p{N}_.%-]+/u).filter(Boolean),r=[];if(!w.length){o.innerHTML='';return}
INDEX.forEach(function(e){var t=e[1].toLowerCase(),h=e[2].toLowerCase(),x=e[3].toLowerCase(),s=0;
for(var i=0;i<w.length;i++){var p=(h==w[i]?60:0)+(h.indexOf(w[i])>=0?20:0)+(t.indexOf(w[i])>=0?8:0)+Math.min(5,x.split(w[i]).length-1);if(!p)return;s+=p}r.push([s,e])});
r.sort(function(a,b){return b[0]-a[0]});
var mark=function(s){var out=esc(s);w.forEach(function(v){out=out.replace(new RegExp('('+v.replace(/[.*+?^${}()|[\\]\\\\]/g,'\\\\$&')+')(?![^<]*>)','ig'),'<mark>$1</mark>')});return out};
o.innerHTML='<p>'+r.length+' found</p>'+r.slice(0,40).map(function(x){var e=x[1],k=Math.max(0,e[3].toLowerCase().indexOf(w[0])-70);
return '<div class="hit"><a href="'+e[0]+'">'+mark(e[2]||e[1])+'</a><small>'+esc(e[1])+'</small>'+mark((k?'…':'')+e[3].slice(k,k+220))+'</div>'}).join('')}
q.value=new URLSearchParams(location.search).get('q')||'';q.oninput=show;show()})();
"""


def shell(name:str, title:str, about:str, body:str, toc:list, titles:dict) -> str:
    "A whole page: head, sidebar, contents, neighbours."
    here = lambda n: f'<li><a href="{output_of(n)}"{" aria-current=page" if n == name else ""}>{html.escape(titles[n])}</a></li>'
    bar = ''.join((f'<b>{s}</b>' if s else '') + '<ul>' + ''.join(map(here, ns)) + '</ul>' for s, ns in sections().items())
    inside = [t for t in toc if t[0] in (2, 3)]
    if len(inside) > 45: inside = [t for t in inside if t[0] == 2]
    right = '<b>On this page</b><ul>' + ''.join(f'<li><a class="l{l}" href="#{k}">{html.escape(t)}</a></li>' for l, k, t in inside) + '</ul>' if inside else ''
    names = order(); i = names.index(name) if name in names else -1
    turn = ''
    if i >= 0:
        turn = '<div class="turn"><span>' + (f'← <a rel="prev" href="{output_of(names[i - 1])}">{html.escape(titles[names[i - 1]])}</a>' if i else '') + '</span><span>' \
            + (f'<a rel="next" href="{output_of(names[i + 1])}">{html.escape(titles[names[i + 1]])}</a> →' if i + 1 < len(names) else '') + '</span></div>'
    said = re.sub('`([^`]+)`', r'<code>\1</code>', html.escape(about))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{html.escape(title)}{'' if title == 'wattnb' else ' – wattnb'}</title>
<meta name="description" content="{html.escape(about.replace('`', ''))}"><link rel="stylesheet" href="site.css"><script src="site.js"></script></head>
<body><a class="skip" href="#content">to the text</a><header><button id="menu" aria-expanded="false" aria-label="list of pages">pages</button><a class="name" href="index.html">wattnb</a>
<form action="search.html" role="search"><input name="q" type="search" placeholder="search ( / )" aria-label="search the site"></form><button id="theme">dark</button></header>
<div class="page"><nav class="bar" aria-label="pages">{bar}</nav><main id="content"><h1>{html.escape(title)}</h1><p class="about">{said}</p>{body}{turn}</main><nav class="toc" aria-label="on this page">{right}</nav></div>
</body></html>
"""


def search_entries(name:str, title:str, body:str) -> list:
    "[address, page, heading, text] of each section of a page."
    made = []
    for part in re.split(r'(?=<h[234] id=)', re.sub(r'<(style|script|svg|figure)\b.*?</\1>', ' ', body, flags=re.S)):
        m = re.match(r'<h[234] id="([^"]+)">(.*?)<a class="here"', part, re.S)
        plain = ' '.join(html.unescape(re.sub(r'<[^>]+>', ' ', part)).split())
        if plain: made.append([output_of(name) + (f'#{m[1]}' if m else ''), title, html.unescape(re.sub(r'<[^>]+>', '', m[2])) if m else '', plain[:900]])
    return made


def check_links(made:dict, faults:list):
    "Every internal link, anchor and picture of the rendered pages is there."
    ids = {p: set(re.findall(r'\bid="([^"]+)"', b)) for p, b in made.items()}
    for p, b in made.items():
        for link in LINK.findall(b):
            target, _, anchor = html.unescape(link).partition('#')
            if target.startswith(REPO + '/'):
                if not (root / target.removeprefix(REPO + '/')).exists(): faults.append(f'{p}: link to {target}, which the repository has not')
            elif re.match(r'\w+:', target): continue
            elif (target or p) not in made: faults.append(f'{p}: link to {target}, which is not there')
            elif anchor and unquote(anchor) not in ids[target or p]: faults.append(f'{p}: no anchor #{anchor} in {target or p}')
        for img in re.findall(r'<img\b[^>]*>', b):
            src, alt = re.search(r'\bsrc="([^"]*)"', img), re.search(r'\balt="([^"]*)"', img)
            if not alt or not alt[1].strip() or 'No description' in alt[1]: faults.append(f'{p}: picture without alt text: {img[:90]}')
            if src and not re.match(r'data:|https?:', src[1]) and not (out / src[1]).exists(): faults.append(f'{p}: picture {src[1][:80]} is not there')


def check_texts(made:dict, faults:list):
    "README and its kin lead to pages, anchors, files and pictures that exist."
    ids = {p: set(re.findall(r'\bid="([^"]+)"', b)) for p, b in made.items()}
    for f in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'):
        text = (root / f).read_text('utf-8')
        own = {pages.anchor(re.sub(r'[`*]', '', h)) for h in re.findall(r'^#+\s+(.+)$', text, re.M)}
        for alt, link in re.findall(r'!\[(.*?)\]\((\S+?)\)', text):
            if not alt.strip(): faults.append(f'{f}: picture {link} without alt text')
        for link in re.findall(r'\]\((\S+?)\)', text):
            target, _, anchor = link.partition('#')
            if target.startswith(SITE):
                page = target.removeprefix(SITE).strip('/') or 'index.html'
                if page not in made: faults.append(f'{f}: {link} is no page of the site')
                elif anchor and anchor not in ids[page]: faults.append(f'{f}: no anchor #{anchor} in {page}')
            elif target.startswith(REPO + '/'):
                if not (root / target.removeprefix(REPO + '/')).exists(): faults.append(f'{f}: {link}: no such file')
            elif re.match(r'\w+:', target): continue
            elif target and not (root / target).exists(): faults.append(f'{f}: {link}: no such file')
            elif not target and anchor not in own: faults.append(f'{f}: no heading #{anchor}')


def check_configuration(faults:list):
    "What Quarto will read is valid, and names what exists."
    import yaml
    if (root / 'nbs/sidebar.yml').read_text('utf-8') != pages.sidebar(): faults.append('nbs/sidebar.yml lacks a page: `python tests/site.py --sidebar` writes it')
    conf = yaml.safe_load((proc / '_quarto.yml').read_text('utf-8'))
    for f in conf.get('metadata-files', []):
        if not (proc / f).exists(): faults.append(f'_quarto.yml names {f}, which is not there')
    themes = conf['format']['html']['theme']
    for f in [x for v in themes.values() for x in (v if isinstance(v, list) else [v]) if x.endswith('.scss')]:
        if not (proc / f).exists(): faults.append(f'_quarto.yml names the theme {f}, which is not there')
    def leaves(x): return [x] if isinstance(x, str) else [l for e in (x if isinstance(x, list) else x['contents']) for l in leaves(e)]
    listed = leaves(yaml.safe_load((proc / 'sidebar.yml').read_text('utf-8'))['website']['sidebar']['contents'])
    faults += [f'sidebar.yml names {f}, which is not prepared' for f in listed if not (proc / f).exists()]
    faults += [f'{p.name} is not in the sidebar' for p in proc.glob('*.ipynb') if p.name not in listed]
    twice = [output_of(n) for n in order()]
    faults += [f'two pages are called {n}' for n in sorted({n for n in twice if twice.count(n) > 1})]


def render(faults:list) -> tuple:
    "(file name → HTML, entries of the search) of all prepared pages"
    titles = {n: pages.about(n)[0] for n in order()}
    made, index = {}, []
    for n in order():
        title, about = pages.about(n)
        if not about: faults.append(f'{n}: no description under its title')
        if n == 'api': body = markdown((proc / 'api.qmd').read_text('utf-8').split('---', 2)[2])
        else:
            nb = json.loads((proc / f'{n}.ipynb').read_text('utf-8'))
            faults += faults_of(n)
            body = '\n'.join(cell(c) for c in nb['cells'])
        body, toc = anchored(linked(body, n, faults))
        made[output_of(n)] = shell(n, title, about, body, toc, titles)
        index += search_entries(n, title, body)
    found = '<p><input id="q" type="search" aria-label="search" placeholder="words, all of which must occur"></p><div id="hits" aria-live="polite"></div>' \
            '<noscript><p>The search needs JavaScript; the <a href="api.html">list of functions</a> does not.</p></noscript><script src="search.js"></script>'
    made['search.html'] = shell('search', 'Search', 'Every page, every heading, every function', found, [], titles)
    return made, index


def main():
    if '--sidebar' in sys.argv[1:]: (root / 'nbs/sidebar.yml').write_text(pages.sidebar(), 'utf-8'); return
    pages.prepare_all()
    if '--prepare' in sys.argv[1:]: return print(f'{len(list(proc.glob("*.ipynb")))} pages are prepared in {proc.name}/')
    faults = []
    if out.exists(): shutil.rmtree(out)
    out.mkdir()
    if (proc / 'images').exists(): shutil.copytree(proc / 'images', out / 'images')
    made, index = render(faults)
    for n, b in made.items(): (out / n).write_text(b, 'utf-8')
    (out / 'site.css').write_text(STYLE + colours(), 'utf-8')
    (out / 'site.js').write_text(SCRIPT, 'utf-8')
    (out / 'search.js').write_text('var INDEX=' + json.dumps(index, ensure_ascii=False, separators=(',', ':')) + ';' + SEARCH, 'utf-8')
    shutil.copy2(proc / 'llms.txt', out / 'llms.txt')
    check_links(made, faults); check_texts(made, faults); check_configuration(faults)
    if faults: sys.exit('\n'.join(dict.fromkeys(faults[:80])))
    print(f'{len(made)} pages, {len(index)} sections to search, no faults')


if __name__ == '__main__': main()
