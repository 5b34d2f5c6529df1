"""The names under which a Worker finds its bindings, which share one name space.

Source: cloudflare/workers-sdk, packages/workers-utils/src/config, as of wrangler 4.164.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from wrangler_compat.values import Table

# Keys whose bindings share one name space in the Worker's `env`.
_BINDINGS = tuple(
    """data_blobs durable_objects kv_namespaces send_email queues d1_databases vectorize ai_search_namespaces ai_search
    websearch agent_memory hyperdrive r2_buckets logfwdr services analytics_engine_datasets text_blobs browser
    analytics ai images stream media version_metadata unsafe vars wasm_modules dispatch_namespaces mtls_certificates
    workflows pipelines k2 secrets_store_secrets artifacts ratelimits assets unsafe_hello_world flagship worker_loaders
    vpc_services vpc_networks""".split()
)


def required_secrets(secrets: object) -> list[str]:
    """The names that a checked value of `secrets` lists; `[]` for None."""
    required = secrets.get("required") if isinstance(secrets, dict) else None
    return required or []


def repeated_names(settings: Table) -> Iterator[tuple[str, list[str]]]:
    """Each name that more than one binding has, with the keys of these bindings."""
    uses = Counter((name, key) for key in _BINDINGS for name in _binding_names(key, settings.get(key)))
    uses.update((name, "secrets") for name in required_secrets(settings.get("secrets")))
    by_name: dict[str, list[str]] = {}
    for name, key in uses.elements():
        by_name.setdefault(name, []).append(key)
    yield from ((name, keys) for name, keys in by_name.items() if len(keys) > 1)


def _binding_names(key: str, value: object) -> Iterator[str]:
    """The names under which the bindings of one key appear, whichever of wrangler's forms the key has."""
    if key == "queues" and isinstance(value, dict):
        value = value.get("producers")
    if isinstance(value, list):
        names = [item.get("binding") if isinstance(item, dict) else None for item in value]
        # One entry of another kind, and wrangler leaves the whole list to the check of that key.
        if all(isinstance(name, str) for name in names):
            yield from (str(name) for name in names)
    elif isinstance(value, dict):
        listed = value.get("bindings")
        if key == "vars":
            yield from value
        elif isinstance(listed, list) and all(
            isinstance(item, dict) and isinstance(item.get("name"), str) for item in listed
        ):
            yield from (str(item["name"]) for item in listed)
        elif isinstance(value.get("binding"), str):
            yield value["binding"]
        else:
            yield from value
