"""Secrets and personal data in any kind of text, found by shape and, where there is one, by check digit.

Few false alarms matter more than finding everything: a reader who has seen ten that were none looks at no eleventh.
So placeholders of documentation (``EXAMPLE``, ``user@example.com``, 555-0100, published test cards) do not count.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple


class Hit(NamedTuple):
    """One secret or personal datum: the rule it breaks, its kind, and where it stands in the text."""

    rule: str
    kind: str
    start: int
    end: int


class _Shape(NamedTuple):
    kind: str
    needles: tuple[str, ...]  # one of them is in every match: a plain search rules most texts out, 50 times faster
    pattern: re.Pattern[str]  # the group "value" is the secret, where it is not the whole match


_TOKEN_END = r"(?![A-Za-z0-9_-])"
_SHAPES = (
    _Shape(
        "private key",
        ("PRIVATE KEY",),
        # Without a body of base64 it is only spoken of.
        re.compile(
            r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY(?: BLOCK)?-----"
            r"(?P<value>(?:\s|\\n|[\w-]+: [^\n]*\n)*[A-Za-z0-9+/=]{40,})"
        ),
    ),
    _Shape("AWS access key", ("AKIA", "ASIA"), re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])")),
    _Shape(
        "AWS secret key",
        ("aws_secret", "AWS_SECRET", "SecretAccessKey", "secretAccessKey"),
        re.compile(
            r"(?i:aws_?secret_?(?:access_?)?key|secretaccesskey)[\"']?\s*[:=]\s*[\"']?(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
        ),
    ),
    _Shape("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b")),
    _Shape("GitHub token", ("github_pat_",), re.compile(r"\bgithub_pat_[A-Za-z0-9_]{60,}\b")),
    _Shape("GitLab token", ("glpat-",), re.compile(r"\bglpat-[\w-]{20,}" + _TOKEN_END)),
    _Shape("Slack token", ("xox",), re.compile(r"\bxox[abeoprs]-(?:\d+-){1,3}[A-Za-z0-9-]{20,}" + _TOKEN_END)),
    _Shape(
        "Slack webhook",
        ("hooks.slack.com",),
        re.compile(r"hooks\.slack\.com/services/(?P<value>T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20,})"),
    ),
    # OpenAI, Anthropic, OpenRouter and those who spell theirs alike.
    _Shape("API key", ("sk-",), re.compile(r"(?<![\w-])sk-(?:[a-z0-9]+-)*[A-Za-z0-9_-]{32,}" + _TOKEN_END)),
    _Shape("Stripe key", ("_live_",), re.compile(r"\b[rs]k_live_[A-Za-z0-9]{20,}\b")),
    _Shape("Google API key", ("AIza",), re.compile(r"\bAIza[A-Za-z0-9_-]{35}" + _TOKEN_END)),
    _Shape("Hugging Face token", ("hf_",), re.compile(r"\bhf_[A-Za-z]{34}\b")),
    _Shape("npm token", ("npm_",), re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    _Shape("PyPI token", ("pypi-Ag",), re.compile(r"\bpypi-Ag[A-Za-z0-9_-]{50,}")),
    _Shape("SendGrid key", ("SG.",), re.compile(r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}" + _TOKEN_END)),
    _Shape(
        "JSON web token",
        ("eyJ",),
        re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}" + _TOKEN_END),
    ),
    _Shape(
        "password in a URL",
        ("://",),
        re.compile(r"://[^\s/:@\"'<>{}$*]{1,64}:(?P<value>[^\s/:@\"'<>{}$*%\[\]()]{6,64})@\w"),
    ),
)
_PLACEHOLDER = re.compile(
    r"(?i)example|sample|dummy|fake|placeholder|your|xxx|\.\.\.|0{6}|1{6}|12345|abcde|pass|secret|token|changeme|foobar"
)
# A password of a URL is guessable by its shape alone, so it has to look random; the others have a prefix.
_BITS_PER_CHARACTER = {"password in a URL": 2.5}

# Patterns that begin with a repeated class are slow to search for. So an address is looked for at its @, a number by
# its digits, and what must stand before is matched backwards: three times the speed.
_BEFORE_AT = re.compile(r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}$")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-]|\.\w)")
# RFC 2606 and what documentation uses beside it; and what follows an @ without being a domain.
_NO_DOMAIN = re.compile(
    r"(?i)(?:^|\.)(?:example|test|invalid|localhost|localdomain|local|internal|lan)(?:\.(?:com|org|net|edu|[a-z]{2}))?$"
    r"|^(?:foo|bar|baz|domain|host|hostname|server|mail|email|company|yourdomain|mydomain|somewhere|nowhere|xyz|abc"
    r"|acme|aaa|bbb|b|dom)\.(?:com|org|net|edu|io|tld|dom|ain)$"
    r"|^www\.|\bnoreply\."
    r"|\.(?:py|js|ts|md|txt|png|jpg|gif|svg|html|json|ya?ml|c|h|so|service|timer|socket|target|git)$"
)
# Addresses of an office, not of a person (RFC 2142), and names that stand for anyone's.
_NO_PERSON = re.compile(
    r"(?i)(?:git|hg|svn|no-?reply|do-?not-?reply|user(?:name)?|me|you|your\.?name|name|foo|bar|someone|test"
    r"|info|marketing|sales|support|help|abuse|noc|security|postmaster|hostmaster|usenet|news|webmaster|www|uucp|ftp"
    r"|contact|admin|office|mail|hello|team|privacy|legal|copyright|press|jobs|docs|majordomo|mailer-daemon"
    r"|.*[-_](?:announce|bugs?|dev|devel|discuss|list|owner|porters|request|sig|subscribe|team|users?))"
)

# One pass finds everything made of digits; what it is, is decided after.
_NUMBER = re.compile(r"[0-9][0-9 .()-]{5,}[0-9]")
_BEFORE_NUMBER = re.compile(r"(?<![\w.,/:=#&%@$+-])[+(]?$")
_AFTER_NUMBER = re.compile(r"[.,]?\w")
_IPV4 = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_CARD = re.compile(r"\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -])\d{6}\2\d{5}")
_ISSUER = re.compile(r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|6(?:011|5\d\d)\d{12}|35\d{14}")
# Numbers that payment services publish for trying things out.
_TEST_CARDS = {
    *("4111111111111111", "4242424242424242", "4012888888881881", "4000056655665556", "4222222222222"),
    *("5555555555554444", "5105105105105100", "2223003122003222", "5200828282828210", "4000000000000002"),
    *("378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "3530111333300000"),
    *("3566002020360505", "4532015112830366"),
}
_PHONE = re.compile(
    r"\+[1-9]\d{0,2}(?:[ .-]?\(?\d{2,5}\)?){1,6}"  # E.164, with the usual signs between
    r"|(?:\([2-9]\d{2}\) ?|[2-9]\d{2}-)[2-9]\d{2}-\d{4}"  # North America
)
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
# Lengths by country (SWIFT's IBAN registry): a random word is rarely as long as the country says.
_IBAN_LENGTH = {
    **{"AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "BR": 29, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18},
    **{"EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26},
    **{"IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25},
    **{"RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29},
}


def find_secrets(text: str) -> Iterator[Hit]:
    """Yield the secrets and personal data of a text, kind by kind."""
    ends = set()
    for shape in _SHAPES:
        if any(needle in text for needle in shape.needles):
            for match in shape.pattern.finditer(text):
                group = "value" if "value" in match.groupdict() else 0
                if _looks_real(match[group], shape.kind):
                    ends.add(match.end(group))
                    yield Hit("secret", shape.kind, *match.span(group))
    # The password of a URL and its host look like an address.
    yield from (hit for hit in _addresses(text) if text.index("@", hit.start) not in ends)
    yield from _numbers(text)
    for match in _IBAN.finditer(text):
        if _is_iban(match[0]) and not text[max(0, match.start() - 1) : match.start()].isalnum():
            yield Hit("personal-data", "bank account (IBAN)", *match.span())


def _addresses(text: str) -> Iterator[Hit]:
    at = text.find("@")
    while at >= 0:
        name, domain = _BEFORE_AT.search(text, max(0, at - 65), at), _DOMAIN.match(text, at + 1)
        if name and domain and _is_person(name[0]) and not _NO_DOMAIN.search(domain[0]):
            yield Hit("personal-data", "e-mail address", name.start(), domain.end())
        at = text.find("@", at + 1)


def _numbers(text: str) -> Iterator[Hit]:
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        if end - start > 24 or _AFTER_NUMBER.match(text, end):
            continue
        if sign := _BEFORE_NUMBER.search(text, max(0, start - 2), start):
            start = sign.start()
            if kind := _kind_of_number(text[start:end], text[max(0, start - 4) : start]):
                yield Hit("personal-data", kind, start, end)


def _looks_real(value: str, kind: str) -> bool:
    if kind == "private key":
        return True
    if _PLACEHOLDER.search(value.replace("-", "").replace("_", "")):
        return False
    return _entropy(value) >= _BITS_PER_CHARACTER.get(kind, 3.0)


def _entropy(value: str) -> float:
    """Return the Shannon entropy of a string's characters, in bits per character."""
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in Counter(value).values())


def _is_person(name: str) -> bool:
    # The ids of messages look like addresses; they are long, or numbers with letters between.
    digits = sum(map(str.isdigit, name))
    return len(name) <= 36 and (digits < 7 or digits == len(name)) and not _NO_PERSON.fullmatch(name)


def _kind_of_number(text: str, before: str) -> str | None:
    if _IPV4.fullmatch(text):
        return "IP address" if _is_public_ip(text) else None
    digits = re.sub(r"\D", "", text)
    if _CARD.fullmatch(text):
        real = _ISSUER.fullmatch(digits) and digits not in _TEST_CARDS and len(set(digits)) > 4
        return "card number" if real and _luhn(digits) else None
    if not 8 <= len(digits) <= 15 or len(set(digits)) <= 3 or "555-01" in text or not _PHONE.fullmatch(text):
        return None
    if text[1:] == digits:  # a sum looks like this too: the operand before it, or another length, tells
        return "phone number" if 11 <= len(digits) <= 13 and not before.rstrip()[-1:].isalnum() else None
    return "phone number"


def _is_public_ip(text: str) -> bool:
    octets = [int(part) for part in text.split(".")]
    # A version and the number of a section have small parts, a mask has 255, an invented address repeats itself.
    if max(octets) > 255 or sum(octet >= 20 for octet in octets) < 2 or octets[3] == 0:
        return False
    if octets.count(255) > 1 or len(set(octets)) < 3 or text in ("12.34.56.78", "123.45.67.89", "123.123.123.123"):
        return False
    address = ipaddress.IPv4Address(".".join(map(str, octets)))
    return address.is_global and not address.is_multicast


def _luhn(digits: str) -> bool:
    """Whether the check digit is right (Luhn's algorithm, ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether length and check digits are right (ISO 13616; ISO/IEC 7064, MOD 97-10)."""
    compact = text.replace(" ", "")
    if _IBAN_LENGTH.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1


def mask(value: str) -> str:
    """Return a value with its middle hidden: at most four characters at each end, a quarter of it in all."""
    shown = min(4, len(value) // 8)
    return f"{value[:shown]}…{value[len(value) - shown :]}" if shown else "…"


def redact(text: str) -> str:
    """Return a text with every secret and personal datum in it masked."""
    for hit in sorted(find_secrets(text), key=lambda hit: -hit.start):
        text = text[: hit.start] + mask(text[hit.start : hit.end]) + text[hit.end :]
    return text
