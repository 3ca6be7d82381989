"""E-mail addresses, and what code, packages and hosts write with an @."""

from __future__ import annotations

import pytest

from tests.serving.guard.detectors.cleaned import cleaned, marked

ADDRESSES = [
    "Write to «joe@example.com».",
    "«first.last+tag@sub.domain.co.uk»;",
    "<«joe@firma.de»>",
    "(«a@b.io»)",
    "«JOE@EXAMPLE.COM»",
    "mailto:«joe@x.de»?subject=a",
    "«joe@example.com» - call him",
    "«joe@example.com»:hunter",
    "«joe@example.com»[1] and «joe@example.com»(work)",
    "From: «joe@mail.brandname»",
    "<«joe@mail.brandname»>",
    "«12345@163.com»",
    "«josé@exämple.de»",
    "«иван@пример.рф»",
    "«user@xn--bcher-kva.xn--p1ai»",
    "«joe@host.local»",
    "«o'neil@mail.example.museum»",
    'email="«joe@example.org»"',
    "«anna@firma.to», «ben@firma.at»",
    "«joe@users.noreply.github.com»",
    "E<lt>«joe@example.org»E<gt>",
    "mail: «joe@example.org»E<gt>, L<mailto:«joe@example.org»>",
    "JOE «JOE@EXAMPLE.ORG»B<now> or «JOE@FIRMA.DE»<br>",
    r"\fB«joe@example.org»\fP or \f(BI«joe@example.org»",
    r"\033[31m«joe@example.org»\033[0m",
    "to=%3C«joe@example.org»%3E",
    "«10%joe@example.org»",
    "Write to «joe@example.org».Then call.",
    "An «joe@firma.de»...und dann",
    "«joe@example.org»1jane.doe and «joe@x.co.uk»2.Mary",
    "«joe@example.org»«1jane.doe@example.com»",
]

NOT_ADDRESSES = [
    "q@k.transpose(-2, -1)",
    "(q@k.mT).sum()",
    "y = a@b.mean(0)",
    "x@w.to(device)",
    "x@w.T + b",
    "x@self.net.weight + b",
    "x@self.net.0.bias",
    "a@b.id + c",
    "z = w@x.name",
    "attn@v.view(b, s)",
    "A@B.data[0]",
    "logits = h@W.unembed",
    "self.a@self.b.weight",
    "@app.route('/x')",
    "@pytest.mark.parametrize",
    "    @property.setter",
    "ssh://git@host.com/x",
    "ssh://deploy@build.example.com:22/x",
    "git+ssh://git@github.com/org/repo.git",
    "git@github.com:org/repo.git",
    "scp a.txt ann@host.example.com:/tmp",
    "rsync -a x ann@host.example.com:notes/a.txt",
    "deploy@prod.example.com:~/app",
    "pkg@v1.2",
    "react@18.2.0",
    "lodash@4.17.21-rc.x",
    "@scope/x@1.2.3",
    "uses: actions/checkout@v4.sh",
    "icon@2x.png",
    "user@1000.service",
    "getty@tty1.service",
    "memcpy@GLIBC_2.2.5",
    "image@sha256:0a1b2c",
    "dalius.do...@gmail.com",
    "user@localhost",
    "https://x.com/@joe.doe",
    "name@.com",
    "a @ b.com",
    "%s@%s.com",
    "A U. Thor <author@example.xz>",
    "address: newaddress@newdomain.tld",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses_are_masked(text: str) -> None:
    plain, masked = marked(text, "EMAIL_ADDRESS")

    assert cleaned(plain) == masked


@pytest.mark.parametrize("text", NOT_ADDRESSES)
def test_code_packages_and_hosts_stay(text: str) -> None:
    for framed in (text, f"see {text}\n", f"# a\n{text}\nb"):
        assert cleaned(framed) == framed
