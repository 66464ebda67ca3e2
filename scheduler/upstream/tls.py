"""Whom to trust: certificates are always verified, host name included, and nothing here can turn that off."""

import ssl
from pathlib import Path

from scheduler.core.errors import ConfigurationError


def make_tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """The TLS settings for a target: at least TLS 1.2, HTTP/1.1.

    Without a ``ca_file`` the system's authorities are trusted, from where OpenSSL looks for them; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``
    move that, as for any program. With one, only the authorities in it are: a target with a private CA has no use for the public ones.
    Raises `ConfigurationError` when the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        what = "holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise ConfigurationError(f"the ca_file {ca_file} {what}; give the certificate of the authority that signed the API's") from None
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.set_alpn_protocols(["http/1.1"])
    return context
