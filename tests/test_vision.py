"Pictures on their way to models: the transformers loop with tiny vision-language models of random weights, servers, and whole runs."
import pytest

torch = pytest.importorskip('torch')
import transformers
from conftest import picture, words_workspace
from wattnb.core.workspace import UserError, WorkError
from wattnb.llm.checkpoint import local_weights
from wattnb.llm.local import LocalModel
from wattnb.llm.protocol import Request
from wattnb.llm.registry import ModelEntry, load_registry

pytest.importorskip('PIL')
SMOL = load_registry()['smollm2-135m'].on_engine('transformers')
TEXT = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=4096)
TEMPLATE = '''{% for m in messages %}<|im_start|>{{ m['role'] }}
{% for c in m['content'] %}{% if c['type'] == 'image' %}PLACE{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}'''


@pytest.fixture(scope='session')
def tokens():
    def make(*more, **named):
        tok = transformers.AutoTokenizer.from_pretrained(local_weights(SMOL).path, extra_special_tokens=named)
        tok.add_tokens(list(more), special_tokens=True)
        return tok
    return make


def saved(folder, config, processor=None):
    torch.manual_seed(5)
    model = transformers.AutoModelForImageTextToText.from_config(config).float().eval()
    with torch.no_grad(): # random weights of the usual size make pictures invisible beside the text
        for p in model.parameters():
            if p.ndim > 1: p.mul_(4)
    model.save_pretrained(folder)
    if processor is not None: processor.save_pretrained(folder)
    return ModelEntry(f'tiny-{config.model_type}', 'hf_local', str(folder), precision='fp32', max_new_tokens=14, vision=True, options=dict(device='cpu'))


def idefics3(folder, tokens, monkeypatch):
    "Tiles, each with marks of its row and column; batches are padded with empty pictures."
    tok = tokens('<fake_token_around_image>', '<image>', '<global-img>', '<end_of_utterance>', *(f'<row_{r}_col_{c}>' for r in range(1, 5) for c in range(1, 5)))
    tiles = transformers.Idefics3ImageProcessorPil(size=dict(longest_edge=64), max_image_size=dict(longest_edge=32))
    processor = transformers.Idefics3Processor(tiles, tok, image_seq_len=4, chat_template=TEMPLATE.replace('PLACE', '<image>'))
    config = transformers.AutoConfig.for_model(
        'idefics3', text_config=dict(TEXT, model_type='llama', vocab_size=len(tok)), image_token_id=tok.convert_tokens_to_ids('<image>'), scale_factor=2, pad_token_id=tok.pad_token_id or 0,
        vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8))
    return saved(folder, config, processor)


def llava(folder, tokens, monkeypatch):
    "Every picture is as many tokens."
    tok = tokens('<image>')
    small = transformers.CLIPImageProcessorPil(size=dict(shortest_edge=32), crop_size=dict(height=32, width=32))
    processor = transformers.LlavaProcessor(small, tok, patch_size=8, vision_feature_select_strategy='default', num_additional_image_tokens=1, chat_template=TEMPLATE.replace('PLACE', '<image>'))
    config = transformers.AutoConfig.for_model(
        'llava', text_config=dict(TEXT, model_type='llama', vocab_size=len(tok)), image_token_index=tok.convert_tokens_to_ids('<image>'),
        vision_config=dict(model_type='clip_vision_model', hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8))
    return saved(folder, config, processor)


def gemma3(folder, tokens, monkeypatch):
    "Attention in both directions within a picture, a sliding window, a cache that is not plain."
    tok = tokens(boi_token='<start_of_image>', eoi_token='<end_of_image>', image_token='<image_soft_token>')
    square = transformers.Gemma3ImageProcessorPil(size=dict(height=32, width=32))
    processor = transformers.Gemma3Processor(square, tok, image_seq_length=4, chat_template=TEMPLATE.replace('PLACE', '<start_of_image>'))
    config = transformers.AutoConfig.for_model(
        'gemma3', text_config=dict(TEXT, model_type='gemma3_text', vocab_size=len(tok), sliding_window=64, query_pre_attn_scalar=8, num_hidden_layers=6), mm_tokens_per_image=4,
        boi_token_index=tok.boi_token_id, eoi_token_index=tok.eoi_token_id, image_token_index=tok.image_token_id,
        vision_config=dict(model_type='siglip_vision_model', hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8))
    return saved(folder, config, processor)


def qwen2_vl(folder, tokens, monkeypatch):
    "Positions in three dimensions. Its processor needs torchvision for films, so that part is left out here."
    tok = tokens('<|vision_start|>', '<|vision_end|>', '<|image_pad|>', '<|video_pad|>')
    class Pictures(transformers.Qwen2VLProcessor):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kw):
            self.image_token, self.video_token = '<|image_pad|>', '<|video_pad|>'
            self.image_token_id, self.video_token_id = map(tokenizer.convert_tokens_to_ids, (self.image_token, self.video_token))
            transformers.ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
    patches = transformers.Qwen2VLImageProcessorPil(patch_size=8, size=dict(shortest_edge=16 * 16, longest_edge=64 * 64))
    processor = Pictures(patches, tok, TEMPLATE.replace('PLACE', '<|vision_start|><|image_pad|><|vision_end|>'))
    ids = dict(image_token_id='<|image_pad|>', video_token_id='<|video_pad|>', vision_start_token_id='<|vision_start|>', vision_end_token_id='<|vision_end|>')
    config = transformers.AutoConfig.for_model(
        'qwen2_vl', **{k: tok.convert_tokens_to_ids(t) for k, t in ids.items()},
        text_config=dict(TEXT, vocab_size=len(tok), rope_parameters=dict(rope_type='default', rope_theta=100., mrope_section=[2, 1, 1])),
        vision_config=dict(depth=2, embed_dim=32, hidden_size=32, num_heads=4, mlp_ratio=2, patch_size=8))
    tok.chat_template = processor.chat_template
    tok.save_pretrained(folder)
    monkeypatch.setattr(transformers.AutoProcessor, 'from_pretrained', lambda *a, **k: processor)
    return saved(folder, config)


MODELS = dict(llava=llava, idefics3=idefics3, gemma3=gemma3, qwen2_vl=qwen2_vl)
QUESTIONS = ['How much?', 'How much energy did the hall take in the year 2031, in MWh, by the figure on that page?', 'Why is the second bar the highest of all?', 'Which?']
SIZES = [(40, 40), (80, 30), (30, 70), (64, 64)]

def requests(n=4):
    return [Request(f'q{i}', 'You read papers.', QUESTIONS[i % 4] + f' ({i})', images=tuple(picture(10 * i + j, *SIZES[(i + j) % 4]) for j in range(1 + i % 2))) for i in range(n)]


def generated(m, r):
    "What transformers' own `generate` makes of a request."
    inputs = m._processed([m.prompt_text(r)], [r])
    out = m.model.generate(**{k: v for k, v in inputs.items() if k in m._takes}, max_new_tokens=14, do_sample=False)
    return out[0, inputs['input_ids'].shape[1]:].tolist()


def sure(reply): return [p for _, p in reply.logprobs]


def answered(m, asked):
    "Request → (reply, ids of its reply), all sent together."
    ids, reply = {}, m._reply
    m._reply = lambda s: (ids.__setitem__(s.request.id, list(s.new_ids)), reply(s))[1]
    try: return {r.id: (r, ids.get(r.id)) for r in m.stream(asked)}
    finally: del m._reply


@pytest.mark.parametrize('kind', MODELS)
def test_batch_alone_and_generate_agree(tmp_path, tokens, monkeypatch, kind):
    entry, asked = MODELS[kind](tmp_path, tokens, monkeypatch), requests()
    with LocalModel(entry, images=2) as m:
        assert m.info['image_processor']
        together = answered(m, asked)
        alone = {r.id: answered(m, [r])[r.id] for r in asked}
        for r in asked:
            (a, one), (b, batched) = alone[r.id], together[r.id]
            assert a.ok and b.ok and (a.batch_size, b.batch_size) == (1, 4)
            assert one == batched and sure(a) == pytest.approx(sure(b), abs=1e-3) and a.prompt_tokens == b.prompt_tokens and a.image_tokens == b.image_tokens > 0
            want = generated(m, r)
            assert one == want[:len(one)] and len(one) >= len(want) - 1, (kind, r.id) # the end token is no part of a reply
        assert len({round(sure(a)[0], 3) for a, _ in alone.values()}) == len(asked) # each its own pictures


@pytest.mark.parametrize('kind', ['idefics3', 'qwen2_vl'])
def test_questions_with_pictures_join_and_leave_a_batch(tmp_path, tokens, monkeypatch, kind):
    "Seven questions in places for two, of replies of 3 to 14 tokens, among questions without pictures."
    from dataclasses import replace
    entry = MODELS[kind](tmp_path, tokens, monkeypatch)
    asked = [replace(r, max_tokens=3 + 4 * (i % 4)) for i, r in enumerate(requests(7))]
    asked += [Request(f't{i}', 'You read papers.', t, max_tokens=5 + 3 * i) for i, t in enumerate(QUESTIONS)]
    with LocalModel(entry, images=2, batch_size=2) as m:
        together = answered(m, asked)
        assert m.info['batches'] < len(asked) # they joined
    with LocalModel(entry, images=2, latency_mode=True) as m:
        for r in asked:
            (one, ids), (b, batched) = answered(m, [r])[r.id], together[r.id]
            assert ids == batched and sure(one) == pytest.approx(sure(b), abs=1e-3), r.id
            assert (b.image_tokens is None) == (not r.images)


def test_a_picture_changes_the_reply_and_its_tokens_are_counted(tmp_path, tokens, monkeypatch):
    entry = llava(tmp_path, tokens, monkeypatch)
    r = requests(1)[0]
    other = Request('q0', r.system, r.user, images=(picture(99, 40, 40),))
    none = Request('q0', r.system, r.user)
    with LocalModel(entry) as m: # the processor is loaded with the first picture
        assert m.processor is None
        a, b, c = (answered(m, [x])['q0'] for x in (r, other, none))
        assert abs(sure(a[0])[0] - sure(b[0])[0]) > 1e-3 and a[0].prompt_hash != b[0].prompt_hash != c[0].prompt_hash
        assert (a[0].image_tokens, c[0].image_tokens) == (16, None) and a[0].prompt_tokens == c[0].prompt_tokens + 16
        assert 'How much?' in m.prompt_text(none) and '<image>' not in m.prompt_text(none) # the template knows no other form than parts
        hostile = Request('h', '', 'the mark <image> of a passage', images=r.images)
        assert m.prompt_text(hostile).count('<image>') == 1 and answered(m, [hostile])['h'][0].image_tokens == 16


def test_what_cannot_read_pictures_says_so_in_one_line(tmp_path, tokens, monkeypatch):
    from dataclasses import replace
    entry = llava(tmp_path, tokens, monkeypatch)
    r = requests(1)[0]
    with LocalModel(replace(entry, vision=False)) as m, pytest.raises(UserError, match='reads text alone'): list(m.stream([r]))
    with LocalModel(entry) as m:
        m.tokenizer.chat_template = m.tokenizer.chat_template.replace('<image>', '')
        with pytest.raises(WorkError, match='its processor cannot place the pictures'): list(m.stream([r]))
    (tmp_path / 'processor_config.json').unlink()
    with pytest.raises(UserError, match='its processor, which pictures need, cannot be loaded'): LocalModel(entry, images=1)


def test_a_run_through_the_transformers_engine(tmp_path, tokens, monkeypatch):
    "Search, pictures, prompts, the loop, the journal: noise for answers, and every count right."
    from wattnb.experiment.execute import run_all
    from wattnb.experiment.journal import read_journal
    from wattnb.experiment.plan import plan_run
    from wattnb.experiment.settings import RunSettings
    entry = llava(tmp_path / 'model', tokens, monkeypatch)
    ws = words_workspace(tmp_path / 'ws', models_toml=entry.to_toml().replace(f'[model.{entry.key}]', '[model.tiny]'))
    attempts = {}
    for n in (0, 1):
        plan = plan_run(RunSettings('tiny', limit=3, images=n, preset='words', max_retries=0, idle_seconds=0, retrieval='max_tokens=300'), ws)
        run_all(plan)
        journal = read_journal(plan.run_dir / 'journal.jsonl')
        attempts[n] = {a['id']: a for a in journal.of('attempt')}
        assert ('image_processor' in journal.last('load')['model']) == bool(n)
    for id, a in attempts[1].items():
        assert len(a['images']) == 1 and (a['image_tokens'], a['image_tokens_estimated'], a['error']) == (16, False, None)
        said = len(a['prompt']['user']) - len(attempts[0][id]['prompt']['user'])
        assert said > 0 and a['tokens']['prompt'] > attempts[0][id]['tokens']['prompt'] + 16 # the picture, and the sentence about it
        assert 'images' not in attempts[0][id]
