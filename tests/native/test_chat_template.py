"""Chat templates: what they may do, and what a hostile one may not."""

from datetime import datetime

import pytest

from ruvllm.errors import InputError
from ruvllm.text.chat_template import ChatTemplate

TURNS = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "Oh"},
]
PLAIN = """{{ bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    [{{ message.role }}] {{ message['content'] | trim }}{{ eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    [assistant]
{%- endif %}"""


def test_a_conversation_is_written_as_the_template_says():
    template = ChatTemplate(PLAIN, {"bos_token": "<s>", "eos_token": "</s>"})
    asked = [{"role": "system", "content": "left out"}, *TURNS]
    # Blocks take the blanks before them and the line's end after them with them, as Hugging Face sets jinja2 up.
    text = "<s>    [user] Why?</s>    [assistant] So.</s>    [user] Oh</s>"
    assert template.render(asked, answer=False) == text
    assert template.render(asked) == f"{text}    [assistant]"


def test_what_templates_call():
    today = datetime(2026, 3, 4)
    source = "{{ strftime_now('%d %b') }} {{ messages[0] | tojson }}"
    written = ChatTemplate(source, {}, today).render([{"role": "user", "content": "<é>"}])
    assert written == '04 Mar {"role": "user", "content": "<é>"}'


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[9].content.x.y }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages | nonsense }}",
        "{% for %}",
        "{% include '/etc/hostname' %}",
        "{{ range(99999999) | list }}",
        "{{ 1 // 0 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "x" * 300_000,
    ],
)
def test_a_template_that_fails_or_reaches_out_is_refused(source):
    with pytest.raises(InputError) as caught:
        ChatTemplate(source, {}).render(TURNS)
    assert caught.value.field == "chat_template"
