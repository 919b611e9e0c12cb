"""Render snippets and chat templates with jinja2, in the environment of transformers.

    python scripts/golden/jinja.py [--templates <models/templates in llama.cpp's source tree>]

Writes jinja.json in fixtures/golden. `snippets` has short templates, each with its variables and the
text that jinja2 renders, or `null` if jinja2 raises an error. `templates` has the chat templates of
models, and `chats` the texts that they render for the conversations. The licence of each template is
recorded; only templates under Apache-2.0 and MIT are included. Without `--templates`, the script
keeps the templates that the file already contains.

The date of `strftime_now` is the one of pinned_date.rs.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import jinja2
import transformers
from transformers.utils import chat_template_utils

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "fixtures/golden/jinja.json"
DATE = datetime.datetime(2024, 7, 26)  # pinned_date.rs

# The chat templates under a licence that permits copies, with the statement of the licence.
LICENCES = {
    "ByteDance-Seed-OSS.jinja": ("Apache-2.0", "https://github.com/ByteDance-Seed/seed-oss"),
    "Qwen-Qwen2.5-7B-Instruct.jinja": ("Apache-2.0", "https://github.com/deepseek-ai/DeepSeek-R1#7-license"),
    "Qwen-Qwen3-0.6B.jinja": ("Apache-2.0", "https://github.com/QwenLM/Qwen3#license-agreement"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja": ("MIT", "https://github.com/deepseek-ai/DeepSeek-R1#7-license"),
    "ibm-granite-granite-4.0.jinja": ("Apache-2.0", "https://github.com/ibm-granite/granite-4.0-language-models#license"),
    "llama-cpp-deepseek-r1.jinja": ("MIT", "https://github.com/ggml-org/llama.cpp/blob/master/LICENSE"),
    "llama-cpp-rwkv-world.jinja": ("MIT", "https://github.com/ggml-org/llama.cpp/blob/master/LICENSE"),
    "openai-gpt-oss-120b.jinja": ("Apache-2.0", "https://github.com/openai/gpt-oss"),
}

SNIPPETS: list[tuple[str, dict]] = []


def add(*templates: str, **variables) -> None:
    SNIPPETS.extend((template, variables) for template in templates)


def expressions(*texts: str, **variables) -> None:
    add(*("{{ " + text + " }}" for text in texts), **variables)


# newlines
add("a\r\nb\rc\n", "a\n\n", "a\r\n", "{% if true %}\r\nx\r\n{% endif %}\r\ny", "{{ 'a\r\nb\rc' }}",
    "{#\r\nc#}\r\nx", "{% raw %}\r\n{{ x }}\r\n{% endraw %}\r\nz", "{{ 'a\\r\\nb' }}")
# white space
add("  {% if true %}  \n  a\n  {% endif %}\n b", "a {%- if true -%} b {%- endif %} c",
    "x\n  {%+ if true %}y{% endif +%}\nz", "{{ 1 -}}  \n 2", "  {{- 1 }}\n2", "\t{# c #}\nx",
    "a\n{# c +#}\nb", "a  {#- c -#}  b", "{% raw -%}  {{ x }}  {%- endraw %}", "{%- raw %} {% x %} {% endraw -%} y",
    "x {% set a = 1 %} y", "\u00a0 {%- set a = 1 %}b", "{% if true %}{% endif %}\n\nx", "{ {{ '{' }}{% if 1 %}{{ '%' }}{% endif %}",
    "a{{ '{{' }}b", "{%if true%}a{%endif%}", "{% for i in [1,2] %}\n{{ i }}\n{% endfor %}\n",
    "\x0b{% if 1 %}a{% endif %}", "  \n   {%- if 1 %} a {% endif -%}   \n b")
# string literals
add(r"{{ 'a\/b' }}", "{{ 'a\\\nb' }}", r"{{ '\q\8\ \.' }}", r"{{ '\x41\u00e9\U0001F600' }}",
    r"{{ '\101\0\12x' | length }}", r"{{ '\é' }}", r"{{ '\\n' }}", r"{{ 'it\'s' }}", r'{{ "a\"b" }}',
    r"{{ '\a\b\f\v' | length }}", r"{{ '\x4' }}", r"{{ '\u12' }}", "{{ 'a' 'b' \"c\" }}", r"{{ '\t|\n|\r' }}",
    r"{{ '\777' | length }}", "{{ 'é😀' }}", "{{ 'unterminated }}", r"{{ '<\|im_end\|>' }}", "{{ \"'\" ~ '\"' }}")
# numbers
expressions("1_000", "0x1F", "0b101", "0o17", "1.5e3", "1e3", "1_0.5", "00", "1.0", "1e20", "1e-7", "1e16", "123456789.123",
            "0.1 + 0.2", "10 / 4", "10 // 4", "-7 // 2", "-7 % 3", "7.5 % 2", "-7.5 % 2", "2 ** 10", "2 ** -1", "2 ** 3 ** 2",
            "-2 ** 2", "1 / 0", "1 % 0", "1 // 0", "7 / 2 * 2", "+5", "-(-5)", "true + 1", "1 + 1.0", "10 ** 20", "1 + 'a'",
            "'a' * 3", "3 * 'a'", "[1] * 2", "'a' + 'b'", "'a' + 1", "[1] + [2]", "(1,) + (2,)", "[1] + (2,)", "5 - '1'",
            "1.", "01")
# text of values
expressions("true", "none", "[1, 'a', none, true, 1.5]", "{'a': 1, 'b': [2]}", "(1,)", "()", "(1, 2)", "['it\\'s']", "['\"\\'']",
            "['a\\nb\\t\\\\']", "[1e20, 1e-5, 100.0]", "['é', '\\x00', '\\u200b', '\\xa0']", "{1: 2}", "{'a': {'b': ()}}", "[x]",
            "[[]]", "range(3) | list", "1, 2", "'a' ~ 1 ~ none ~ true ~ 1.0 ~ x", "[1] ~ {'a': 'b'}", "-0.0", "{}", "'' ~ 1e16")
# operators
expressions("1 < 2 < 3", "1 < 3 < 2", "1 < 'a'", "'a' < 'b'", "none < 1", "[1, 2] < [1, 3]", "[none, 1] < [none, 2]", "[none] < [1]", "[{}, 1] < [{}, 2]", "[[1, none], 2] > [[1, none], 1]", "'%.10000f' % 1 | length", "'%.10000s' % 'a'", "'{:.10000f}'.format(1.0) | length", "(1,) < (1, 2)", "1 == 1.0", "1 == true",
            "'1' == 1", "none == false", "x == none", "x == y", "x < 1", "1 in [1]", "'a' in 'abc'", "1 in 'abc'", "1 in 5",
            "'a' in none", "'a' in x", "x in [1]", "'k' in {'k': 1}", "1 not in [1]", "not 1 in [1]", "not true and false",
            "1 if true", "1 if false", "(1 if false) is defined", "1 if false else 2 if false else 3", "1 or 2", "0 or ''",
            "[] and 1", "1 and 'a'", "not x", "'a' if x else 'b'", "1 == 1 == 1", "1 != 2", "[1] == [1]", "[1] == (1,)",
            "{'a': 1} == {'a': 1.0}", "'a' ~ 'b' + 'c'", "1 + 2 ~ 3", "2 * 3 ~ 4", "{} < {}", "('<' | safe) + '<' + 1 | string", "'<' + ('<' | safe)", "'a' | tojson + ('<' | safe)", "true < 2", "1.5 >= 1", "'b' > 'a' > 'A'",
            "1 is number and 2 is not number")
# undefined values
expressions("x", "x.a", "x['a']", "x.a.b", "d.a.b", "d.a", "d['a']", "x()", "d.f()", "x + 1", "1 + x", "x ~ 'a'", "-x", "x | length",
            "x | upper", "x | list", "x | join", "x | default('d')", "d.a | default('d')", "x[0]", "l[5]", "l[5].a", "x | first", "x | int",
            "x | float", "x | string", "x | trim", "x | tojson", "x is defined", "x is none", "x is undefined", "x is string",
            "x is iterable", "x | sort", "x | map('upper') | list", "x | replace('a', 'b')", "x | items | list", "x | abs", "x | sum",
            "x[1:]", "none.a", "none[1:]", "none['a']", "none()", "none | length", "5 | length", "x | round", "x is number",
            "'%s' % x", "x % 2", "x is mapping", "x is sequence", "x == ''", "x | dictsort", "n[1:]", "n | map('upper') | list", "n | select | list", "n.a", "n + 1", "x | e", "x | reverse | list", d={}, l=[1], n=None)
add("{% for a in x %}{{ a }}{% endfor %}", "{% for a in none %}{{ a }}{% endfor %}", "{% for t in tools %}{{ t }}{% endfor %}",
    "{% for a in 5 %}{% endfor %}", "{% for a in true %}{% endfor %}", "{% for a in none %}{% else %}e{% endfor %}",
    "{% for a in x %}{% else %}e{% endfor %}", "{% if tools %}a{% endif %}", "{% for a in tools or [] %}{% else %}e{% endfor %}", tools=None)
# items, attributes, slices
expressions("l[1:]", "l[::-1]", "l[:-1]", "l[-2:]", "l[::2]", "l[5:1:-2]", "s[1:3]", "s[::-1]", "s[-1]", "t[1:]", "l[1:][0]", "l[:2] | length",
            "d['items']", "d.items()", "d.keys() | list", "d.values() | list", "d.get('items')", "d.get('z')", "d.get('z', 1)",
            "l.0", "l.0.real", "m.0.1", "l['a'] is defined", "l[true]", "l[1.0] is defined", "l[0:0]", "l[::0]", "l['a':]", "5[1:]",
            "d[1:]", "l[none:2]", "(l[1:] + [9])[-1]", "l[1:] == [2, 3, 4, 5, 6]", "l[1:] is sequence", "l[1:] | tojson", "l[100:]", "l[-100:2]",
            "d['a', 'b'] is defined", "s[1:3:1].upper()", "d.size", "d._private", "d.__class__ is defined", "l.append(1)", "l.append is defined",
            "d.update({})", "d.pop('size')", "l.pop()", "l.copy()", "d.copy()", "l.index(2)", "l.index(9)", "l.count(2)", "t.count(1)", "t.append(1)",
            "d.setdefault('a', 1)", "d.clear()", "l.sort()", "l.extend([1])", "''.__class__.__mro__", "d.nothing()", "l.nothing()",
            l=[1, 2, 3, 4, 5, 6], s="héllo", t=None, d={"items": 7, "size": 1, "_private": 2}, m=[[1, 2]])
add("{% if p.items %}method{% endif %}{{ p.items is callable }}{{ p.values is defined }}", p={"items": {"type": "string"}})
add("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", d={"b": 1, "a": [2]})
# string methods
expressions(*(f"s.{call}" for call in (
    "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "lstrip()", "rstrip()", "strip(' h')",
    "split()", "split('l')", "split('l', 1)", "split(none, 1)", "split(maxsplit=1)", "rsplit('l', 1)", "rsplit()", "rsplit(none, 1)", "rsplit(' ', 1)[0]",
    "splitlines()", "splitlines(true)", "partition('l')", "rpartition('l')", "partition('z')", "rpartition('z')", "partition('')",
    "replace('l', 'L')", "replace('l', 'L', 1)", "replace('', '-')", "removeprefix(' h')", "removesuffix('d ')", "removesuffix('z')",
    "startswith(' h')", "startswith(('a', ' '))", "startswith(['a'])", "startswith('é', 2)", "endswith('d ')", "endswith(('x', ' '))",
    "find('l')", "find('z')", "rfind('l')", "index('l')", "index('z')", "rindex('l')", "count('l')", "count('')", "find('l', 5)", "find('l', 0, 3)",
    "center(20)", "center(21, '*')", "ljust(16, '.')", "rjust(16, '.')", "zfill(16)", "center(5, 'ab')", "expandtabs(4)", "isalpha()", "isdigit()",
    "isalnum()", "isspace()", "isupper()", "islower()", "istitle()", "isascii()", "isdecimal()", "isnumeric()", "isidentifier()", "isprintable()",
    "nothing()", "upper(1)", "split('')", "join(['a', 'b'])", "join([1])", "join('xyz')", "format()", "strip(1)")), s=" héllo wörld ")
expressions("'-5'.zfill(4)", "'+5'.zfill(4)", "'5'.zfill(0)", "'a\tb'.expandtabs()", "'ß'.upper()", "'ŉ'.title()", "\"it's a-b\".title()", "'ΑΣ'.lower()",
            "'Straße'.casefold()", "'²'.isdigit()", "'½'.isnumeric()", "'½'.isdigit()", "'١'.isdecimal()", "'Hello World'.istitle()", "''.isalpha()",
            "''.isprintable()", "'a b'.split(' ')", "'a,b,,c'.split(',')", "'a\\x0bb\\u2028c\\r\\nd'.splitlines()", "'a\\n\\nb\\n'.splitlines()", "'aXbX'.rsplit('X')",
            "', '.join(['a'] + ['b'])", "'abc'.center(6)", "'abc'.center(4, '-')", "'aaa'.replace('a', 'b', 2)", "'a b  c'.split()", "'  '.split()", "'abc'[1].upper()",
            "'a'.encode()", "('a' ~ 'b').upper()", "'x'.join(d)", "5.0.is_integer()", "'ǆ'.title()", "'ﬁx'.capitalize()", "'a'.lower().upper().strip()", d={"a": 1, "b": 2})
# formats
expressions("'%s' % 'a'", "'%s %s' % ('a', 1)", "'%d' % 5", "'%5d|%-5d|%05d' % (1, 2, 3)", "'%.2f' % 3.14159", "'%x %X %o' % (255, 255, 8)", "'%s' % [1, 'a']",
            "'%r' % 'a'", "'%%' % ()", "'%s' % ('a', 'b')", "'%s %s' % 'a'", "'%(a)s' % {'a': 1}", "'%(b)s' % {'a': 1}", "'%d' % 'a'", "'%d' % 3.9", "'%e' % 12345.678",
            "'%g' % 0.0001", "'%+d' % 5", "'%5s|%-5s|' % ('a', 'b')", "'%.2s' % 'abc'", "'%c' % 65", "'%s' % none", "'%s' % true", "'%i' % 7", "'%*d' % (5, 1)",
            "'a' % 1", "'a' % {'b': 1}", "'%z' % 1", "'%s' % 1.0", "'%s' % 1e20", "'%d%%' % 50", "'%05.1f' % 2.25",
            "'{} {}'.format(1, 'a')", "'{0} {1} {0}'.format(1, 2)", "'{a}'.format(a=1)", "'{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c')", "'{:.2f}'.format(3.14159)",
            "'{:05d}'.format(5)", "'{:,}'.format(1234567)", "'{!r}'.format('a')", "'{{}}'.format()", "'{}'.format([1])", "'{}'.format()", "'{x.a}'.format(x={'a': 1})",
            "'{x[a]}'.format(x={'a': 1})", "'{0[1]}'.format([1, 2])", "'{'.format()", "'{:x}'.format(255)", "'{:*^9}'.format('a')", "'{:{}}'.format('a', 5)", "'{:%}'.format(0.5)",
            "'{:e}'.format(12345.0)", "'{}'.format(none)", "'{a}'.format_map({'a': 1})", "'{:d}'.format('a')", "'{:5}'.format([1])", "'{} {0}'.format(1)", "'%s' | format('a')",
            "'%s %(a)s' | format(a=1)", "'%(a)s' | format(a=1)", "'%s-%s' | format(1, 2)", "'%s' | format")
# filters
expressions("'a-b c(d'  | title", "'hello world' | capitalize", "'abc' | center(9)", "'a' | center | length", "[3, 1, 2] | sort", "['b', 'A', 'c'] | sort", "['b', 'A'] | sort(case_sensitive=true)",
            "[3, 1] | sort(true)", "[1, 'a'] | sort", "u | sort(attribute='n') | map(attribute='n') | list", "u | sort(attribute='n,a') | list", "u | map(attribute='a') | list", "u | map(attribute='z', default='-') | list",
            "u | map(attribute='z.y') | list", "u | selectattr('a') | list", "u | selectattr('a', 'equalto', 1) | list", "u | rejectattr('a', 'gt', 1) | list", "u | selectattr('z', 'defined') | list", "u | selectattr('n', 'in', ['x']) | list",
            "u | groupby('a') | list | length", "u | sum(attribute='a')", "u | map('length') | list", "u | join(', ', attribute='n')", "u | unique(attribute='n') | list | length",
            "[1, 2, 3, 4, 5] | batch(2) | list", "[1, 2, 3] | batch(2, 'x') | list", "[1, 2, 3, 4, 5] | slice(2) | list", "[1, 2, 3] | slice(2, 'x') | list", "[1, none, 0, 'a'] | select | list", "[1, 2, 3] | select('odd') | list",
            "[1, 2] | reject('even') | list", "['a', 'b'] | map('upper') | list", "['a'] | map('replace', 'a', 'b') | list", "[1.2] | map('nothing') | list", "[1, 2] | select('nothing') | list", "[1, 1, 2] | unique | list", "['a', 'A'] | unique | list",
            "[1, 2, 3] | first", "[1, 2, 3] | last", "[] | first", "[] | last", "'abc' | first", "'abc' | last", "'abc' | reverse", "[1, 2] | reverse | list", "{'b': 1, 'a': 2} | dictsort", "{'b': 1, 'a': 2} | dictsort(by='value')",
            "{'b': 1, 'A': 2} | dictsort(true)", "{'a': 1} | dictsort(reverse=true)", "[3, 1] | min", "[3, 1] | max", "['b', 'A'] | min", "[] | min", "[1, 2.5] | sum", "['a'] | sum", "[] | sum", "[[1], [2]] | sum(start=[])",
            "-5 | abs", "(-5) | abs", "-1.5 | abs", "3.7 | int", "'3.7' | int", "'a' | int", "'a' | int(5)", "'0x1f' | int(0, 16)", "'101' | int(base=2)", "'1_000' | int", "none | int", "true | int", "' 5 ' | int", "'1.5' | float", "'a' | float", "5 | float", "'1e3' | float",
            "'a' | float(2.5)", "2.5 | round", "3.5 | round", "2.675 | round(2)", "42 | round", "42.55 | round(1, 'floor')", "42.51 | round(1, 'ceil')", "1.5 | round(method='x')", "1234.5 | round(-2)", "'a' | round", "2.5 | round | int",
            "' a ' | trim", "'xax' | trim('x')", "'a b c' | replace('b', 'd')", "'aaa' | replace('a', 'b', 2)", "1 | replace(1, 2)", "[1, 2, 3] | join", "[1, 2] | join(', ')", "'abc' | join('-')", "[1, none] | join('|')", "{'a': 1} | join", "[1.0, true] | join(' ')", "5 | join",
            "'abc' | length", "{'a': 1} | count", "5 | string | length", "'abc' | list", "{'a': 1} | list", "5 | list", "none | list", "1e20 | string", "'a' | string", "[1] | string | length", "'a\\nb\\n\\nc' | indent", "'a\\nb' | indent(2, true)", "'a\\n\\nb' | indent(2, blank=true)",
            "'a\\nb' | indent('> ')", "'a' | indent(first=true)", "'' | indent(first=true)", "'a\\nb\\n' | indent(2)", "5 | indent", "'foo bar baz qux' | truncate(9)", "'foo bar baz qux' | truncate(9, true)", "'foo bar baz qux' | truncate(11)", "'foo bar baz qux' | truncate(11, false, '...', 0)",
            "'foo' | truncate(2)", "'a long text here' | wordwrap(6)", "'abcdefghij k' | wordwrap(4)", "'abcdefghij k' | wordwrap(4, false)", "'well-known words-here' | wordwrap(7)", "'a b\\nc d' | wordwrap(1)", "'a b' | wordwrap(1, wrapstring='|')", "'one two, three' | wordcount", "'' | wordcount",
            "'<a href=\"x\">b & c</a>' | e", "'<b>' | escape | e", "'<b>' | forceescape", "'<p>a  <b>b</b></p> &amp; c' | striptags", "'a b/c?d=é' | urlencode", "{'a b': 'c/d'} | urlencode", "1000 | filesizeformat", "1 | filesizeformat", "999 | filesizeformat", "1500000 | filesizeformat",
            "1048576 | filesizeformat(true)", "'a' | default('b')", "'' | default('b', true)", "none | default('b')", "none | d('b', true)", "{'a': 1} | items | list", "{'a': 1, 'b': none} | xmlattr", "[1, 'a'] | pprint", "d | attr('a') is defined", "5 | upper", "none | upper",
            "'a' | nothing", "'a' | upper | nothing", "'a' if true else ('b' | nothing)", "'ab' | map('upper') | join", "u | map(attribute='a') | sum", "'a' | lower | upper | title", "-1 | string | length", "'x' | safe", "'a' | trim | length", "(1, 2) | list", "1 | tojson", "['a'] | map('nothing2') is defined",
            "'a' | split(',')", "'a' | bool", "[1] | zip([2]) | list", "'Abc' | first | lower", "'abc' | batch(2) | list", "[[1, 2], [3]] | map('first') | list", "[{'a': 1}] | map(attribute='a') | first", "'a' | upper()", "'x' | center(width=5)", "d | tojson(indent=2)", "d | tojson(2)", "d | tojson(ensure_ascii=true)",
            "d | tojson(sort_keys=true)", "[1.0, 1e20, 1e-7, 'é\\n\\x01\\x7f</', none, true] | tojson", "[1, [], {}] | tojson(indent=4)", "d | tojson(separators=(',', ':'))", "{1: 2, true: 3} | tojson", "'a' | tojson(width=1)", "(1, 2) | tojson", "x | tojson",
            u=[{"n": "x", "a": 2}, {"n": "Y", "a": 1}, {"n": "x", "a": 3}], d={"b": "é<>&'", "a": [1, 2]})
# generators
expressions("l | map('string') | length", "(l | map('string'))[0] is defined", "l | map('string') | tojson", "'a' if l | select('gt', 5)", "(l | reject('gt', 5)) + [1]", "l | select | last", "l | select | first", "l | reverse | first",
            "(l | reverse)[0] is defined", "l | unique | join", "1 in (l | select)", "(l | batch(2)) is iterable", "(l | map('string')) is sequence", "l | select | reverse | join", "(l | map('string'))[1:]", "l | select | sort", "d.items() | tojson", "d.items()[0] is defined", "d.items() | length",
            "d.keys() | first", "d.items() | last", "d.values() | sum", "'a' in d.keys()", "d.items() | list | length", "d.keys() is sequence", "d.values() | map('string') | join(',')", "d | items | length", "d.items() == d.items()", "d.keys() | sort", "d.items()",
            "d.keys()", "d.values()", "l | select | string is string", "l | groupby(0) is defined", "dict(d.items())", l=[1, 2, 3], d={"a": 1, "b": 2})
add("{% set g = l | map('string') %}{{ g | list }}{{ g | list }}", "{% for x in l | select %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% endfor %}", "{% for x in l | reverse %}{{ x }}{{ loop.revindex }}{% endfor %}", "{% for k, v in d | items %}{{ k }}{{ v }}{{ loop.last }}{% endfor %}", "{% for k, v in d | dictsort %}{{ k }}{{ v }}{% endfor %}",
    "{% for g in [{'a': 1}, {'a': 2}, {'a': 1}] | groupby('a') %}{{ g.grouper }}{{ g.list | length }}{{ g[0] }}{% endfor %}", "{% for k, v in [{'a': 'x'}, {'a': 'X'}] | groupby('a') %}{{ k }}{{ v | length }}{% endfor %}", "{% set a, b = l | select('lt', 3) %}{{ a }}{{ b }}", l=[1, 2, 3], d={"a": 1, "b": 2})
# tests
expressions(*(f"v is {test}" for test in ("defined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence", "iterable", "callable", "odd", "even", "divisibleby 3",
                                          "divisibleby(2)", "eq 3", "equalto(3)", "ne 3", "gt 2", "lt 2", "in [3]", "not in [3]", "sameas 3", "lower", "upper", "nothing", "ge 3", "le 3", "greaterthan 1", "lessthan 1", "escaped")), v=3)
for value in (None, True, "Ab", "ab", 1.0, [], {"a": 1}):
    expressions(*(f"v is {test}" for test in ("none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "lower", "upper", "callable", "sameas none", "odd")), v=value)
expressions("'upper' is filter", "'nothing' is filter", "'odd' is test", "'nothing' is test", "1 is odd is defined", "1 is odd or 2 is odd", "range is callable", "'a' is eq 'a'", "(1, 2) is sequence", "2.5 is odd", "'a' is lt 1", "not 1 is odd", "1 is not odd", "none is none", "1 is sameas true",
            "4 is divisibleby 0", "'a' is in 'abc'", "1 is number and true", "1 is eq 1 and 2 is eq 2", "x is not defined")
# statements
add("{% set x = 1 %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = 'xy' %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set x = 1, 2 %}{{ x }}", "{% set x %}a{{ 1 }}{% endset %}{{ x }}", "{% set x | upper %}a{% endset %}{{ x }}",
    "{% set x | upper | replace('A', 'b') %}a{% endset %}{{ x }}", "{% for i in [1, 2] %}{% set x = i %}{% endfor %}{{ x }}", "{% set x = 1 %}{% for i in [2] %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% if true %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% set ns = namespace(a=1) %}{% for i in [2, 3] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}", "{% set d = {} %}{% set d.a = 1 %}",
    "{% set ns = namespace() %}{% set ns._a = 1 %}", "{% set ns = namespace(_a=1) %}", "{% set ns = namespace(items=1) %}{{ ns.items }}{{ ns.count is defined }}", "{% set ns = namespace(a=1) %}{{ ns['a'] }}", "{% set none = 1 %}", "{% set 1 = 2 %}", "{% set x.y = 1 %}", "{% if false %}{% set ns._a = 1 %}{% endif %}x",
    "{% for i in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}", "{% for i in [1, 2, 3] if i > 1 %}{{ loop.index }}:{{ loop.length }}:{{ i }} {% endfor %}", "{% for i in [1, 1, 2] %}{{ loop.changed(i) }} {% endfor %}",
    "{% for i in [1, 2, 3] %}{{ loop.previtem }}-{{ loop.nextitem }} {% endfor %}", "{% for i in [1, 2, 3] %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [[1, [2]], 3] recursive %}{{ i if i is number else '(' ~ loop(i) ~ ')' }}{% endfor %}", "{% for i in [1] recursive %}{{ loop(none) }}{% endfor %}", "{% for i in [1] recursive %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{% for i in [] %}a{% else %}b{% endfor %}", "{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in ['xy'] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [[1]] %}{% endfor %}", "{% for c in 'abc' %}{{ c }}{% endfor %}", "{% for i in 1, 2 %}{{ i }}{% endfor %}", "{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}", "{% for i in [1] %}{{ loop }}{% endfor %}x" if False else "{% for i in [1] %}{{ loop.index is odd }}{% endfor %}",
    "{% for i in [1, 2] %}{% for j in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for i in [1] %}{% endfor %}{{ i }}", "{% for i in l[1:] %}{{ i }}{% endfor %}", "{% for i in l if i is odd else 3 %}{% endfor %}", "{% break %}", "{% for i in [1] %}a{% endif %}", "{% for i in l: %}{{ i }}{% endfor %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}", "{% filter upper %}a{{ 'b' }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}a{% endfilter %}", "{% filter nothing %}a{% endfilter %}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=1, a=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}[{{ m() }}]", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }}",
    "{% macro m(a) %}{{ a }}{{ varargs | join }}{% endmacro %}{{ m(1, 2, 3) }}", "{% macro m(a) %}{{ kwargs.b }}{% endmacro %}{{ m(1, b=3) }}", "{% macro m(a) %}{{ varargs }}{% endmacro %}{{ m(1, b=3) }}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}", "{% macro m() %}{{ caller(1) }}{% endmacro %}{% call(a) m() %}{{ a }}{% endcall %}",
    "{% macro m() %}{{ caller() }}{{ varargs }}{% endmacro %}{% call m(1) %}x{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}", "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m() %}a{% endmacro %}{{ m.name }}{{ m() | upper }}{{ m() ~ 'b' }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}x{% endmacro %}{{ a() }}", "{{ m() }}{% macro m() %}a{% endmacro %}", "{% macro m(a, b=1, c) %}{% endmacro %}", "{% call 1 %}{% endcall %}",
    "{% block a %}x{% endblock %}", "{% block a %}x{% endblock a %}{{ self.a() }}", "{% include 'a' %}", "{% include 'a' ignore missing %}", "{% extends 'a' %}", "{% import 'a' as b %}", "{% if false %}{% include 'a' %}{% endif %}x", "{% print 1 %}", "{% print 1, 2 %}", "{% do x.y() %}", "{% trans %}a{% endtrans %}", "{% nothing %}", "{% if %}a{% endif %}", "{% if 1 %}a",
    "{% if 1 %}a{% elif 2 %}b{% else %}c{% endif %}", "{% if 0 %}a{% elif 2 %}b{% else %}c{% endif %}", "{% if 0 %}{{ 1 | nothing }}{% endif %}x", "{% if 1 %}{{ 1 | nothing }}{% endif %}x", "{% if 0 %}{{ 1 is nothing }}{% endif %}x", "{% for i in [] %}{{ i | nothing }}{% endfor %}x", "{% if 0 %}{% for i in [] %}{{ i | nothing }}{% endfor %}{% endif %}x", "{% generation %}a{% endgeneration %}b",
    "{%- generation -%} a {% set y = 1 %} {%- endgeneration -%} {{ y }}", "{{ '{% generation %}' }}", "{% for i in [1, 2] %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{# {% if %} #}a", "{# unclosed", "{{ 1", "{% if 1", "{{ }}", "{{ 1 2 }}", "{{ a b }}", "{{ (1 }}", "{{ [1 }}", "{{ 1 ] }}", "{{ 'a }}", "{{ @ }}", "{{ a.! }}", "{{ {'a' 1} }}", "{{ 1 + }}", "{% endif %}",
    "{% raw %}a", "{{ {'a': 1}['a'] }}", "{{ {'a': {'b': 2}}.a.b }}", "{{{'a': 1}.a}}", "{{ [1, 2,] }}{{ (1, 2,) }}{{ {'a': 1,} }}", "{{ f(*[1, 2]) }}", "{{ dict(a=1, **{'b': 2}) }}", "{{ dict([('a', 1)]) }}", "{{ dict({'a': 1}, b=2) }}", "{{ dict(1) }}", "{{ range(*[1, 3]) | list }}", "{{ f(a=1, 2) }}", "{{ raise_exception('no') }}", "{{ raise_exception(none) }}", "{{ range(2) | list }}{{ range(1, 3) | list }}", "{{ range('a') }}",
    "{% set j = joiner() %}{{ j() }}a{{ j() }}b{{ j() }}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.reset() }}{{ c.current }}", "{{ cycler() }}", "{{ self is defined }}", "{{ debug is defined }}", "{{ true }}{{ True }}{{ none }}{{ None }}", "{{ loop is defined }}", "{{ not_a_function('x') }}",
    "{{ namespace is callable }}{{ x.y is defined }}", "{{ (x.y).z }}", "{% set x = [] %}{% set x = x + [1] %}{{ x }}", "{% set x = {'a': 1} %}{{ x.a }}{{ x['a'] }}{{ x.get('a') }}", "{{ ([1, 2] | map('string') | list).0 }}", "{{ ('a,b').split(',')[1] }}", "{{ 'a' if 1 is defined and 2 > 1 else 'b' }}", "{{ -1 | abs }}{{ -l[0] }}", "{{ l | length - 1 }}", "{{ l[l | length - 1] }}", "{{ l[-1] }}{{ l[(0)] }}", l=[1, 2, 3])
add("{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{ '<u>' + m.content | trim + '</u>' }}{%- else -%}{{ m.content }}{%- endif -%}{%- endfor -%}", "{{ messages[-1].content.split('e')[0] }}", "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('\\n') }}",
    "{% set loop_messages = messages[1:] %}{% for m in loop_messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}", "{{ messages[0] | tojson }}", "{% for m in messages %}{{ m.tool_calls }}{% if m.tool_calls is defined and m.tool_calls is not none %}{% endif %}{% endfor %}",
    "{{ messages[0].tool_calls[0].name }}", "{% for m in messages | reverse %}{{ m.role }}{% endfor %}", "{% for m in messages[::-1] %}{{ loop.index }}{{ m.role }}{% endfor %}", "{{ messages[0]['content']['text'] is defined }}", "{{ messages[0].content is string }}{{ messages[0].content is mapping }}",
    messages=[{"role": "system", "content": "be"}, {"role": "user", "content": " hey "}, {"role": "assistant", "content": "ok"}])
# templates of models
add("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ add_generation_prompt }}", "{%- if tools is not none and tools %}a{% else %}b{% endif %}", "{{- '<|im_start|>' ~ messages[0].role ~ '\n' -}}", "{% set content = messages[0].content %}{% if '</think>' in content %}{{ content.split('</think>')[-1].lstrip('\n') }}{% endif %}",
    "{%- for key in messages[0].keys() | reject('in', ['role']) %}{{ key }}{% endfor %}", "{%- for k, v in (messages[0] | items | list) if k != 'role' %}{{ k }}={{ v | string }}{% endfor %}", "{% macro f(p, depth=0) -%}{%- if p is mapping -%}{%- for k, v in p.items() -%}{{ '  ' * depth }}{{ k }}:{{ f(v, depth + 1) }};{%- endfor -%}{%- else -%}{{ p | tojson }}{%- endif -%}{%- endmacro %}{{ f(messages[0]) }}",
    "{%- set ns = namespace(found=false) -%}{%- for m in messages if not ns.found -%}{%- set ns.found = true -%}{{ loop.index }}{%- endfor -%}", "{% set ns = namespace(found=false) %}{% for m in messages if not ns.found %}{% set ns.found = true %}{{ m.role }}{% if m.x %}{% else %}e{% endif %}{% endfor %}", "{% for i in [1, 2, 3] if i != 2 %}{% for j in [1] if i == 3 %}{{ i }}{{ j }}{% else %}n{% endfor %}{% endfor %}",
    "{% for i in [1, 2, 3] if i > 1 %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{%- set last = messages | length - 1 %}{{ last }}{{ messages[last].role }}", "{{ messages | map(attribute='role') | list }}{{ messages | map(attribute='role') | unique | list }}", "{{ messages[0]['content'] | replace('\n', '\\n') }}",
    "{% set x = messages[0].content[:5] %}{{ x }}{{ x | length }}", "{% for m in messages %}{{ loop.index0 == 0 }}{{ loop.last and m.role == 'user' }}{% endfor %}", "{% for m in messages %}{% set role = 'x' if m.role == 'user' else m.role %}{{ role }}{% endfor %}{{ role is defined }}", "{% set a %}{% for m in messages %}{{ m.role[0] }}{% endfor %}{% endset %}{{ a | upper }}",
    "{%- if messages[0].content is string and messages[0].content.startswith('<') and not messages[0].content.endswith('>') %}y{% endif %}", "{{ ('%s-%s' % (messages[0].role, 1)) ~ '!' }}", "{{ {'a': messages[0].role} | tojson(indent=None) }}", "{% set t = {'int': 'number'} %}{{ t['int'] }}{{ t.get('x', 'any') }}{{ t['x'] or 'z' }}",
    "{{ messages[0].content.split('\n') | map('trim') | select | join('|') }}", "{% for a, b in zip([1], [2]) %}{% endfor %}", "{{ messages[0].reasoning_content | default('none', true) }}", "{{ messages | selectattr('role', 'in', ['user', 'x']) | list | length }}", "{{ messages | rejectattr('role', 'ne', 'user') | first | tojson }}", "{{ (messages | first).role }}{{ messages | map(attribute='content.x') | list }}",
    "{{ messages[0].content is not none and messages[0].content | trim | length > 0 }}", "{{ 'a' if messages[0].x else 'b' if messages[0].role == 'user' else 'c' }}", "{%- macro outer() %}{% set v = 1 %}{%- macro inner() %}{{ v }}{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}", "{% for m in messages %}{% macro x() %}{{ m.role }}{% endmacro %}{{ x() }}{% endfor %}", "{% if messages %}{% macro y() %}y{% endmacro %}{% endif %}{{ y() }}",
    "{% set v = 1 %}{% macro g() %}{% set v = 2 %}{{ v }}{% endmacro %}{{ g() }}{{ v }}", "{% set v = 1 %}{% filter upper %}{% set v = 2 %}a{% endfilter %}{{ v }}", "{% set v = 1 %}{% set w %}{% set v = 2 %}{% endset %}{{ v }}", "{% set v = 1 %}{% generation %}{% set v = 2 %}{{ v }}{% endgeneration %}{{ v }}", "{% set v = 1 %}{% block b %}{{ v }}{% set v = 2 %}{% endblock %}{{ v }}", "{% set v = 1 %}{% for i in [1] %}{% block c %}{{ i }}{{ v }}{% endblock %}{% endfor %}",
    "{% for i in [1] %}{% block c scoped %}{{ i }}{% endblock %}{% endfor %}", "{% macro h(x) %}{{ x }}{% endmacro %}{{ [1, 2] | map('string') | map('upper') | join }}{{ h(h(1)) }}", "{% for i in [3, 4] %}{% for j in [loop.index] %}{{ i }}{{ j }}{% endfor %}{% endfor %}", "{% for i in [1, 2] %}{% if loop.first %}{% continue %}{% endif %}{{ loop.index }}{% endfor %}", "{{ loop.index }}", "{% for loop in [1] %}{% endfor %}", "{% set loop = 1 %}{{ loop }}",
    "{{ messages[0].role }}{# {{ x }} #}{% raw %}{# a #}{% endraw %}", "{{ not messages }}{{ not not messages }}{{ messages and 1 }}", "{{ 5 if (x is defined and x) else none }}", "{{ caller is defined }}{{ varargs is defined }}", "{% call(x) f() %}{% endcall %}", "{% macro f(x) %}{{ caller(x, b=2) }}{% endmacro %}{% call(a, b=1) f(3) %}{{ a }}{{ b }}{% endcall %}", "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}{% for i in [1, 2] %}{% call f() %}{{ i }}{{ loop.index }}{% endcall %}{% endfor %}",
    messages=[{"role": "user", "content": "<think>\nx\n</think>\n\n a", "tool_calls": None}, {"role": "user", "content": "b"}])
# dates
add(*("{{ strftime_now('" + text + "') }}" for text in (
    "%d %b %Y", "%-d %e %F", "%I:%M %p", "%U %W %V %G %g", "%w %u %Z|%z|", "%a %A %B %h", "%c", "%x %X %r %R %T %D", "%j %-j %H %-H %k %l", "%y %C %f %s", "%n%t%%", "%^a %^B %#p %P", "%_d %_m %5Y %010d",
    "%-m/%-d/%y", "%Ey %Od %EY", "%", "no codes", "%Y-%m-%dT%H:%M:%S")))

CONVERSATIONS = {
    "user": {"messages": [{"role": "user", "content": "Hi, \"you\" <there>?\n"}]},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]},
    "turns": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n"}, {"role": "user", "content": " c "}]},
    "tools": {
        "messages": [
            {"role": "system", "content": "Use tools."},
            {"role": "user", "content": "What is the weather in Köln?"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2, "exact": True}}}]},
            {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "{\"sun\": true}"},
            {"role": "assistant", "content": "It is sunny."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": [{"type": "function", "function": {
            "name": "weather", "description": "The weather of a city.",
            "parameters": {"type": "object", "required": ["city"], "properties": {
                "city": {"type": "string", "description": "A city"},
                "days": {"type": "integer", "enum": [1, 2], "default": 1},
                "hours": {"type": "array", "items": {"type": "number"}}}}}}],
    },
    "thinking": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nx\n</think>\n\ny"}, {"role": "user", "content": "z"}], "enable_thinking": False},
    "wrong order": {"messages": [{"role": "assistant", "content": "b"}, {"role": "assistant", "content": "b"}]},
    "empty": {"messages": []},
}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(DATE.year, DATE.month, DATE.day)


def render(template: str, variables: dict) -> str | None:
    """Return the text, or None if jinja2 raises an error."""
    try:
        text = chat_template_utils._compile_jinja_template(template).render(**variables)
        text.encode()
        return text
    except Exception:  # noqa: BLE001: which error it is does not matter
        return None


def dumped(variables: dict) -> str:
    """Return the variables as JSON text, because not all readers keep the order of keys."""
    return json.dumps(variables, ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates", type=Path)
    folder = parser.parse_args().templates
    chat_template_utils.datetime = Clock
    snippets = []
    seen = set()
    for template, variables in SNIPPETS:
        key = json.dumps([template, variables])
        if key not in seen:
            seen.add(key)
            snippets.append({"template": template, "variables": dumped(variables), "text": render(template, variables)})
    if folder is None:
        templates = json.loads(GOLDEN.read_text(encoding="utf-8"))["templates"]
    else:
        templates = [
            {"name": name.removesuffix(".jinja"), "licence": licence, "licence_stated_in": statement,
             "template": (folder / name).read_text(encoding="utf-8")}
            for name, (licence, statement) in sorted(LICENCES.items())
            if (folder / name).exists()
        ]
    chats = []
    for template in templates:
        for name, conversation in CONVERSATIONS.items():
            variables = {"tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", **conversation}
            text = render(template["template"], variables)
            chats.append({"template": template["name"], "conversation": name, "variables": dumped(variables), "text": text})
    golden = {"transformers": transformers.__version__, "jinja2": jinja2.__version__,
              "snippets": snippets, "templates": templates, "chats": chats}
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    errors = sum(snippet["text"] is None for snippet in snippets)
    print(f"{len(snippets)} snippets ({errors} errors), {len(chats)} chats, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
