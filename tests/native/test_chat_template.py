"""Chat templates: what they may do, and what a hostile one may not."""

import tracemalloc
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


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10**9) %}a{% endfor %}",
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ [1] * 10**9 }}",
        "{{ 10**(10**10) }}",
        "{{ 2**1000000 }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) if false %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% set a = i + j %}{% endfor %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t %}{{ n.t }}{{ n.t }}{% endset %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t.replace('a', 'aa') %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = n.t | replace('', 'aa') %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = [n.t, n.t] | join %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = '%s%s' % (n.t, n.t) %}{% endfor %}",
        "{% set n = namespace(t='a') %}{% for i in range(60) %}{% set n.t = '{}{}'.format(n.t, n.t) %}{% endfor %}",
        "{% set n = namespace(t=[]) %}{% for i in range(60) %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.t }}",
        "{% set n = namespace(t=[]) %}{% for i in range(60) %}{% set n.t = [n.t, n.t] %}{% endfor %}{{ n.t | tojson }}",
        "{% set n = namespace(a=[], b=[]) %}{% for i in range(40) %}{% set n.a = [n.a, n.a] %}"
        "{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
        "{% set n = namespace(t=[1]) %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "{% set n = namespace(t=[]) %}{% for i in range(5000) %}{% set n.t = [n.t] %}{% endfor %}{{ n.t }}",
        "{% set b = 'a' * 1000000 %}{% for i in range(100000) %}{% set c = b[1:] %}{% endfor %}",
        "{% set b = 'a' * 1000000 %}{% for i in range(100000) %}{% if 'ab' in b %}{% endif %}{% endfor %}",
        "{% set b = 'a' * 1000000 %}{% for i in range(100000) %}{% if b is in [b + 'b'] %}{% endif %}{% endfor %}",
        "{% set b = range(9) | list %}{% for i in range(99999) %}{% set c = range(99999) | map('string') | list %}"
        "{% endfor %}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%(a)1000000000d' % {'a': 1} }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
        "{{ (1).to_bytes(10**9, 'big') }}",
        "{{ 'a'.encode() }}",
        "{{ 1.5 | round(10**9, 'ceil') }}",
        "{{ lipsum(n=10**9) }}",
        "{{ [[1] * 9000] * 9000 | sum(start=[]) }}",
        "{{ messages | batch(10**9, 'a') }}",
        "{{ 'a' | attr('__class__') }}{{ ('a' | attr('__class__')).mro() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
        "{{ 1" + " + 1" * 9_000 + " }}",
        "{{ a" + ".b" * 9_000 + " }}",
        "{% if a %}" * 5_000 + "{% endif %}" * 5_000,
        "{{ " + "[" * 20_000 + "]" * 20_000 + " }}",
        "{{ " + "not " * 9_000 + "a }}",
        "{% extends 'a' %}",
        "{% import '/etc/passwd' as a %}",
        "{{ self.__init__ }}{{ self._TemplateReference__context.environment.loader.x }}",
        "{{ messages.x.y }}",
        "{{ nothing() }}",
    ],
)
def test_a_template_that_takes_without_end_is_an_input_error(source: str):
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        ChatTemplate(source, {}).render(TURNS)
    assert caught.value.field == "chat_template"
    assert tracemalloc.get_traced_memory()[1] < 200_000_000
    tracemalloc.stop()


LONG = [{"role": ("user", "assistant")[i % 2], "content": f"<think>a</think> message {i} " * 40} for i in range(1_000)]
# What templates of models in use do, put together.
USUAL = """
{%- set ns = namespace(system='', last=-1, tools=[]) -%}
{%- for message in messages %}{% if message['role'] == 'system' %}{% set ns.system = message['content'] %}{% endif %}
{%- endfor -%}
{%- for message in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == "user" and message.content is string %}{% set ns.last = index %}{% endif %}
{%- endfor -%}
{%- macro shown(content, role) -%}
    {%- if content is mapping or content is none %}{{ raise_exception('no text') }}{% endif -%}
    {{- '<|' + role + '|>' ~ (content.split('</think>')[-1].lstrip('\\n') | trim) }}
{%- endmacro -%}
{{- bos_token if bos_token is defined else '' }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif -%}
    {%- if loop.first or loop.index == messages | length %}{{ '[' ~ loop.index ~ ']' }}{% endif -%}
    {{- shown(message.content, message.role.upper()) + eos_token }}
    {%- if message.tool_calls is defined and message.tool_calls %}{{ message.tool_calls | tojson(indent=2) }}{% endif %}
    {%- if '</think>' in message.content and not message.content.endswith('x') %}{{ "{}-{}".format(1, 'a') }}{% endif %}
    {{- "%s" % message['role'] | default('nobody', true) }}{{ ns.tools | join(', ') }}
    {{- message.items() | list | length }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}
"""


def test_a_long_conversation_and_all_that_usual_templates_do_are_within_the_limits():
    text = ChatTemplate(USUAL, {"bos_token": "<s>", "eos_token": "</s>"}).render(LONG)
    assert text.startswith("<s>500[1]<|USER|>message 0</s>1-auser2<|ASSISTANT|>message 1</s>")
    assert text.endswith("[1000]<|ASSISTANT|>message 999</s>1-aassistant2<|assistant|>")
