"""TLS settings.

Certificates are always verified, including the host name, and no setting turns verification off.
"""

import ssl
from pathlib import Path

from scheduler.core.errors import ConfigurationError


def make_tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return the TLS settings for a target: at least TLS 1.2, HTTP/1.1.

    Without a ``ca_file``, the system's authorities at OpenSSL's default locations are trusted.
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` change these locations, as for any program. With a ``ca_file``,
    only the authorities in the file are trusted: a target with a private CA does not need the public
    authorities. Raise `ConfigurationError` when the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is an OSError
        is_readable = isinstance(error, ssl.SSLError)
        fault = "holds no certificate in PEM form" if is_readable else f"cannot be read: {error.strerror}"
        raise ConfigurationError(
            f"the ca_file {ca_file} {fault}; give the certificate of the authority that signed the API's"
        ) from None
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.set_alpn_protocols(["http/1.1"])
    return context
