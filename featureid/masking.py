"""Keep passwords, tokens and signatures out of keys, files, logs and messages.

A URI may hold what gives access to an image: ``https://user:password@host/a.jpg``, or a signature
such as ``?X-Amz-Signature=…``. Its bare form, which is the same every night although signatures
change, names the image without that. Nothing else is taken out, so that different images have
different bare URIs.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

#: What stands for a secret in a text that is not a URI.
MASK = "***"
#: Shorter values are not looked for in texts, in which they may stand for anything.
_SHORTEST = 4

_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
# A quotation mark ends a URI in a text only where the text goes on. Schemes are short, which also
# bounds what a long text costs.
_URI_IN_TEXT = re.compile(
    r"""[A-Za-z][A-Za-z0-9+.-]{0,30}://(?:[^\s"'<>]|'(?![\s,;:.)\]}]|$))*(?<![,;:.)\]}])"""
)
_WEB = frozenset(["http", "https"])
# Here the user is a part of the secret, and does not matter for what is named.
_LOGIN_IS_SECRET = _WEB | {"s3", "s3a", "gs", "gcs"}
# Here it is a repository, with a branch behind it.
_NO_LOGIN = frozenset(["git", "github"])
_LOGIN = r"(?P<user>[^/?#:]*)(?P<password>:[^/?#]*)?@(?=[^/?#@]*(?:[/?#]|$))"
_USER = re.compile(_LOGIN)
# Also with slashes in the password that are not percent-encoded: no port, and no ARN of S3.
_SECRET_USER = re.compile(rf"(?:{_LOGIN}|(?!arn:)[^/?#@:\[]+:(?!\d*[/?#])[^@]+@)+")

# What names end in. Not what they hold: `tokenId` names an image.
_WORDS = (
    "signature|secret|password|passwd|passphrase|credential|token|authorization|jwt"
    "|connection[-_]?string|(?:api|access|account|subscription|auth|shared|private)[-_]?key"
    "|access[-_]?key[-_]?id"
)
_SECRET_NAME = re.compile(rf"(?:{_WORDS})\Z", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    rf".*(?:{_WORDS})|sig|sas|pwd|auth|hmac|hdn(?:ts|ea|tl)", re.IGNORECASE
)
# Parameters of signatures: of Amazon, Google, Alibaba, Huawei, Baidu and Volcengine; of Tencent.
_OF_STORE = re.compile(r"x-(amz|goog|oss|obs|bce|tos)-|q-(sign-|ak$|key-time$|header-|url-param-)")
# Beside a signature: of CloudFront and Google, and of Azure.
_OF_SIGNATURE = frozenset(["googleaccessid", "keypairid", "policy"])
_OF_AZURE = re.compile(r"s[vspter]|srt|sip|spr|s(ko|kt|c|ao|uo)id|sk[tesv]|sdd|ses")
_EXPIRY = frozenset(["expires", "expire", "expiry", "expiration", "exp", "e", "deadline"])
_TIME = re.compile(r"\d{9,}|\d{4}-?\d\d-?\d\d(T.*)?")
_JWT = re.compile(r"eyJ[\w-]+\.")
_DIGEST = re.compile(r"sha256-[0-9a-f]{16}")
_PAIR = re.compile(
    rf"""(?P<name>(?:{_WORDS})['"]?\s*[:=]\s*(?:(?:Bearer|Basic)\s+)?b?['"]?)[^\s'",;&}}]+""",
    re.IGNORECASE,
)


def bare_uri(uri: str) -> str:
    """Return a URI without user and password, signature and its expiry; a path as it is.

    Of ``http`` and ``https``, parameters that give access are left out, by their names. A ``token``
    without an expiry may also be what names the image, and is replaced by a digest of it. Object
    stores have no parameters: there, ``?`` is a part of a name.
    """
    return _parted(uri)[0] if "://" in uri else uri


def masked(text: str) -> str:
    """Return a text with all URIs in it as :func:`bare_uri` returns them."""
    if "://" not in text:
        return text
    return _URI_IN_TEXT.sub(lambda found: bare_uri(found[0]), text)


def masked_values(value: Any) -> Any:
    """Return a value that JSON can express, with all texts in it :func:`masked`."""
    if isinstance(value, str):
        return masked(bare_uri(value))
    if isinstance(value, Mapping):
        return {name: masked_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(item) for item in value]
    return value


def masked_error(text: str, uri: str) -> str:
    """Return what a store's client says of a URI, without the secrets of that URI."""
    return masked(without_values(text, _parted(uri)[1]))


def masked_log(text: str) -> str:
    """Return what a library writes, masked, and without the values of secret names.

    Nor has it the values of this process's environment variables and options with such names.
    """
    known = [*secret_variables(os.environ), *secret_options(sys.argv)]
    return _PAIR.sub(rf"\g<name>{MASK}", without_values(masked(text), known))


def without_values(text: str, values: Iterable[str]) -> str:
    """Return a text without known secrets."""
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, MASK)
    return text


def is_secret_name(name: str) -> bool:
    """Return whether an option or a variable of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def secret_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the values of the environment variables that hold secrets."""
    return [value for name, value in environ.items() if is_secret_name(name)]


def secret_options(argv: Sequence[str]) -> Iterator[str]:
    """Yield the values of the options of a command line that hold secrets."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name.startswith("-") and is_secret_name(name):
            yield value if equals else following


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _parted(uri: str) -> tuple[str, list[str]]:
    """Return a bare URI, and the secrets that were in it."""
    found = _URI.fullmatch(uri)
    if found is None:
        return uri, []
    scheme, rest = found["scheme"].lower(), found["rest"]
    user, login, rest = _without_login(scheme, rest)
    secrets = [login.strip(":@"), *re.split("[:/@]", login)]  # Clients quote also parts of it.
    if scheme in _WEB:
        rest, values = _without_signature(rest)
        secrets += values
    return f"{found['scheme']}://{user}{rest}", [*secrets, *map(unquote, secrets)]


def _without_login(scheme: str, rest: str) -> tuple[str, str, str]:
    """Return what stays of the login of a URI, all of it, and what follows it."""
    if scheme in _NO_LOGIN:
        return "", "", rest
    secret = scheme in _LOGIN_IS_SECRET
    found = (_SECRET_USER if secret else _USER).match(rest)
    if found is None or not (secret or found["password"]):
        return "", "", rest
    return "" if secret else f"{found['user']}@", found[0], rest[found.end() :]


def _without_signature(rest: str) -> tuple[str, list[str]]:
    """Return the rest of a URI without the parameters that give access, and their values."""
    secrets: list[str] = []
    rest, hash_, fragment = rest.partition("#")
    path, mark, query = rest.partition("?")
    for before, text in ((mark, query), (hash_, fragment)):
        kept = [*_kept(text.split("&"), secrets)]
        path += before + "&".join(kept) if kept else ""
    return path, secrets


def _kept(parameters: list[str], secrets: list[str]) -> Iterator[str]:
    """Yield the parameters that stay, and add the values of the others to ``secrets``."""
    named = [_parameter(text) for text in parameters]
    plain = {_plain(name) for name, _ in named}
    signed = any(_SECRET_PARAMETER.fullmatch(name) for name, _ in named)
    expires = any(_is_expiry(name, value) for name, value in named)
    for text, (name, value) in zip(parameters, named, strict=True):
        if _plain(name) == "token" and not expires and not _JWT.match(value):
            if _DIGEST.fullmatch(value):
                yield text
            else:
                secrets.append(value)
                yield f"{name}=sha256-{hashlib.sha256(value.encode()).hexdigest()[:16]}"
        elif (
            _SECRET_PARAMETER.fullmatch(name)
            or _OF_STORE.match(name.lower())
            or (signed and (_plain(name) in _OF_SIGNATURE or _is_expiry(name, value)))
            or ({"sig", "sv"} <= plain and _OF_AZURE.fullmatch(name.lower()))
        ):
            secrets.append(value)
        else:
            yield text


def _is_expiry(name: str, value: str) -> bool:
    return _plain(name) in _EXPIRY and _TIME.match(value) is not None


def _parameter(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return unquote(name), unquote(value)
