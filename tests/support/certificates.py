"""Certificates and keys for settings that want files of them. They guard nothing; they were made for tests."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBhzCCAS2gAwIBAgIUDzACZOIc+EuaQLed5wmS4eVfwJ4wCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcmVsYXkuZXhhbXBsZTAgFw0yNjExMjAxMzMzMjJaGA8yMTI2
MTAyNzEzMzMyMlowGDEWMBQGA1UEAwwNcmVsYXkuZXhhbXBsZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABPooD5cAIUC0QAQrw69iujD2/jkpWPUgjYlomh4x4w5I
CZDtchWEbbZ365SU27ygOTdawwVnPWV9MtMR0qU/g1ejUzBRMB0GA1UdDgQWBBTP
GynTf0Lm9rJDzfNP2y8ObjhACjAfBgNVHSMEGDAWgBTPGynTf0Lm9rJDzfNP2y8O
bjhACjAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDBG+tdeubX
NBOgdCbjy6YE7GDI6Y6a4yxPcAxVlfNmoAIgZ/q8y7dk/TfYa5w26BxMvhK6P/ol
WPWsVM3eNqmTklM=
-----END CERTIFICATE-----
"""
"""Signed by its own key, for `relay.example`."""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtIkhX2tZvjlY/7sA
FA1agr0TVsZdWDMTVHH76kdVzEahRANCAAT6KA+XACFAtEAEK8OvYrow9v45KVj1
II2JaJoeMeMOSAmQ7XIVhG22d+uUlNu8oDk3WsMFZz1lfTLTEdKlP4NX
-----END PRIVATE KEY-----
"""

OTHER_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTRRYc/IXxuAA6PxB
H+wwvcf29t4vHvySl3yybLHFFcyhRANCAASOpdxEqqu8HKsOFp35ZMlHiJq5rxDc
eX9DZVozpYtKFW5So3w/kIfMEdFgXR3PABjPuHC18Uim5DVhqCHGa8Vk
-----END PRIVATE KEY-----
"""
"""Of the same kind as `KEY`, and not its certificate's."""

LOCKED_KEY = """\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,B1270ACBB13940CF2BFCA12F55EF99A8

SertZQPhCMiM0A4yvvTdl2a0U8cq1dNxpOUk+mOkGwOmwvl2VvzwkRe/KopSzR2U
dCvPxDX+0bzsRft7dBQYbboWvrxHDaZY+pWT1l/srPdPMrD05+hlU+9Cxvk2DXqh
0a+OdR50LZQMVUiBqRPGAQaNqVxvuZRnq2pTeWVkHPg=
-----END EC PRIVATE KEY-----
"""
"""`KEY` under a password."""


def write_pair(folder: Path, certificate: str = CERTIFICATE, key: str = KEY) -> dict[str, Any]:
    """The flags that name both files."""
    (folder / "cert.pem").write_text(certificate)
    (folder / "key.pem").write_text(key)
    return {"ssl_certfile": "cert.pem", "ssl_keyfile": "key.pem"}


def self_signed(folder: Path) -> Path:
    """A new certificate for 127.0.0.1 and localhost, with its key: `cert.pem`. Without it: `cert.crt` beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    path = folder / "cert.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    subprocess.run([openssl, *command.split(), names, "-keyout", path, "-out", path.with_suffix(".crt")], check=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
