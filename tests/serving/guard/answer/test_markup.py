"""Nothing that a client would fetch or run leaves an answer; what is harmless stays as it is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from serving.guard import Guard, GuardReport, GuardSettings
from serving.guard.answer.hosts import Destination, Hosts
from serving.guard.answer.markup import MAX_MARKUP_HELD, Markup
from serving.guard.answer.tags import Rules
from serving.guard.settings import LinkSettings
from tests.support.cuttings import assert_cutting_is_all_the_same, run
from tests.support.growth import assert_linear

DEFAULT = Rules(LinkSettings())
STRICT = Rules(LinkSettings(links="mask", code="mask", allowed_hosts=["docs.example.com", "*.example.org"]))
OPEN = Rules(LinkSettings(images="allow", html="allow"))


def shown(text: str, rules: Rules = DEFAULT) -> str:
    return assert_cutting_is_all_the_same(lambda: Markup(rules, GuardReport()), text)


@pytest.mark.parametrize(
    ("text", "inert"),
    [
        ("![a](https://evil.test/x?q=1)", "![a] (https://evil.test/x?q=1)"),
        ("![a](//evil.test/x)", "![a] (//evil.test/x)"),
        ("![a]( \n <https://evil.test/x y> 'title')", "![a] ( \n <https://evil.test/x y> 'title')"),
        ("![a](< https://evil.test>)", "![a] (< https://evil.test>)"),
        ("![a](&#104;ttps://evil.test)", "![a] (&#104;ttps://evil.test)"),
        ("![a](/\\evil.test)", "![a] (/\\evil.test)"),
        ("![a](data:image/svg+xml,x)", "![a] (data:image/svg+xml,x)"),
        ("![a [b] ](https://evil.test)", "![a [b] ] (https://evil.test)"),
        ("![a](https://evil.test) [b](https://c.test)", "![a] (https://evil.test) [b](https://c.test)"),
        ("![a [b](c) ](https://evil.test)", "![a [b](c) ] (https://evil.test)"),
        ("![a `](b` ](https://evil.test)", "![a `](b` ] (https://evil.test)"),
        ("![a <https://b](c> ](https://evil.test)", "![a <https://b](c> ] (https://evil.test)"),
        ("![a \\](b ](https://evil.test)", "![a \\](b ] (https://evil.test)"),
        ("![a ![b](c) ](https://evil.test)", "![a ![b](c) ] (https://evil.test)"),
        ("![a][r]\n\n[r]: https://evil.test/x", "![a][r]\n\n[r] : https://evil.test/x"),
        ("![r]\n\n[r]:\n  <//evil.test/x>", "![r]\n\n[r] :\n  <//evil.test/x>"),
        ("[x](javascript:alert(1))", "[x] (javascript:alert(1))"),
        ("[x](java&Tab;script:alert(1))", "[x] (java&Tab;script:alert(1))"),
        ("<javascript:alert(1)>", "< javascript:alert(1)>"),
        ('<b title="![a](https://evil.test)">', '<b title="![a] (https://evil.test)">'),
        ("<script>alert(1)</script>", "< script>alert(1)</script>"),
        ("<img src=https://evil.test/x>", "< img src=https://evil.test/x>"),
        ('<IMG SRC = "//evil.test/x">', '< IMG SRC = "//evil.test/x">'),
        ("<img src=x onerror=alert(1)>", "< img src=x onerror=alert(1)>"),
        ('<img srcset="a.png, https://evil.test/b.png 2x">', '< img srcset="a.png, https://evil.test/b.png 2x">'),
        ("<svg/onload=alert(1)>", "< svg/onload=alert(1)>"),
        ('<a href="java&#9;script:alert(1)">x</a>', '< a href="java&#9;script:alert(1)">x</a>'),
        ('<b style="background:url(//evil.test)">', '< b style="background:url(//evil.test)">'),
        ('<p a=">" onclick=x>', '< p a=">" onclick=x>'),
        ("<p a='\"' onclick='x'>", "< p a='\"' onclick='x'>"),
        ("<iframe src=/x></iframe>", "< iframe src=/x></iframe>"),
        ('<link rel="preload" href="//x.test">', '< link rel="preload" href="//x.test">'),
        ("\n<!-- <b a=' --> <script>", "\n<!-- <b a=' --> < script>"),
        ("a<b || onclick=x>", "a< b || onclick=x>"),
        ("<x onclick='{go()}'>", "< x onclick='{go()}'>"),
        ("<data:text/html,x>", "< data:text/html,x>"),
        ("<meta http-equiv=Refresh content='0;url=//x.test'>", "< meta http-equiv=Refresh content='0;url=//x.test'>"),
        ("<form action=//x.test><b>", "< form action=//x.test><b>"),
        ("<button formaction='//x.test'>", "< button formaction='//x.test'>"),
        ("<svg><animate attributeName=href to=/x></svg>", "<svg>< animate attributeName=href to=/x></svg>"),
        ("<svg><rect fill='url(//x.test#a)'/></svg>", "<svg>< rect fill='url(//x.test#a)'/></svg>"),
        ("[x]( javascript\\:y)", "[x] ( javascript\\:y)"),
        ("![a](x y)\n\n[a]: //x.test", "![a](x y)\n\n[a] : //x.test"),
        (f"![{'long ' * 30}]\n\n[{'long ' * 30}]: //x.test", f"![{'long ' * 30}]\n\n[{'long ' * 30}] : //x.test"),
        (f"<b title='{'x' * 600}' onclick=x>", f"<b title='{'x' * 600}' o nclick=x>"),
        (f"<img {'alt ' * 200} src='//x.test'>", f"<img {'alt ' * 200} s rc='//x.test'>"),
        ("a<b ; x='>' onclick=y>", "a< b ; x='>' onclick=y>"),
    ],
)
def test_what_is_fetched_or_run_becomes_inert(text: str, inert: str) -> None:
    assert shown(text) == inert
    assert shown(f"so: {text}") == f"so: {inert}"


def test_a_value_that_ends_with_no_block_of_html_does_not_go_on_behind_it() -> None:
    assert shown("<div title='\n\n[x](/onclick=y)") == "< div title='\n\n[x](/onclick=y)"
    assert shown(f"<div title='{'x' * 600}\n\n[x](/onclick=y)") == f"<div title='{'x' * 600}\n'>\n[x](/onclick=y)"
    assert shown("<div\n\n<!-- onclick=y -->") == "<div\n\n<!-- o nclick=y -->"


@pytest.mark.parametrize(
    "loads", ["url(//x.test)", "URL( //x.test)", "@import '//x.test'", "\\75rl(//x.test)", "&#117;rl(//x)"]
)
def test_style_of_a_long_tag_loads_nothing(loads: str) -> None:
    text = f'<div>\n<path d="{"M0 0l1 1 " * 60}" style="{"color:red;" * 60}fill:url(#a);x:{loads};y:url( \'#b\')"/>'

    assert shown(text) == text.replace(loads, f"{loads[0]} {loads[1:]}")
    assert shown(text.replace(loads, "z")) == text.replace(loads, "z")


@pytest.mark.parametrize("text", ["> <div\n> onclick=x>", "> <b\n>> onclick='x'>", "> a\nb <b\n> onclick='x'>"])
def test_the_sign_of_a_quotation_ends_no_tag(text: str) -> None:
    assert shown(text) == text.replace("<", "< ")


def test_readers_of_html_alone_take_every_tag_for_one() -> None:
    assert shown("<b;c\n\nonclick=x>", STRICT) == "< b;c\n\nonclick=x>"
    assert shown(f"<b;c {'d ' * 300}\n\nonclick=x>", STRICT) == f"<b;c {'d ' * 300}\n\no nclick=x>"
    assert shown("<b;c\n\nonclick=x>") == "<b;c\n\nonclick=x>"


def test_a_picture_whose_target_has_come_before_becomes_inert() -> None:
    assert shown("[a]: //x.test\n\n![A]") == "[a]: //x.test\n\n! [A]"
    assert shown("See [a]: //x.test\n\n![A]") == "See [a]: //x.test\n\n![A]"


@pytest.mark.parametrize(
    "text",
    [
        "[docs](https://anywhere.test/a?b=c#d), https://anywhere.test and <https://anywhere.test/x>",
        "![chart](chart.png) ![a](./a/b.png) ![c](/c.png) ![d](#d)",
        '<b>bold</b> <br/> <img src="chart.png" alt="x">',
        '<a href="https://anywhere.test">x</a> <a href="mailto:a@b.test">',
        "<answer>42</answer> <think>so</think> List<String> vector<std::string> #include <stdio.h>",
        "1 < 2, x <= y, <- and <3, a[i](x, y), {'a': [1], 'b': vec![1, 2]}",
        "f`x` and ``y`` and ~z~",
        "```html\n<script>x</script>\n![a](https://evil.test)\n```\n",
        "text\n\n~~~\n```\n<svg onload=x>\n~~~~  \nafter",
        "<write.to+me@example.test>",
        "the pattern (?<!\\.)x(?P<name>y)",
        "def names(self) -> Iterator[None]:\n    yield {'a': [1]}[x]: 2",
        "const A = 1<<iota; ch <-chan int; x = a<b;",
        "std::tuple<at::Tensor,at::Tensor> f(vector<T>); i<n;" + " i++" * 300,
        "<tool_call>\n{}\n</tool_call> <file_edit path='a.py' mode=w> <thinking>",
        "<Button onClick={() => go()} href='https://x.test'> <Link to={`/x`} onClick={this.go}>",
        '<svg viewBox="0 0 1 1" xmlns="http://www.w3.org/2000/svg"><path d="' + "M0 0l1 1 " * 200 + '"/></svg>',
        "<?xml version='1.0'?>\n<!-- a remark -->\n<a b='c'>\n</a>",
        "<!-- a remark -->\n\n```html\n<script>x</script>\n```\n",
        "<form><input name=a><select><option></select><textarea></textarea></form><title>x</title>",
        "[1]: https://x.test/a 'A note'\n\nSee [the note][1].",
        "![a](b.png)\n\n[c]: https://x.test",
        "table[all](\\d+) this[x]('https://x.test/') [x](fig:1) [y](C:\\z)",
        "![x](data:image/png;base64,AAAA)",
        "1. Write:\n   ```html\n   <script>x</script>\n\n   <iframe src=/x>\n   ```\n2. Save `<script>`.",
        "- Write:\n  ~~~\n  <script>x</script>\n  ~~~\n",
        "<div>\n<path d='M0 0",
        "one <b one=1 online=x ongoing>",
        "a ``` b\n```\n<script>\n```\n",
        "If a<b and c>d, then a<b || c>d is true.",
        "x<y, so it's less",
        "for (i=0; i<n; i++) x = y; // until i>=n",
        "Map<String, List<Integer>> m;",
        "<!DOCTYPE html> begins a page",
        '<!doctype html public "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">',
        "`<script>` loads a program, ``<iframe src=//x.test>`` a page; `![alt](https://x.test)` shows a picture.",
        "- **`<svg>`**, (`<style>`)\n- `<link>`\n\nand `onclick=` in `<b onclick=x>`",
    ],
)
def test_what_is_harmless_stays(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "```\ncode\n```\n<script>",
        "````\n```\n````\n<script>",
        "- ```\n```\n<script>\n",
        " ```\n```\n<script>\n",
        "<pre>\n\n```\n<script>\n```\n",
        "<div>\n```\n<script>\n```\n",
        "a\r```\r\n```\n<script>",
        "```x`\n```\n<script>\n",
        "```" + "x" * 80 + "\n```\n<script>\n",
        "```\r<script>\n",
        "```x | <script>\n|---|---|\n",
        "1. x\n   ```\n   y\n<script>\n   ```\n",
        "1. x\n   ```\n   y\n      ```\n   <script>\n   ```\n",
        "x\n    ```\n    <script>\n",
        "<!--\n```\n--> <script>\n",
        "<!A\n\n```\n> <script>\n",
        "<?x\n\n```\n?> <script>\n",
        "<![CDATA[\n\n```\n]]> <script>\n",
    ],
)
def test_code_is_only_what_every_reader_takes_for_code(text: str) -> None:
    assert "< script>" in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "\\`<script>`",
        "x`<script>`",
        "a ` b\n`<script>`",
        "`a\n<script>`",
        "`` a ` <script> `b`",
        "| `a | <script>` |",
        "[a](<b`>) `x` <script> `",
        "[a][b` c] `x` <script> `",
        "www.x.test/` `x` <script> `",
        "<i> `<script>`",
        "<!DOCTYPE html> `<script>`",
        "<div>\n`<script>`\n",
        "`" + "x" * 400 + "<script>`",
        "`a\r<script>`",
        "` <script>",
        '"***`<script>`',
    ],
)
def test_code_between_backticks_is_only_what_every_reader_takes_for_code(text: str) -> None:
    assert "< script>" in shown(text)


def test_code_between_backticks_is_made_inert_where_code_is_or_links_are() -> None:
    for rules in (Rules(LinkSettings(code="mask")), Rules(LinkSettings(links="mask"))):
        assert shown("use `<script>`", rules) == "use `< script>`"


def test_hosts_that_are_allowed_and_links_that_are_not() -> None:
    assert shown("![a](https://docs.example.com/a.png)", STRICT) == "![a](https://docs.example.com/a.png)"
    assert shown("![a](https://x.example.org:8443/a)", STRICT) == "![a](https://x.example.org:8443/a)"
    assert shown("![a](https://docs.example.com@evil.test/)", STRICT) == "![a] ([LINK])"
    assert shown("see https://evil.test/x?a=b, www.evil.test", STRICT) == "see [LINK], [LINK]"
    assert shown("[x](https://evil.test/a) <https://evil.test/b>", STRICT) == "[x] ([LINK]) <[LINK]>"
    assert shown("https://docs.example.com/?u=https://evil.test/", STRICT) == "https://docs.example.com/?u=[LINK]"
    assert shown("```\n<script>\n```\n", STRICT) == "```\n< script>\n```\n"


def test_everything_can_be_allowed() -> None:
    text = "![a](https://evil.test/x) <script>x</script> [x](javascript:y)"

    assert Guard(GuardSettings(links=LinkSettings(images="allow", html="allow"))).clean_text(text)[0] == text
    assert not OPEN.acts


def test_it_is_counted() -> None:
    text, report = Guard(GuardSettings()).clean_text("![a](https://evil.test/x) <script>")

    assert text == "![a] (https://evil.test/x) < script>"
    assert report.counts == {("image", "inert"): 1, ("active_html", "inert"): 1}


def test_arguments_of_tool_calls_are_not_shown_and_stay() -> None:
    text = '{"html": "<script>x</script>"}'

    assert Guard(GuardSettings()).clean_text(text, json=True)[0] == text


@pytest.mark.parametrize(
    ("address", "leads"),
    [
        *(
            ("", Destination.HERE),
            ("a/b:c", Destination.HERE),
            ("bild\u00e9.png", Destination.HERE),
            ("tel:1", Destination.HERE),
        ),
        *(
            ("https://a.test", Destination.ALLOWED),
            ("HTTPS://A.TEST./x", Destination.ALLOWED),
            ("https://b.test", Destination.ELSEWHERE),
        ),
        *(
            ("https:a.test", Destination.ELSEWHERE),
            ("//a.test", Destination.ELSEWHERE),
            ("file:///etc", Destination.SCRIPT),
        ),
        ("\x01javascript:x", Destination.SCRIPT),
    ],
)
def test_where_addresses_lead(address: str, leads: Destination) -> None:
    assert Hosts(["a.test"]).leads(address) is leads


PIECES = [
    *(
        "![",
        "](",
        "]:",
        "[r]",
        "https://",
        "//",
        "evil.test",
        "docs.example.com",
        "<",
        "<im",
        "g src",
        "=",
        ">",
        '"',
        "'",
    ),
    *(
        "script",
        "`",
        "```",
        "~~~",
        "\n",
        "\n\n",
        " ",
        "    ",
        "\r",
        "on",
        "load",
        "<pre>",
        "<b>",
        "<b; ",
        " `",
        "``",
        "|",
        "<!DOCTYPE html>",
        "][",
        "</",
        "!",
        "a",
        "www.",
    ),
    *("<!--", "-->", "<?", "?>", "<!A", "<div ", "   ```", "title='", "\n\n", "- ", "on=x", "y" * 600, "[r]: ", "![r]"),
    *("htt", "ps", ":", "javascript:", "x" * 300, " " * 40, "&#47;", "\\", "(", ")", "[", "]", "html\n"),
]


@pytest.mark.parametrize("rules", [DEFAULT, STRICT, OPEN], ids=["default", "strict", "open"])
def test_every_cutting_of_noise_gives_the_same_and_holds_little(rules: Rules) -> None:
    rng = random.Random(7)
    for _ in range(400):
        text = "".join(rng.choices(PIECES, k=rng.randint(1, 12)))
        whole = run(Markup(rules, GuardReport()), text, [])
        for places in (range(len(text)), sorted(rng.choices(range(len(text) + 1), k=4))):
            stage = Markup(rules, GuardReport())
            assert run(stage, text, places) == whole, (text, list(places))
        stage = Markup(rules, GuardReport())
        for char in text:
            stage.feed(char)
            assert stage.held <= MAX_MARKUP_HELD


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "a<b;c ",
        " `x",
        " `<b ",
        "![",
        "](",
        "```",
        "<a b='",
        "[a](https://",
        "`~",
        "<a a=1 ",
        "https://x",
        "\n```\n",
    ],
)
def test_time_is_linear(piece: str) -> None:
    def write(size: int) -> Callable[[], object]:
        text = piece * (size // len(piece))
        return lambda: run(Markup(STRICT, GuardReport()), text, [])

    assert_linear(write, 10_000)
