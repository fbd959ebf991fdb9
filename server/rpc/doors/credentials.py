"""Prove a port of grpcio by TLS, with what is current at each new connection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True, slots=True)
class Proof:
    """What a port with TLS proves itself with, PEM; with `client_ca` clients must do so too."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None


def credentials(current: Callable[[], Proof]) -> grpc.ServerCredentials:
    """Credentials that are those of `current` at each new connection; whether clients are asked is settled at first.

    For one port alone: what a port has been told, another one has not.
    """
    told = current()

    def configuration(proof: Proof) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(proof.key, proof.certificate)], proof.client_ca)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # Called by the core's threads for every connection; None keeps what it has.
        nonlocal told
        proof = current()
        if proof == told:
            return None
        told = proof
        return configuration(proof)

    # The stubs do not know that None keeps the configuration, as the library has it.
    fetcher: Any = fetch
    return grpc.dynamic_ssl_server_credentials(configuration(told), fetcher, told.client_ca is not None)
