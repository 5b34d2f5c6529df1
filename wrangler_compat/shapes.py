"""The outer shape of keys that the relay itself does not read, so that it refuses no less than wrangler does.

Source: cloudflare/workers-sdk, packages/workers-utils/src/config/validation.ts, as of wrangler 4.164. Only what a
binding is called is looked at inside of lists.
"""

from __future__ import annotations

from collections.abc import Callable

from wrangler_compat.values import kind

Check = Callable[[object], str | None]
"""A value to what is wrong with it; None if nothing is."""

_BINDING_LISTS = """workflows kv_namespaces r2_buckets d1_databases vectorize hyperdrive services
    analytics_engine_datasets dispatch_namespaces mtls_certificates pipelines secrets_store_secrets""".split()
_OTHER_LISTS = """send_email ai_search ai_search_namespaces agent_memory artifacts flagship worker_loaders ratelimits
    vpc_services vpc_networks k2 unsafe_hello_world""".split()
_NAMED = "browser images stream media analytics version_metadata".split()
_BOOLEANS = """workers_dev preview_urls no_bundle minify keep_names first_party_worker logpush upload_source_maps
    find_additional_modules preserve_file_names""".split()
_STRINGS = "main base_dir tsconfig jsx_factory jsx_fragment".split()


def check_string(value: object) -> str | None:
    return None if isinstance(value, str) else f"must be a string, not {kind(value)}"


def _check_boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else f"must be a boolean, not {kind(value)}"


def _check_list(value: object) -> str | None:
    return None if isinstance(value, list) else f"must be a list, not {kind(value)}"


def _check_bindings(value: object) -> str | None:
    if isinstance(value, list):
        named = all(isinstance(item, dict) and isinstance(item.get("binding"), str) for item in value)
        return None if named else 'must be a list of objects, each with a string "binding"'
    return _check_list(value)


def _check_named(value: object) -> str | None:
    if isinstance(value, dict) and isinstance(value.get("binding"), str):
        return None
    return 'must be an object with a string "binding"'


def _check_object(value: object) -> str | None:
    return None if isinstance(value, dict) else f"must be an object, not {kind(value)}"


SHAPES: dict[str, Check] = {
    **dict.fromkeys(_BINDING_LISTS, _check_bindings),
    **dict.fromkeys(_OTHER_LISTS, _check_list),
    **dict.fromkeys(_NAMED, _check_named),
    **dict.fromkeys(_BOOLEANS, _check_boolean),
    **dict.fromkeys(_STRINGS, check_string),
    "unsafe": _check_object,
}
