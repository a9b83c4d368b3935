"""What a client's certificate says of its holder, and what it may be used for. Whether it is true is TLS's to check."""

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from inferbridge.auth.identity import ClientCertificate


def read_certificate(certificate: x509.Certificate) -> ClientCertificate:
    """The names in it. ValueError when they are not what X.509 allows."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    common_names = _subject(certificate, NameOID.COMMON_NAME)
    return ClientCertificate(
        common_name=common_names[-1] if common_names else "",  # the last is the most specific
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        emails=tuple(names.get_values_for_type(x509.RFC822Name)),
        organizations=_subject(certificate, NameOID.ORGANIZATION_NAME),
        serial=f"{certificate.serial_number:x}",
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def is_for_clients(certificate: x509.Certificate) -> bool:
    """Whether its extended key usage names client authentication. ValueError for extensions that cannot be read.

    OpenSSL refuses a usage that leaves clients out but lets one pass that is not there (RFC 5280: good for anything).
    A certificate that nobody meant for clients is then a credential, so here it has to be said.
    """
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages


def _subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]
    return tuple(value for value in values if isinstance(value, str))
