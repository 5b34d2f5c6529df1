"""The keys of a configuration and where each may stand.

Source: cloudflare/workers-sdk, packages/workers-utils/src/config, as of wrangler 4.164.
"""

from __future__ import annotations

# `name` is inherited with a suffix, all others as they are.
INHERITABLE = frozenset(
    """account_id compatibility_date compatibility_flags main base_dir rules route routes triggers assets limits
    placement build workers_dev preview_urls migrations exports logfwdr no_bundle minify keep_names first_party_worker
    find_additional_modules preserve_file_names jsx_factory jsx_fragment tsconfig logpush upload_source_maps
    observability access cache compliance_region python_modules previews""".split()
)
NOT_INHERITABLE = tuple(
    """vars secrets ai define services unsafe kv_namespaces r2_buckets d1_databases durable_objects workflows queues
    vectorize ai_search ai_search_namespaces websearch agent_memory hyperdrive browser images stream media send_email
    analytics analytics_engine_datasets dispatch_namespaces mtls_certificates tail_consumers streaming_tail_consumers
    pipelines k2 secrets_store_secrets artifacts flagship worker_loaders ratelimits vpc_services vpc_networks
    version_metadata containers cloudchamber connect unsafe_hello_world""".split()
)
TOP_LEVEL_ONLY = frozenset(
    """env $schema dev site alias wasm_modules text_blobs data_blobs send_metrics dependencies_instrumentation
    keep_vars addresses pages_build_output_dir
    configPath userConfigPath topLevelName definedEnvironments targetEnvironment""".split()
)
IN_ENVIRONMENT = frozenset({"name", *INHERITABLE, *NOT_INHERITABLE})
IN_DEV = frozenset(
    """ip port inspector_port inspector_ip local_protocol upstream_protocol host enable_containers container_engine
    generate_types""".split()
)
REMOVED = {
    "legacy_env": "is no longer supported; remove it (each environment is a Worker of its own, NAME-ENVIRONMENT)",
    "node_compat": 'is no longer supported; use the compatibility flag "nodejs_compat"',
}
